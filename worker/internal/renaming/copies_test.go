package renaming_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// copying makes the batch of a world one that copies.
func (w *world) copying(m batch.Method) *world {
	w.batch.Renaming = &batch.RenameOptions{Method: m}
	return w
}

// copied says of each record where the copy is, or why there is none, or both.
func (w *world) copied(t tester) map[archive.Key]string {
	t.Helper()
	out := map[archive.Key]string{}
	for k, r := range w.records(t) {
		switch {
		case r.To != "":
			t.Errorf("the record of %s says that it was renamed to %s", k, r.To)
		case r.Outcome == batch.Done:
			out[k] = string(r.Copy)
		case r.Copy != "":
			out[k] = fmt.Sprintf("%s: %s, at %s", r.Outcome, r.Reason, r.Copy)
		default:
			out[k] = fmt.Sprintf("%s: %s", r.Outcome, r.Reason)
		}
		if r.Outcome != batch.Done && r.Message == "" {
			t.Errorf("record of %s says %q without a message", k, r.Reason)
		}
	}
	return out
}

func TestCopies(t *testing.T) {
	fails := func(err error) func(string, archive.Key) error {
		return func(op string, key archive.Key) error {
			if op == "copy" && key == "b" {
				return fmt.Errorf("copy b to n/b: %w", err)
			}
			return nil
		}
	}
	put := func(key archive.Key) func(*world) error {
		return func(w *world) error {
			return w.archive.Create(context.Background(), key, strings.NewReader("foreign"))
		}
	}
	remove := func(w *world) error { return w.archive.Delete(context.Background(), "b", archive.Identity{}) }
	made := func(w *world) error { // by an earlier execution
		r := w.rows[0]
		return w.archive.Store.Copy(context.Background(), store.CopyRequest{
			From: r.From, To: r.To, Want: r.Want, OpID: r.OpID, Link: w.batch.Method() == batch.MethodLink,
		})
	}
	none := map[archive.Key]string{"a": "skipped: group", "b": "failed: conflict", "c": "skipped: group"}
	tests := map[string]struct {
		prepare   func(*world) error
		before    func(string, archive.Key) error
		after     func(string, archive.Key) error
		cancelled bool
		wantGroup map[archive.Key]string
	}{
		"done":               {wantGroup: map[archive.Key]string{"a": "n/a", "b": "n/b", "c": "n/c"}},
		"target taken":       {prepare: put("n/b"), wantGroup: none},
		"target is a folder": {prepare: put("n/b/x"), wantGroup: none},
		"source gone":        {prepare: remove, wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "failed: missing", "c": "skipped: group"}},
		"source changed": {
			prepare:   func(w *world) error { return errors.Join(remove(w), put("b")(w)) },
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "skipped: changed", "c": "skipped: group"},
		},
		"no space": {
			before:    fails(store.ErrNoSpace),
			wantGroup: map[archive.Key]string{"a": "failed: group, at n/a", "b": "failed: no-space", "c": "skipped: group"},
		},
		"unsupported": {
			before:    fails(store.ErrUnsupported),
			wantGroup: map[archive.Key]string{"a": "failed: group, at n/a", "b": "failed: unsupported", "c": "skipped: group"},
		},
		"made, and the answer was lost": {
			after: fails(errors.New("connection reset")), wantGroup: map[archive.Key]string{"a": "n/a", "b": "n/b", "c": "n/c"},
		},
		"begun":            {prepare: made, wantGroup: map[archive.Key]string{"a": "n/a", "b": "n/b", "c": "n/c"}},
		"begun, and taken": {prepare: func(w *world) error { return errors.Join(made(w), put("n/b")(w)) }, wantGroup: map[archive.Key]string{"a": "failed: group, at n/a", "b": "failed: conflict", "c": "skipped: group"}},
		"cancelled":        {cancelled: true, wantGroup: map[archive.Key]string{"a": "skipped: cancelled", "b": "skipped: cancelled", "c": "skipped: cancelled"}},
		"cancelled, after it was begun": {
			prepare: made, cancelled: true,
			wantGroup: map[archive.Key]string{"a": "failed: group, at n/a", "b": "skipped: cancelled", "c": "skipped: cancelled"},
		},
	}
	for name, test := range tests {
		for _, method := range []batch.Method{batch.MethodCopy, batch.MethodLink} {
			t.Run(name+", "+string(method), func(t *testing.T) {
				w := newWorld(t, true, "a -> n/a", "b -> n/b", "c -> n/c").copying(method)
				if test.prepare != nil {
					check(t, test.prepare(w))
				}
				before := contents(t, w.archive.Store)
				w.archive.before, w.archive.after = test.before, test.after
				check(t, w.execute(claim{cancelled: test.cancelled}))
				if diff := cmp.Diff(test.wantGroup, w.copied(t)); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
				w.checkCopies(t, before, nil)
			})
		}
	}
}

// checkCopies: what was there before is as it was, and besides there are the copies that records say, and what is foreign.
func (w *world) checkCopies(t tester, before, foreign map[archive.Key]string) {
	t.Helper()
	records := w.records(t)
	want := map[archive.Key]string{}
	for k, v := range before {
		want[k] = v
	}
	for k, v := range foreign {
		want[k] = v
	}
	partly := map[archive.Key]bool{}
	for _, r := range w.rows {
		rec := records[r.From]
		if rec.Copy != "" {
			want[rec.Copy] = before[r.From]
		}
		partly[r.Group] = partly[r.Group] || rec.Copy == ""
	}
	for _, r := range w.rows {
		if rec := records[r.From]; r.Group != "" && partly[r.Group] && rec.Outcome == batch.Done {
			t.Errorf("%s was copied, others of its group were not, and its record says that all is well", r.From)
		}
	}
	if diff := cmp.Diff(want, contents(t, w.archive.Store)); diff != "" {
		t.Errorf("the archive is not what the records say (-records +archive):\n%s", diff)
	}
}

// Whatever befalls the executions, every object stays under its name as it was, each copy is there whole where the records say, and
// nothing else is changed.
func TestCopiesCrash(t *testing.T) {
	stores := map[string]func(t *rapid.T, dir string) store.Store{
		"memory": func(*rapid.T, string) store.Store { return memstore.New(archive.Root{}) },
		"files": func(t *rapid.T, dir string) store.Store {
			sub, err := os.MkdirTemp(dir, "")
			check(t, err)
			st, err := filestore.Open(sub, filestore.Options{Ledger: true}) // which lets this test delete and create
			check(t, err)
			return st
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				rapid.Check(bubbled{t}, func(t *rapid.T) {
					st := open(t, dir)
					defer st.Close()
					w := drawWorld(t, st).copying(rapid.SampledFrom([]batch.Method{batch.MethodCopy, batch.MethodLink}).Draw(t, "method"))
					before := contents(t, st)
					foreign := map[archive.Key]string{}
					w.suffer(t, foreign, "copy")
					if w.untrue {
						w.records(t)
					} else {
						w.checkCopies(t, before, foreign)
					}
					now := contents(t, st)
					for _, r := range w.rows {
						if o, err := st.Stat(context.Background(), r.From); err != nil || o.Identity != r.Want || now[r.From] != before[r.From] {
							t.Errorf("%s is %+v (%v) now, and was %+v", r.From, o.Identity, err, r.Want)
						}
					}
				})
			})
		})
	}
}

// counting is a claim that lapses, or whose batch is cancelled, from its n-th look on, and adds up what was told.
type counting struct {
	mu                           sync.Mutex
	looks, lapsesAt, cancelledAt int
	objects, bytes               int64
}

func (c *counting) Held() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looks++; c.lapsesAt > 0 && c.looks >= c.lapsesAt {
		return errLapsed
	}
	return nil
}

func (c *counting) Cancelled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cancelledAt > 0 && c.looks >= c.cancelledAt
}

func (c *counting) Advance(objects, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects, c.bytes = c.objects+objects, c.bytes+bytes
}

// A worker whose claim has lapsed gives no copy its name, however far it had got, and a batch that is cancelled ends the copy in hand.
func TestCopiesEnd(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t, false, "a -> n/a").copying(batch.MethodCopy)
		hold := &counting{lapsesAt: at}
		before := contents(t, w.archive.Store)
		err := w.execute(hold)
		if hold.looks < at {
			check(t, err)
			if hold.objects != 1 || hold.bytes != int64(len("content of a")) {
				t.Errorf("told %d objects, %d bytes", hold.objects, hold.bytes)
			}
			break
		}
		_, statErr := w.archive.Store.Stat(context.Background(), "n/a")
		made := statErr == nil
		if !errors.Is(err, errLapsed) || made && hold.looks != at || made != (at > 3) { // before, while, right before it gets its name; after
			t.Errorf("lapsed at look %d of %d: %v, made: %t", at, hold.looks, err, made)
		}
		check(t, w.execute(claim{}))
		w.checkCopies(t, before, nil)
	}
	w := newWorld(t, false, "a -> n/a", "b -> n/b").copying(batch.MethodCopy)
	check(t, w.execute(&counting{cancelledAt: 2}))
	want := map[archive.Key]string{"a": "skipped: cancelled", "b": "skipped: cancelled"}
	if diff := cmp.Diff(want, w.copied(t)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	w.checkCopies(t, map[archive.Key]string{"another": "another", "a": "content of a", "b": "content of b"}, nil)
}

// A copy has the content that was inspected, or is not made.
func TestCopiesCompareDigests(t *testing.T) {
	w := newUnsealed(t, false, "a -> n/a", "b -> n/b")
	for i, text := range []string{"crc32:00000000", "crc32:" + crcOf("content of b")} {
		d, err := digest.Parse(text)
		check(t, err)
		w.rows[i].Digest = d
	}
	w.seal(t)
	check(t, w.copying(batch.MethodCopy).execute(claim{}))
	want := map[archive.Key]string{"a": "skipped: changed", "b": "n/b"}
	if diff := cmp.Diff(want, w.copied(t)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func crcOf(content string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(content))) }
