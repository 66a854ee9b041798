package report_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/report"
)

const id = batch.ID("01hxyzabcdefghjkmnpqrstvwx")

func fullSummary(t testing.TB) report.Summary {
	root, err := archive.FileRoot("/mnt/photos & more")
	check(t, err)
	submitted := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return report.Summary{
		V: report.SummaryVersion, Batch: id, Kind: batch.Rename, Archive: root, Name: "spring \x1b[31m", Undoes: "",
		State: batch.Cancelled, Reason: "wrong template",
		Submitted: submitted, Finished: submitted.Add(2 * time.Hour), WorkingSeconds: 4000, InspectingSeconds: 1234.5,
		Listed: 1_234_567, ListedBytes: 5 << 40, Excluded: 17, ListingIncomplete: true,
		Counts:    batch.Counts{Done: 1_200_000, Skipped: 34_500, Failed: 67, Bytes: 4 << 40},
		Skipped:   map[batch.Reason]int64{batch.ReasonUnchanged: 34_000, batch.ReasonCancelled: 500},
		Failed:    map[batch.Reason]int64{batch.ReasonFormat: 60, batch.ReasonIO: 7},
		Inspected: 1_234_000, InspectedBytes: 5 << 40, FromStore: 2_000,
		Failures: []report.Failure{
			{Reason: batch.ReasonFormat, Objects: 60, Examples: []report.Example{
				{Key: "a/\x1b]0;x\x07.jpg", Message: "not a JPEG"}, {Key: "b.jpg"}, {Key: "caf\xe9.jpg", Message: "cut\x07 short"},
			}},
			{Reason: batch.ReasonIO, Objects: 7, Examples: []report.Example{{Key: "c.jpg", Message: "read error; check the disk"}}},
		},
		Duplicates: &report.Duplicates{Algorithm: digest.SHA256, Groups: 12, Objects: 40, WastedBytes: 123_456_789, Empty: 1},
		Renamed:    1_200_000, AssumeSingleWriter: true, Digests: digest.DefaultSet(), Level: batch.LevelNormal,
		ExifTool: []string{"12.76", "13.59"},
		Files:    []report.File{{Name: "failures.csv", Key: "batches/x/report/y/failures.csv", Size: 4096, Rows: 67}},
	}
}

func TestSummaryGolden(t *testing.T) {
	s := fullSummary(t)
	raw, err := s.Encode()
	check(t, err)
	golden(t, report.SummaryName, raw)
	var text bytes.Buffer
	check(t, s.Text(&text))
	golden(t, "summary.txt", text.Bytes())

	got, err := report.ReadSummary(bytes.NewReader(raw))
	check(t, err)
	if diff := cmp.Diff(s, got, cmp.Comparer(func(a, b archive.Root) bool { return a == b })); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestSummaryPlain(t *testing.T) {
	s := fullSummary(t)
	plain := report.Summary{
		Batch: id, Kind: batch.Inspect, Archive: s.Archive, State: batch.Complete, Submitted: s.Submitted,
		Finished: s.Submitted.Add(1234 * time.Millisecond), WorkingSeconds: 1.234, InspectingSeconds: 1,
		Listed: 1, ListedBytes: 1, Counts: batch.Counts{Done: 1, Bytes: 1}, Inspected: 1, InspectedBytes: 1,
	}
	var text bytes.Buffer
	check(t, plain.Text(&text))
	golden(t, "plain.txt", text.Bytes())
}

// A promise that nothing was built on is not told.
func TestSummaryTellsOfASingleWriter(t *testing.T) {
	s := fullSummary(t)
	for _, renamed := range []int64{0, 1} {
		s.Renamed = renamed
		var text bytes.Buffer
		check(t, s.Text(&text))
		if got := strings.Contains(text.String(), "--assume-single-writer"); got != (renamed > 0) {
			t.Errorf("%d renamed: told %v of a single writer", renamed, got)
		}
	}
}

func TestClosing(t *testing.T) {
	for _, c := range []struct {
		kind    batch.Kind
		renamed int64
		want    string
	}{
		{batch.Inspect, 0, "archive unchanged"},
		{batch.Rename, 0, "archive unchanged"},
		{batch.Rename, 1, "1 object renamed; undo: reshelf undo " + string(id)},
		{batch.Rename, 12345, "12,345 objects renamed; undo: reshelf undo " + string(id)},
		{batch.Undo, 2, "2 objects renamed back"},
	} {
		if got := (report.Summary{Batch: id, Kind: c.kind, Renamed: c.renamed}).Closing(); got != c.want {
			t.Errorf("%s, %d renamed: got %q, want %q", c.kind, c.renamed, got, c.want)
		}
	}
}

func TestReadSummaryRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":         "",
		"not JSON":      "{",
		"later version": `{"v":2}`,
		"no version":    `{}`,
		"bad key":       `{"v":1,"files":[{"key":"\\q"}]}`,
		"too large":     strings.Repeat(" ", 17<<20),
	} {
		if _, err := report.ReadSummary(strings.NewReader(text)); !errors.Is(err, report.ErrSummary) {
			t.Errorf("%s: got %v, want ErrSummary", name, err)
		}
	}
}

func FuzzReadSummary(f *testing.F) {
	raw, err := fullSummary(f).Encode()
	check(f, err)
	f.Add(raw)
	f.Add([]byte(`{"v":1,"duplicates":{"algorithm":"sha256"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := report.ReadSummary(bytes.NewReader(text))
		if err != nil {
			return
		}
		if err := s.Text(&bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
	})
}
