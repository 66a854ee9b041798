package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// sameFlags are those of Reshelf's level normal.
var sameFlags = []string{"-j", "-G1", "-struct", "-api", "LargeFileSupport=1"}

// contender is one way to read metadata.
type contender struct {
	name  string
	label string // in the table
	note  string // what is not the same as in the others
	argv  []string
	stdin string // a file
	env   []string
	files int
	// answers counts the files that were answered for, from the output and what is in the folder in which it ran.
	answers func(output []byte, dir string) (int, error)
}

// limitName is the contender that the others are compared with.
const limitName = "limit"

const contendCommand = "contend"

func contenderNames() []string {
	return []string{"each", "recursive", "xargs", "bare", "vendored", "vendored-same", limitName, "reshelf", "fleet"}
}

// prepare returns the contenders that are asked for and there.
func prepare(o options, dir string, set fileSet) ([]contender, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program, err := exec.LookPath(o.exiftool)
	if err != nil {
		return nil, err
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	contend := func(args ...string) []string { return append([]string{self, contendCommand}, args...) }
	p := strconv.Itoa(o.processes)
	reshelfFlags := []string{"--digests", "none", "--metadata", "normal", "--all", "--json", "--exiftool", program}
	all := []contender{
		{
			name: "each", label: "a process for each file", note: fmt.Sprintf("%s at once; every %d. file", p, set.count/max(1, set.sampleCount)),
			argv: contend("each", program, set.sample, p), files: set.sampleCount, answers: printed,
		}, {
			name: "recursive", label: "`exiftool -r -j`", note: "1 process; `-ext '*'`, or it leaves files out",
			argv: contend("recursive", program, set.dir), files: set.count, answers: inFiles,
		}, {
			name: "xargs", label: "`xargs -P" + p + " -n50 exiftool -j`", note: p + " at once",
			argv:  append([]string{"xargs", "-P" + p, "-n50", "sh", "-c", `"$0" "$@" >$$.json || [ $? -eq 1 ]`, program, "-config", ""}, sameFlags...),
			stdin: set.list, files: set.count, answers: inFiles,
		}, {
			name: "bare", label: "go-exiftool, bare", note: p + " instances; cannot be told `-struct`",
			argv: contend("bare", program, set.list, p), files: set.count, answers: printed,
		}, {
			name: "vendored", label: "exiftool-vendored, its defaults", note: fmt.Sprintf("%d process; ExifTool 13.59, its own; `-fast`, MWG, no groups", max(1, runtime.NumCPU()/4)),
			argv: []string{"node", filepath.Join(dir, "read.mjs"), "defaults"}, stdin: set.list, files: set.count, answers: printed,
		}, {
			name: "vendored-same", label: "exiftool-vendored, same ExifTool and flags", note: p + " processes; `readRaw`",
			argv:  append([]string{"node", filepath.Join(dir, "read.mjs"), "same", program, p}, sameFlags[1:]...),
			stdin: set.list, files: set.count, answers: printed,
		}, {
			name: limitName, label: "the limit: `-stay_open`, by hand", note: p + " processes",
			argv: contend("limit", program, set.list, p), files: set.count, answers: printed,
		}, {
			name: "reshelf", label: "**Reshelf**, `reshelf inspect`", note: "end to end: listed, queued, recorded, reported",
			argv:  append([]string{filepath.Join(bin, "reshelf"), "inspect", set.dir, "--ledger", "ledger", "--slots", p}, reshelfFlags...),
			files: set.count, answers: inspected,
		}, {
			name: "fleet", label: "**Reshelf**, Redis and a worker", note: "the same, and their start and end",
			argv:  contend(append([]string{"fleet", bin, set.dir, p}, reshelfFlags...)...),
			files: set.count, answers: inspected,
		},
	}
	if o.modules == "" {
		all = without(all, "vendored", "vendored-same")
	} else if err := useVendored(o.modules, dir, all); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		all = without(all, "fleet")
	}
	if o.only != "" {
		asked := strings.Split(o.only, ",")
		var rest []string
		for _, name := range contenderNames() {
			if !containsName(asked, name) {
				rest = append(rest, name)
			}
		}
		all = without(all, rest...)
	}
	if len(all) == 0 {
		return nil, errors.New("no contender is left")
	}
	return all, nil
}

func useVendored(modules, dir string, all []contender) error {
	script, err := vendored.ReadFile("vendored/read.mjs")
	if err != nil {
		return err
	}
	for i := range all {
		all[i].env = append(all[i].env, "BENCH_MODULES="+modules)
	}
	return os.WriteFile(filepath.Join(dir, "read.mjs"), script, 0o600)
}

func containsName(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

func without(all []contender, names ...string) (out []contender) {
	for _, c := range all {
		if !containsName(names, c.name) {
			out = append(out, c)
		}
	}
	return out
}

// printed is for contenders that print how many answers they had.
func printed(output []byte, _ string) (int, error) {
	return strconv.Atoi(string(bytes.TrimSpace(output)))
}

// inFiles is for contenders that wrote ExifTool's output to files.
func inFiles(_ []byte, dir string) (n int, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		var files []struct{ SourceFile string }
		if err := json.Unmarshal(text, &files); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		n += len(files)
	}
	return n, nil
}

// inspected is for Reshelf: the objects that ExifTool answered for, after which the report must have a record of each.
func inspected(output []byte, _ string) (int, error) {
	var result struct {
		Summary struct {
			State  string
			Counts struct{ Done int }
			Failed map[string]int
			Files  []struct {
				Name string
				Rows int
			}
		}
	}
	if err := json.Unmarshal(output, &result); err != nil {
		return 0, err
	}
	s := result.Summary
	answered, records := s.Counts.Done+s.Failed["format"], 0
	for _, f := range s.Files {
		if strings.HasPrefix(f.Name, "records-") {
			records += f.Rows
		}
	}
	if s.State != "complete" || records != answered {
		return 0, fmt.Errorf("%s with %d answers in %d records", s.State, answered, records)
	}
	return answered, nil
}
