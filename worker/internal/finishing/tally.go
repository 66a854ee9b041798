package finishing

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
)

// tally counts final records. All numbers of a summary come from it.
type tally struct {
	summary  report.Summary
	failures map[batch.Reason]*report.Failure // as many as there are reasons
	exiftool map[string]bool
}

func newTally(b batch.Batch) tally {
	t := tally{
		failures: map[batch.Reason]*report.Failure{},
		exiftool: map[string]bool{},
		summary: report.Summary{
			Batch: b.ID, Kind: b.Kind, Archive: b.Archive, Name: b.Name, Undoes: b.Undoes, Method: b.Method(), Submitted: b.Submitted,
			AssumeSingleWriter: b.AssumeSingleWriter, Digests: b.Digests, Level: b.Level,
			Skipped: map[batch.Reason]int64{}, Failed: map[batch.Reason]int64{},
		},
	}
	if a := contentAlgorithm(b); a != 0 {
		t.summary.Duplicates = &report.Duplicates{Algorithm: a}
	}
	return t
}

func (t *tally) add(fin final) {
	s := &t.summary
	s.Listed++
	s.ListedBytes += fin.Size
	s.Counts.Add(fin.Record)
	switch fin.Outcome {
	case batch.Skipped:
		s.Skipped[fin.Reason]++
	case batch.Failed:
		s.Failed[fin.Reason]++
		t.failed(fin.Record)
	}
	if fin.read {
		s.Inspected++
		s.InspectedBytes += fin.Size
	}
	if len(fin.FromStore) > 0 {
		s.FromStore++
	}
	if fin.To != "" && fin.To != fin.Key {
		s.Renamed++
	}
	if fin.Copy != "" {
		s.Copied++
	}
	if fin.ExifTool != "" && len(t.exiftool) < report.MaxExifToolVersions {
		t.exiftool[fin.ExifTool] = true
	}
}

func (t *tally) failed(r batch.Record) {
	f := t.failures[r.Reason]
	if f == nil {
		f = &report.Failure{Reason: r.Reason}
		t.failures[r.Reason] = f
	}
	f.Objects++
	if len(f.Examples) < report.MaxExamples {
		f.Examples = append(f.Examples, report.Example{Key: report.CurrentKey(r), Message: r.Message})
	}
}

func (t *tally) empty() { t.summary.Duplicates.Empty++ }

// group counts a group of n objects of size bytes and returns its number.
func (t *tally) group(n, size int64) int64 {
	d := t.summary.Duplicates
	d.Groups++
	d.Objects += n
	d.WastedBytes += (n - 1) * size
	return d.Groups
}

// commonest are the kinds of failure in descending order of count, then in order of reason.
func (t *tally) commonest() []report.Failure {
	var all []report.Failure
	for _, f := range t.failures {
		all = append(all, *f)
	}
	slices.SortFunc(all, func(a, b report.Failure) int {
		return cmp.Or(cmp.Compare(b.Objects, a.Objects), cmp.Compare(a.Reason, b.Reason))
	})
	return all[:min(len(all), report.MaxFailures)]
}

// summary is the batch's summary once all files are written.
func (f *finish) summary(events []batch.Event) (report.Summary, error) {
	s := f.tally.summary
	s.State = batch.Complete
	if f.cancelled {
		s.State, s.Reason = batch.Cancelled, f.reason
	}
	s.Finished = f.now
	s.Failures = f.tally.commonest()
	s.ExifTool = slices.Sorted(maps.Keys(f.tally.exiftool))
	s.Files = slices.SortedFunc(slices.Values(f.files), func(a, b report.File) int { return strings.Compare(a.Name, b.Name) })
	var err error
	s.WorkingSeconds, s.InspectingSeconds, err = working(f.batch, events, f.now)
	return s, err
}

// working adds up the time in which the batch was not paused and did not wait for approval, and the part of it in which it
// was inspecting, in seconds.
func working(b batch.Batch, events []batch.Event, end time.Time) (all, inspecting float64, err error) {
	st := b.Initial()
	until := func(to time.Time) {
		if st.Paused || st.State == batch.AwaitingApproval || to.Before(st.Changed) {
			return
		}
		took := to.Sub(st.Changed).Seconds()
		all += took
		if st.State == batch.Inspecting {
			inspecting += took
		}
	}
	for _, e := range events {
		until(e.At)
		if st, err = st.Apply(e); err != nil {
			return 0, 0, err
		}
	}
	until(end)
	return all, inspecting, nil
}
