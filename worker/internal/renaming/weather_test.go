package renaming_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
)

// weather is a bucket, and the claim of an execution on it: requests fail, are refused and end with the process, somebody does what he
// likes, and the batch is cancelled.
type weather struct {
	*bucketed
	ends            int                  // the request with which the process does
	cancelled       int                  // and the batch
	blind           int                  // the look that fails
	refused, locked map[archive.Key]bool // names at which nothing may be written, and nothing deleted
	deeds           map[int]func()       // before a request
	delays          []int                // of requests, in turn, in ms

	mu       sync.Mutex
	requests int
}

func (s *weather) Held() error          { return nil }
func (s *weather) Advance(int64, int64) {}

func (s *weather) Cancelled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests >= s.cancelled
}

// request counts one.
func (s *weather) request() error {
	s.mu.Lock()
	s.requests++
	n := s.requests
	if deed := s.deeds[n]; deed != nil && n < s.ends {
		deed()
	}
	s.mu.Unlock()
	time.Sleep(time.Duration(s.delays[n%len(s.delays)]) * time.Millisecond)
	switch {
	case n >= s.ends:
		return errDead
	case n == s.blind:
		return errors.New("internal error")
	}
	return nil
}

func (s *weather) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	if err := s.request(); err != nil {
		return archive.Object{}, err
	}
	return s.bucketed.Stat(ctx, key)
}

func (s *weather) Rename(ctx context.Context, req store.RenameRequest) error {
	step := 0
	return s.rename(ctx, req, func(do func() error) error {
		if err := s.request(); err != nil {
			return err
		}
		_, err := s.bucketed.Stat(ctx, req.To)
		if step++; step > 2 && (err != nil && s.refused[req.To] || err == nil && s.locked[req.From]) {
			return store.ErrPermission
		}
		return do()
	})
}

// What somebody does to a name.
const (
	takes = iota
	deletes
	replaces
)

// somebody writes to the bucket, too.
type somebody struct {
	bucket  *bucketed
	wrote   map[archive.Key]string
	deleted map[string]int // contents
	times   int            // that he wrote
}

func (s *somebody) does(deed int, key archive.Key) {
	ctx := context.Background()
	if deed != takes {
		if content, ok := s.bucket.content(key); ok && s.bucket.Delete(ctx, key, archive.Identity{}) == nil {
			s.deleted[content]++
			delete(s.wrote, key)
		}
	}
	if deed != deletes {
		s.times++
		content := fmt.Sprintf("foreign %d", s.times)
		if s.bucket.Create(ctx, key, strings.NewReader(content)) == nil {
			s.wrote[key] = content
		}
	}
}

// content is what an object has.
func (b *bucketed) content(key archive.Key) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, raw, err := b.read(context.Background(), key)
	return string(raw), err == nil
}

// drawWeather draws that of one execution; the last one does not die.
func (s *somebody) drawWeather(t *rapid.T, rows []batch.Row, deeds []int, last bool) *weather {
	const most = 120
	w := &weather{bucketed: s.bucket, ends: 1 << 30, cancelled: 1 << 30, deeds: map[int]func(){}, refused: map[archive.Key]bool{}, locked: map[archive.Key]bool{}}
	name := func() archive.Key {
		r := rows[rapid.IntRange(0, len(rows)-1).Draw(t, "row")]
		return rapid.SampledFrom([]archive.Key{r.To, r.From, r.Park, r.Park}).Draw(t, "name")
	}
	if !last {
		w.ends, w.blind = rapid.IntRange(1, most).Draw(t, "ends"), rapid.IntRange(1, 2*most).Draw(t, "blind")
	}
	for range rapid.IntRange(0, 2).Draw(t, "deeds") {
		key, deed := name(), rapid.SampledFrom(deeds).Draw(t, "deed")
		w.deeds[rapid.IntRange(1, most).Draw(t, "before")] = func() { s.does(deed, key) }
	}
	for _, names := range []map[archive.Key]bool{w.refused, w.locked} {
		if rapid.Bool().Draw(t, "forbidden") {
			names[name()] = true
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "cancel") == 0 {
		w.cancelled = rapid.IntRange(0, most).Draw(t, "cancelled")
	}
	w.delays = rapid.SliceOfN(rapid.IntRange(0, 3), 1, 8).Draw(t, "delays")
	return w
}

// endure carries the segment out in as many executions as it takes.
func (w *world) endure(t *rapid.T, s *somebody, deeds []int) {
	cancelled := false
	for run := 3; ; run = rapid.IntRange(0, run-1).Draw(t, "executions to come") {
		st := s.drawWeather(t, w.rows, deeds, run == 0)
		if cancelled {
			st.cancelled = 0
		}
		err := w.executeOn(st, st)
		if err == nil {
			return
		}
		if cancelled = st.Cancelled(); run == 0 {
			check(t, err)
		}
	}
}

// checkStory: nothing is lost but what somebody deleted; what he wrote is where he did; and the records say where all objects are, of
// which contents are what is in each.
func (w *world) checkStory(t *rapid.T, s *somebody, before map[archive.Key]string) {
	got, records := contents(t, s.bucket), w.records(t)
	for key, content := range s.wrote {
		if got[key] != content {
			t.Errorf("%q is at %s, where somebody wrote %q", got[key], key, content)
		}
	}
	want, there, gone, whose := map[string]int{}, map[string]int{}, map[string]int{}, map[archive.Key]archive.Key{}
	copies := strings.Contains(fmt.Sprint(records), "a copy of it")
	for _, content := range got {
		there[content]++
	}
	for _, row := range w.rows {
		r, content := records[row.From], before[row.From]
		if !row.Moves() {
			continue
		}
		want[content]++
		at := r.Key
		if r.To != "" {
			at = r.To
		}
		switch {
		case r.Reason == batch.ReasonMissing || r.Reason == batch.ReasonChanged:
			gone[content]++
			continue
		case whose[at] != "":
			t.Errorf("%s and %s are both said to be at %s", whose[at], row.From, at)
		case got[at] != content && s.deleted[content] == 0:
			t.Errorf("%s is said to be at %s, where %q is: %s %s: %s", row.From, at, got[at], r.Outcome, r.Reason, r.Message)
		case (r.Outcome == batch.Done) != (r.To == row.To && r.Message == ""):
			t.Errorf("%s > %s is %s %s at %q: %s", row.From, row.To, r.Outcome, r.Reason, r.To, r.Message)
		}
		whose[at] = row.From
	}
	for content, n := range want {
		before := slices.Collect(values(before, content))
		switch {
		case there[content] < n-s.deleted[content]:
			t.Errorf("%d of %q are left of %d, of which %d were deleted", there[content], content, n, s.deleted[content])
		case gone[content] > s.deleted[content]:
			t.Errorf("%d of %q are said to be gone, %d were deleted", gone[content], content, s.deleted[content])
		case there[content] > len(before) && !copies:
			t.Errorf("%q is there %d times, of which no record says anything", content, there[content])
		}
	}
	w.checkTorn(t, records)
}

// values yields the values of m that are v.
func values(m map[archive.Key]string, v string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, x := range m {
			if x == v && !yield(x) {
				return
			}
		}
	}
}

// checkTorn: of a group all objects are done, but for what was left of a copy, or none.
func (w *world) checkTorn(t *rapid.T, records map[archive.Key]batch.Record) {
	done, not := map[archive.Key]bool{}, map[archive.Key]bool{}
	for _, row := range w.rows {
		r := records[row.From]
		switch {
		case !row.Moves() || row.Group == "" || strings.Contains(r.Message, "a copy of it is left"):
		case r.Outcome == batch.Done:
			done[row.Group] = true
		default:
			not[row.Group] = true
		}
	}
	for group := range done {
		if not[group] {
			t.Errorf("of group %s some are done, and some are not", group)
		}
	}
}

// undone is the undo of what w did, some of which may not be recorded.
func (w *world) undone(t tester, id batch.ID) *world {
	b := batch.Batch{V: batch.Version, ID: id, Kind: batch.Undo, Undoes: w.batch.ID, Pool: "local", Priority: batch.Normal}
	b.Archive, _ = archive.FileRoot("/archive")
	check(t, w.led.CreateBatch(context.Background(), b))
	return w.planned(t, b)
}

// TestWeather renames objects of a chain in a bucket, whose contents differ or are equal, undoes that, and undoes the undo, whatever
// happens meanwhile.
func TestWeather(t *testing.T) {
	for name, deeds := range map[string][]int{"takes": {takes}, "deletes": {takes, deletes}, "replaces": {takes, deletes, replaces}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rapid.Check(bubbled{t}, func(t *rapid.T) {
					b := newBucketed(false, rapid.SampledFrom([]int{1, 4}).Draw(t, "parallel"))
					b.equal = rapid.Bool().Draw(t, "equal contents")
					b.versioned, b.listed = rapid.Bool().Draw(t, "versioned"), rapid.Bool().Draw(t, "listed")
					w := drawWorld(t, b)
					b.listed = false
					w.batch.V, w.batch.Kind, w.batch.Level, w.batch.Pool, w.batch.Priority = batch.Version, batch.Rename, batch.LevelNormal, "local", batch.Normal
					w.batch.Archive, _ = archive.FileRoot("/archive")
					w.batch.Digests, w.batch.Renaming = digest.Set(0).With(digest.SHA256), &batch.RenameOptions{Template: "{name}", OnConflict: batch.ConflictStop}
					check(t, w.led.CreateBatch(context.Background(), w.batch))
					s := &somebody{bucket: b, wrote: map[archive.Key]string{}, deleted: map[string]int{}}
					for i := range rapid.IntRange(1, 4).Draw(t, "batches") {
						if i > 0 {
							w = w.undone(t, batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", i)))
						}
						if !slices.ContainsFunc(w.rows, batch.Row.Moves) {
							return
						}
						before := contents(t, b)
						w.endure(t, s, deeds)
						if w.checkStory(t, s, before); t.Failed() {
							return
						}
					}
				})
			})
		})
	}
}
