package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output string
	Key, Value                                string // of an attribute
}

// suite and probes are the tests that are read.
const (
	suite  = "TestConformance"
	probes = "TestCapabilities"
)

// results are what the tests said.
type results struct {
	tests  []test            // in the order in which they began
	probed map[string]string // by server: its capabilities, in JSON
	wrong  []string          // packages and tests that failed
}

// test is one test of the suites, with subtests or without.
type test struct {
	pkg     string   // last part of the package's path
	names   []string // of the tests that it is part of, and its own, without the first
	outcome string   // pass, fail or skip
}

// read reads the output of go test -json. What was printed by a build or a test that failed goes to progress.
func read(in io.Reader, progress io.Writer) (*results, error) {
	r := &results{probed: map[string]string{}}
	at, printed := map[string]int{}, map[string]string{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("not a line of go test -json: %.200q", lines.Text())
		}
		id := e.Package + e.ImportPath + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			printed[id] += e.Output
		case "run":
			if first, rest, ok := strings.Cut(e.Test, "/"); ok && first == suite {
				at[id] = len(r.tests)
				r.tests = append(r.tests, test{path.Base(e.Package), strings.Split(rest, "/"), "fail"}) // unless it comes to its end
			}
		case "attr":
			if first, server, _ := strings.Cut(e.Test, "/"); first == probes && e.Key == "capabilities" {
				r.probed[server] = e.Value
			}
		case "pass", "fail", "skip", "build-fail":
			if i, ok := at[id]; ok {
				r.tests[i].outcome = e.Action
			}
			if strings.HasSuffix(e.Action, "fail") {
				fmt.Fprint(progress, printed[id])
				r.wrong = append(r.wrong, strings.TrimSpace(id))
			}
			delete(printed, id)
			if e.Test == "" {
				fmt.Fprintln(progress, e.Action, e.Package)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(r.tests) == 0 {
		return nil, errors.Join(errors.New("no conformance suite ran"), r.failed())
	}
	return r, nil
}

// failed is an error if anything failed.
func (r *results) failed() error {
	if len(r.wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%d failed:\n  %s", len(r.wrong), strings.Join(r.wrong, "\n  "))
}
