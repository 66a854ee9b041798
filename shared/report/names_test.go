package report_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/report"
)

// names writes entries as a file.
func names(t interface{ Fatal(...any) }, entries [][]byte) []byte {
	slices.SortFunc(entries, bytes.Compare)
	var buf bytes.Buffer
	w, err := report.NewNameWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// reading reads a file in memory and counts the reads.
func reading(raw []byte, reads *int) func(context.Context, int64, int64) ([]byte, error) {
	return func(_ context.Context, offset, n int64) ([]byte, error) {
		*reads++
		offset = min(offset, int64(len(raw)))
		return raw[offset:min(int64(len(raw)), offset+n)], nil
	}
}

func TestFindName(t *testing.T) {
	var entries [][]byte
	for i := range 300_000 {
		entries = append(entries, report.NameEntryOf(archive.Key(fmt.Sprintf("n/%06d", i)), i/1000))
	}
	// One name in many segments, more than are read at once.
	var many []int
	for i := range 5000 {
		many = append(many, i)
		entries = append(entries, report.NameEntryOf("many", i), report.NameEntryOf("many", i))
	}
	raw := names(t, entries)
	for _, i := range []int{0, 1, 999, 1000, 123_456, 299_999} {
		reads := 0
		got, err := report.FindName(t.Context(), int64(len(raw)), reading(raw, &reads), archive.Key(fmt.Sprintf("n/%06d", i)))
		if err != nil || !slices.Equal(got, []int{i / 1000}) {
			t.Errorf("name %d: got %v, %v; want segment %d", i, got, err, i/1000)
		}
		if reads > 20 {
			t.Errorf("name %d: %d reads, want a few", i, reads)
		}
	}
	reads := 0
	got, err := report.FindName(t.Context(), int64(len(raw)), reading(raw, &reads), "many")
	if diff := cmp.Diff(many, got); err != nil || diff != "" {
		t.Errorf("a name in many segments: %v (-want +got):\n%s", err, diff)
	}
	if got, err := report.FindName(t.Context(), int64(len(raw)), reading(raw, &reads), "none"); err != nil || got != nil {
		t.Errorf("a name that is not there: got %v, %v", got, err)
	}
}

// TestFindNameAnywhere: whatever hashes there are, what is there is found and nothing else is.
func TestFindNameAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		segments := map[archive.Key][]int{}
		var entries [][]byte
		distinct := rapid.IntRange(1, 300).Draw(t, "names")
		for i := range rapid.IntRange(0, 7000).Draw(t, "entries") {
			key := archive.Key(fmt.Sprint("k", i%distinct))
			entries, segments[key] = append(entries, report.NameEntryOf(key, i)), append(segments[key], i)
		}
		raw := names(t, entries)
		reads := 0
		for i := range distinct + 10 {
			key := archive.Key(fmt.Sprint("k", i))
			got, err := report.FindName(context.Background(), int64(len(raw)), reading(raw, &reads), key)
			if err != nil || !slices.Equal(got, segments[key]) {
				t.Fatalf("%s: got %v, %v; want %v", key, got, err, segments[key])
			}
		}
	})
}

// TestNamesAreFrozen: a difference means that the names of finished batches cannot be looked up any more.
func TestNamesAreFrozen(t *testing.T) {
	raw := names(t, [][]byte{report.NameEntryOf("a.jpg", 258)})
	const want = "5253484e414d455300000001" + "509b0d4641a7c3ba" + "00000102"
	if got := hex.EncodeToString(raw); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFindNameRefuses(t *testing.T) {
	good := names(t, [][]byte{report.NameEntryOf("a.jpg", 1)})
	later := bytes.Clone(good)
	later[11] = 2
	for name, raw := range map[string][]byte{"empty": nil, "another file": bytes.Repeat([]byte("x"), 24), "cut off": good[:20], "a later version": later} {
		reads := 0
		if _, err := report.FindName(t.Context(), int64(len(raw)), reading(raw, &reads), "a.jpg"); !errors.Is(err, report.ErrNames) {
			t.Errorf("%s: got %v, want %v", name, err, report.ErrNames)
		}
	}
	reads := 0
	if _, err := report.FindName(t.Context(), int64(len(good))+report.NameEntry, reading(good, &reads), "b.jpg"); err != nil && !errors.Is(err, report.ErrNames) {
		t.Errorf("shorter than its size: %v", err)
	}
}
