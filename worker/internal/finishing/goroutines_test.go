package finishing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// full is a store that takes only so many bytes of the files of one kind.
type full struct {
	store.Store
	suffix string
	bytes  int64
}

var errFull = errors.New("full")

func (s full) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if strings.HasSuffix(string(key), s.suffix) {
		if n, err := io.CopyN(io.Discard, body, s.bytes); err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
		return errFull
	}
	return s.Store.Create(ctx, key, body)
}

// TestFull fails one form of the records while both are being encoded.
func TestFull(t *testing.T) {
	for _, suffix := range []string{".parquet", ".jsonl.zst"} {
		t.Run(suffix, func(t *testing.T) {
			f := fatRecords(t, 8, 32) // more than what waits in buffers
			if err := f.finishOn(ledger.New(full{f.led.Store(), suffix, 10}), &hold{}); !errors.Is(err, errFull) {
				t.Errorf("got %v, want %v", err, errFull)
			}
			f.nothingLeft()
		})
	}
}

// explosive is a store whose nth opening of a part panics.
type explosive struct {
	store.Store
	left *int
}

func (s explosive) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	if strings.Contains(string(key), "/records/inspect/") {
		if *s.left--; *s.left == 0 {
			panic("boom")
		}
	}
	return s.Store.Open(ctx, key, offset, length, want)
}

// TestPanic has a panic in the goroutine that reads ahead, and one in the caller's. Either can be caught by the caller, with
// all goroutines ended and nothing left of the report.
func TestPanic(t *testing.T) {
	caught := func(t *testing.T, f *fixture, finish func() error, where string) {
		t.Helper()
		defer func() {
			if said := fmt.Sprint(recover()); !strings.Contains(said, "boom") || !strings.Contains(said, where) {
				t.Errorf("recovered %s, want boom and %s", said, where)
			}
			f.nothingLeft()
		}()
		t.Errorf("Finish = %v, want a panic", finish())
	}
	t.Run("ahead", func(t *testing.T) {
		f, _ := manyRecords(t, 8, 200)
		left := 5
		caught(t, f, func() error { return f.finishOn(ledger.New(explosive{f.led.Store(), &left}), &hold{}) }, "explosive")
	})
	t.Run("caller", func(t *testing.T) {
		f, _ := manyRecords(t, 8, 200)
		caught(t, f, func() error { return f.finishOn(f.led, &noisy{}) }, "noisy")
	})
}

// noisy is a claim that panics after so much progress.
type noisy struct{ hold }

func (h *noisy) Advance(objects, bytes int64) {
	h.hold.Advance(objects, bytes)
	if h.advanced > 4000 {
		panic("boom")
	}
}
