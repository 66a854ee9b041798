package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// What is measured. Each contender gives one or several of these, in seconds.
const (
	limitName    = "renameat2"
	wholeName    = "reshelf-whole"
	applyName    = "reshelf-apply"
	stepName     = "reshelf-step"
	exiftoolName = "exiftool"
)

// measured is one row of the table.
type measured struct{ name, label string }

func rows() []measured {
	return []measured{
		{limitName, "`renameat2`, one thread, one fsync of each folder for each 1,000 files"},
		{stepName, "Reshelf: the rename step"},
		{applyName, "Reshelf: `apply`, from the start of the process to the written report"},
		{wholeName, "Reshelf: `rename` and `apply`: reading all tags, planning, renaming, the report"},
		{exiftoolName, "ExifTool: `-filename<CreateDate`, which makes nothing durable"},
	}
}

// contender renames all pictures below dir. scratch is on the same file system. It returns what it took by the names of rows.
type contender func(ctx context.Context, o options, dir, scratch string, all []picture) (map[string]float64, error)

func contenders() []contender { return []contender{limit, reshelf, exiftool} }

// perSegment is how many renames Reshelf makes durable at once: those of a segment.
const perSegment = 1000

// limit is what the system calls take that Reshelf needs, too, and nothing else.
func limit(_ context.Context, _ options, dir, _ string, all []picture) (map[string]float64, error) {
	start := time.Now()
	for segment := range slices.Chunk(all, perSegment) {
		var targets, sources []string
		for _, p := range segment {
			from, to := filepath.Join(dir, p.from), filepath.Join(dir, p.to)
			if last := filepath.Dir(to); len(targets) == 0 || targets[len(targets)-1] != last {
				if err := os.MkdirAll(last, 0o755); err != nil {
					return nil, err
				}
				// A new folder lasts when the one above it is synced.
				targets, sources = append(targets, filepath.Dir(last), last), append(sources, filepath.Dir(from))
			}
			if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
				return nil, err
			}
		}
		for _, folder := range append(targets, sources...) {
			if err := syncFolder(folder); err != nil {
				return nil, err
			}
		}
	}
	return map[string]float64{limitName: time.Since(start).Seconds()}, nil
}

func syncFolder(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

const template = "{date(CreateDate):%Y/%m/%d/%H%M%S}{ext}"

func reshelf(ctx context.Context, o options, dir, scratch string, _ []picture) (map[string]float64, error) {
	ledger := filepath.Join(scratch, "ledger")
	program := filepath.Join(o.bin, "reshelf")
	const awaiting = 3
	plan, err := timed(ctx, dir, awaiting, program, "rename", dir, template, "--ledger", ledger)
	if err != nil {
		return nil, err
	}
	apply, err := timed(ctx, dir, 0, program, "apply", "last", "--ledger", ledger)
	if err != nil {
		return nil, err
	}
	step, err := stepOf(ledger)
	return map[string]float64{wholeName: (plan + apply).Seconds(), applyName: apply.Seconds(), stepName: step.Seconds()}, err
}

// stepOf is how long the only batch of a ledger took to rename, by its events.
func stepOf(ledger string) (time.Duration, error) {
	names, err := filepath.Glob(filepath.Join(ledger, "batches", "*", "events", "*"))
	if err != nil {
		return 0, err
	}
	at := map[string]time.Time{}
	for _, name := range names {
		var e struct {
			Kind, To string
			At       time.Time
		}
		raw, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(raw, &e)
		}
		if err != nil {
			return 0, err
		}
		at[e.Kind+e.To] = e.At
	}
	from, to := at["approve"], at["advancefinishing"]
	if from.IsZero() || to.IsZero() {
		return 0, fmt.Errorf("%s: no batch that renamed", ledger)
	}
	return to.Sub(from), nil
}

func exiftool(ctx context.Context, o options, dir, _ string, _ []picture) (map[string]float64, error) {
	took, err := timed(ctx, dir, 0, o.exiftool, "-q", "-r", "-d", "%Y/%m/%d/%H%M%S.%%e", "-filename<CreateDate", "in")
	return map[string]float64{exiftoolName: took.Seconds()}, err
}

// timed runs a program, which has to end with a code.
func timed(ctx context.Context, dir string, code int, argv ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == code {
		err = nil
	}
	if err == nil && cmd.ProcessState.ExitCode() != code {
		err = errors.New("it ended too well")
	}
	if err != nil {
		return 0, fmt.Errorf("%v: %w: %.2000s", argv, err, out.Bytes())
	}
	return took, nil
}
