package command_test

import (
	"slices"
	"testing"
	"time"

	"github.com/reshelf/reshelf/producer/internal/command"
	"github.com/reshelf/reshelf/shared/batch"
)

func TestNewID(t *testing.T) {
	var ids []batch.ID
	start := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	for i := range 1000 {
		ids = append(ids, command.NewID(start.Add(time.Duration(i)*time.Millisecond)))
		if _, err := batch.ParseID(string(ids[i])); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by time")
	}
	if a, b := command.NewID(start), command.NewID(start); a == b || a[:10] != b[:10] {
		t.Errorf("of one millisecond: got %s and %s, want equal beginnings and other ends", a, b)
	}
	// The example of https://github.com/ulid/spec: 01ARZ3NDEK begins ids of that millisecond.
	if got, want := command.NewID(time.UnixMilli(1469922850259))[:10], batch.ID("01arz3ndek"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/home/ada/led": "/home/ada/led", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "ä": "'ä'",
	} {
		if got := command.Quote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		`a\u{1b}b`: `a\u{1b}b`, "a\x1b\u202eb": `a\u{1b}\u{202e}b`, "caf\xe9": `caf\xe9`, "日本 \ufffd": "日本 \ufffd",
	} {
		if got := command.Printable(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}
