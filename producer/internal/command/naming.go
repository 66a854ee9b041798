package command

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/text/unicode/norm"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/naming"
)

// namingFlags say how names are made, besides the template.
type namingFlags struct {
	profile, timezone string
	groups            string
	shifts, maps      []string
	ignoreSidecars    bool
}

func (n *namingFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&n.profile, "profile", string(naming.Portable), fmt.Sprintf("make names by these `RULES`: one of %v", naming.Profiles()))
	f.StringVar(&n.timezone, "timezone", "", "the cameras were in this time `ZONE`: Europe/Athens or +03:00")
	f.StringArrayVar(&n.shifts, "clock-shift", nil, "correct a camera's clock by `CAMERA=SHIFT`, such as 'Canon EOS R5=+1h2m'; may be repeated")
	f.StringArrayVar(&n.maps, "map", nil, "give the filter map its map from a CSV file of two columns: `NAME=FILE`; may be repeated")
	f.BoolVar(&n.ignoreSidecars, "ignore-sidecars", false, "make names as if there were no XMP sidecars; they still move with their objects")
	addGroups(cmd, &n.groups)
	completeWith(cmd, "profile", naming.Profiles())
}

// options reads the files that the flags name: what is in them travels in the batch.
func (n *namingFlags) options(cmd *cobra.Command, template string) (batch.RenameOptions, error) {
	o := batch.RenameOptions{Template: template, IgnoreSidecars: n.ignoreSidecars}
	profile, err := choice(cmd, "profile", n.profile, naming.Profiles())
	if err != nil {
		return o, err
	}
	if profile != naming.Portable {
		o.Profile = profile
	}
	o.TimeZone = n.timezone
	rules, _, err := readGroups(cmd, n.groups)
	if err != nil {
		return o, err
	}
	o.Groups = &rules
	for _, text := range n.shifts {
		s, err := naming.ParseShift(text)
		if err != nil {
			return o, usageError{err, cmd.CommandPath()}
		}
		o.Shifts = append(o.Shifts, s)
	}
	for _, text := range n.maps {
		name, file, ok := strings.Cut(text, "=")
		if !ok || file == "" {
			return o, badUsage(cmd, "--map %q: want NAME=FILE", text)
		}
		if _, twice := o.Maps[name]; twice {
			return o, badUsage(cmd, "--map %q: there are two maps of that name", text)
		}
		m, err := readMap(file)
		if err != nil {
			return o, usageError{fmt.Errorf("--map %s: %w", name, err), cmd.CommandPath()}
		}
		if o.Maps == nil {
			o.Maps = map[string]naming.Map{}
		}
		o.Maps[name] = m
	}
	return o, nil
}

// maxOptionFile bounds the files that are read into a batch, in bytes; what a batch may hold is less.
const maxOptionFile = 1 << 20

// readOptionFile reads a file that travels in the batch.
func readOptionFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxOptionFile+1))
	if err == nil && len(raw) > maxOptionFile {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxOptionFile)
	}
	return raw, err
}

func readMap(name string) (naming.Map, error) {
	raw, err := readOptionFile(name)
	if err != nil {
		return nil, err
	}
	rows := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\ufeff"))))
	rows.FieldsPerRecord = 2
	m := naming.Map{}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		from := norm.NFC.String(strings.TrimSpace(row[0]))
		if _, twice := m[from]; twice {
			line, _ := rows.FieldPos(0)
			return nil, fmt.Errorf("%s, line %d: %q stands there twice", name, line, from)
		}
		m[from] = row[1]
	}
}
