// Matrix writes the tables of docs/stores.md from what the conformance suites of all stores said:
//
//	go test -json -run 'TestConformance|TestCapabilities' ./shared/store/... | go run ./.ci/matrix docs/stores.md
//
// Columns and rows come from the names of the tests: TestConformance/SERVER/KIND/GROUP/TEST, where SERVER and KIND may be
// missing. It fails where a test failed, after it has written that.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "matrix: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, progress io.Writer) error {
	if len(args) != 1 {
		return errors.New("want the path of docs/stores.md, and the output of go test -json on standard input")
	}
	r, err := read(in, progress)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	for name, table := range map[string]func() (string, error){"conformance": r.conformance, "capabilities": r.capabilities} {
		made, err := table()
		if err != nil {
			return err
		}
		if text, err = between(text, name, made); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
	}
	if err := os.WriteFile(args[0], text, 0o644); err != nil { //nolint:gosec // a page of documentation
		return err
	}
	return r.failed()
}

// between puts a table between its two markers.
func between(text []byte, name, table string) ([]byte, error) {
	begin, end := []byte("<!-- "+name+": written by make stores -->\n"), []byte("<!-- end of "+name+" -->")
	before, rest, ok := bytes.Cut(text, begin)
	_, after, closed := bytes.Cut(rest, end)
	if !ok || !closed {
		return nil, fmt.Errorf("it does not have the lines %q and %q", bytes.TrimSpace(begin), end)
	}
	return bytes.Join([][]byte{before, begin, []byte(table), end, after}, nil), nil
}
