package renaming_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

const idB = batch.ID("01arz3ndektsv4rrffq69g5faw")

// process is what dies: after a number of operations on its stores none works any more. The last one may be carried out
// without an answer, and so may those that were under way.
type process struct {
	last     bool // carry the last one out
	at       int  // the operation before which the process is stopped, and between is called
	lapsesAt int  // how often the claim can be looked at until it has lapsed
	between  func()
	delays   []int // of the operations, in turn: ms on the way there, and as many on the way back

	mu        sync.Mutex // held while the process is stopped, so that nothing is begun then
	left      int
	current   int
	looks     int
	overtaken bool
}

func (p *process) around(do func() error) error {
	left, delay := p.count()
	time.Sleep(delay)
	defer time.Sleep(delay)
	switch {
	case left > 0:
		return do()
	case left == 0 && p.last:
		_ = do() // nobody hears of it
	}
	return fmt.Errorf("the process is dead: %w", store.ErrUnavailable)
}

func (p *process) count() (left int, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current++; p.current == p.at {
		p.overtaken = true
		p.between()
	}
	p.left--
	return p.left, time.Duration(p.delays[p.current%len(p.delays)]) * time.Millisecond
}

// held is the Held of the process's claim.
func (p *process) held() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.looks++; p.overtaken || p.looks >= p.lapsesAt || p.left <= 0 {
		return errLapsed
	}
	return nil
}

// mortal is a store as a process sees it.
type mortal struct {
	store.Store
	process *process
}

func (m mortal) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	return m.process.around(func() error { return m.Store.Create(ctx, key, body) })
}

func (m mortal) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (c *store.Content, err error) {
	err = m.process.around(func() error { c, err = m.Store.Open(ctx, key, offset, length, want); return err })
	return c, err
}

func (m mortal) Stat(ctx context.Context, key archive.Key) (o archive.Object, err error) {
	err = m.process.around(func() error { o, err = m.Store.Stat(ctx, key); return err })
	return o, err
}

func (m mortal) Rename(ctx context.Context, req store.RenameRequest) error {
	switch b := m.Store.(type) {
	case *bucketed:
		return b.rename(ctx, req, m.process.around)
	case *card:
		return b.rename(ctx, req, m.process.around)
	case linking:
		return b.rename(ctx, req, m.process.around)
	}
	return m.process.around(func() error { return m.Store.Rename(ctx, req) })
}

// Exchange takes the steps that a disk takes: it looks, exchanges whatever is there, looks again, and takes back what has come from outside.
func (m mortal) Exchange(ctx context.Context, req store.ExchangeRequest) error {
	a, b, err := m.both(ctx, req)
	if err != nil {
		return err
	}
	if !req.WantA.Same(a.Identity) || !req.WantB.Same(b.Identity) {
		return store.ErrChanged
	}
	swap := func() error { return m.process.around(func() error { return blind(ctx, m.Store, req) }) }
	if err := swap(); err != nil {
		return err
	}
	a, b, err = m.both(ctx, req)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return store.ErrRaced
	case err != nil || a.Identity == req.WantB && b.Identity == req.WantA:
		return err
	case req.Known(a.Identity) && req.Known(b.Identity):
		return store.ErrRaced
	}
	return errors.Join(store.ErrRaced, swap())
}

func (m mortal) both(ctx context.Context, req store.ExchangeRequest) (a, b archive.Object, err error) {
	if a, err = m.Stat(ctx, req.A); err == nil {
		b, err = m.Stat(ctx, req.B)
	}
	return a, b, err
}

// blind exchanges whatever is at two names.
func blind(ctx context.Context, st store.Store, req store.ExchangeRequest) error {
	for {
		var err error
		a, errA := st.Stat(ctx, req.A)
		b, errB := st.Stat(ctx, req.B)
		if err = errors.Join(errA, errB); err != nil {
			return err
		}
		req.WantA, req.WantB = a.Identity, b.Identity
		if err = st.Exchange(ctx, req); !errors.Is(err, store.ErrChanged) {
			return err
		}
	}
}

func (m mortal) Copy(ctx context.Context, req store.CopyRequest) error {
	return m.process.around(func() error { return m.Store.Copy(ctx, req) })
}

func (m mortal) Copied(ctx context.Context, req store.CopyRequest) (made bool, err error) {
	err = m.process.around(func() error { made, err = m.Store.Copied(ctx, req); return err })
	return made, err
}

func (m mortal) Sync(ctx context.Context, keys []archive.Key) error {
	return m.process.around(func() error { return m.Store.Sync(ctx, keys) })
}

// drawWorld draws a plan of single objects and groups, which get new names or, in a chain, those of the ones before.
func drawWorld(t *rapid.T, st store.Store) *world {
	if st.Properties().FoldsCase && (!byWayOf(st) || rapid.Bool().Draw(t, "folded")) {
		return drawFolded(t, st)
	}
	w := &world{archive: &hooked{Store: st}, led: ledger.New(memstore.New(archive.Root{})), batch: batch.Batch{ID: idA, AssumeSingleWriter: single(st)}}
	check(t, st.Create(context.Background(), "another", strings.NewReader("another")))
	if rapid.Bool().Draw(t, "circles") {
		w.drawCircles(t)
		w.seal(t)
		return w
	}
	chain := rapid.Bool().Draw(t, "chain") || byWayOf(st)
	before := 0 // size of the group before
	for g := range rapid.IntRange(1, 4).Draw(t, "groups") {
		size := rapid.IntRange(1, 3).Draw(t, "size")
		for i := range size {
			key := archive.Key(fmt.Sprintf("%d/%d", g, i))
			check(t, st.Create(context.Background(), key, strings.NewReader("content of "+string(key))))
			o, err := st.Stat(context.Background(), key)
			check(t, err)
			to := archive.Key(fmt.Sprintf("n/%d-%d", g, i))
			r := batch.Row{N: int64(len(w.rows)), From: key, To: to, Want: o.Identity, OpID: fmt.Sprintf("op%s", key)}
			if size > 1 {
				r.Group = archive.Key(fmt.Sprintf("%d/0", g))
			}
			if chain {
				r.Chain = 1
			}
			if chain && i < before {
				r.To = archive.Key(fmt.Sprintf("%d/%d", g-1, i))
			}
			w.rows = append(w.rows, parkedIn(st, r))
		}
		before = size
	}
	w.seal(t)
	return w
}

// drawCircles draws circles of groups, each of which gets the names of the next one, as far as this has as many, and behind each an
// object that gets a name which is left free.
func (w *world) drawCircles(t *rapid.T) {
	put := func(key, to, group archive.Key, chain int64) {
		check(t, w.archive.Create(context.Background(), key, strings.NewReader("content of "+string(key))))
		o, err := w.archive.Stat(context.Background(), key)
		check(t, err)
		r := batch.Row{N: int64(len(w.rows)), From: key, To: to, Want: o.Identity, OpID: fmt.Sprintf("op%s", key), Group: group, Chain: chain}
		w.rows = append(w.rows, parkedIn(w.archive, r))
	}
	for c := range rapid.IntRange(1, 2).Draw(t, "circles") {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 3), 2, 5).Draw(t, "sizes")
		name := func(g, i int) archive.Key { return archive.Key(fmt.Sprintf("%d.%d/%d", c, g%len(sizes), i)) }
		for _, g := range rapid.Permutation(numbers(len(sizes))).Draw(t, "order") {
			for i := range sizes[g] {
				group := archive.Key("")
				if sizes[g] > 1 {
					group = name(g, 0)
				}
				put(name(g, i), name(g+1, i), group, int64(c+1))
			}
		}
		for g, size := range sizes {
			if left := name(g, size-1); size > sizes[(g+len(sizes)-1)%len(sizes)] && rapid.Bool().Draw(t, "waits") {
				put(archive.Key(fmt.Sprintf("w/%d", c)), left, "", int64(c+1))
				break
			}
		}
	}
}

// numbers are those from 0 to n-1.
func numbers(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// suffer carries the segment out in executions that die, lapse, are overtaken and are cancelled, and at last in one that
// is not. Meanwhile somebody else takes target names and gives them free.
func (w *world) suffer(t *rapid.T, foreign map[archive.Key]string, label string) {
	cancelledFrom := rapid.IntRange(0, 12).Draw(t, label+" cancelled from")
	led := w.led
	runs := rapid.IntRange(0, 4).Draw(t, label+" executions")
	for i := range runs {
		w.meddle(t, foreign, label)
		p := &process{
			left: rapid.IntRange(1, 60).Draw(t, "operations"), last: rapid.Bool().Draw(t, "last"),
			lapsesAt: rapid.IntRange(1, 30).Draw(t, "lapses at"), at: rapid.IntRange(1, 60).Draw(t, "overtaken at"),
			delays: rapid.SliceOfN(rapid.IntRange(0, 3), 1, 8).Draw(t, "delays"),
		}
		cancelled := i >= cancelledFrom
		successor := claim{cancelled: rapid.Bool().Draw(t, "successor cancelled") || cancelled}
		var failure error
		p.between = func() { // on any goroutine
			w.led = led
			failure = w.execute(successor)
		}
		w.led = ledger.New(mortal{led.Store(), p})
		_ = w.executeOn(claim{cancelled: cancelled, held: p.held}, mortal{w.archive.Store, p}) // whatever it says, only what is on the stores counts
		w.led = led
		if errors.Is(failure, errRunning) { // it waits, and nothing is settled
			continue
		}
		check(t, failure)
		w.untrue = w.untrue || (p.overtaken && p.left <= 0)
	}
	w.meddle(t, foreign, label)
	check(t, w.execute(claim{cancelled: runs >= cancelledFrom}))
}

func (w *world) meddle(t *rapid.T, foreign map[archive.Key]string, label string) {
	if rapid.IntRange(0, 2).Draw(t, label+" meddle") > 0 || label == "undo" {
		return
	}
	key := rapid.SampledFrom(w.rows).Draw(t, "row").To
	if rowOf(w.rows, key).From == key {
		return // the name of one that would have to come back
	}
	if foreign[key] != "" {
		check(t, w.archive.Delete(context.Background(), key, archive.Identity{}))
		delete(foreign, key)
		return
	}
	if w.archive.Store.Create(context.Background(), key, strings.NewReader("foreign")) == nil {
		foreign[key] = "foreign"
	}
}

// bubbled hides what a synctest bubble does not have.
type bubbled struct{ testing.TB }

func TestCrashes(t *testing.T) {
	stores := map[string]func(t *rapid.T, dir string) store.Store{
		"bucket": func(t *rapid.T, _ string) store.Store {
			return newBucketed(rapid.Bool().Draw(t, "same contents"), 4)
		},
		"memory": func(*rapid.T, string) store.Store { return memstore.New(archive.Root{}) },
		"lone":   func(*rapid.T, string) store.Store { return lone{memstore.New(archive.Root{})} },
		"nas":    func(*rapid.T, string) store.Store { return newNAS(false) },
		"files": func(t *rapid.T, dir string) store.Store {
			sub, err := os.MkdirTemp(dir, "")
			check(t, err)
			// A ledger's store renames as an archive's does, and lets this test delete and create.
			st, err := filestore.Open(sub, filestore.Options{Ledger: true})
			check(t, err)
			if !st.Properties().GuardedRename {
				t.Skip("needs a file system with guarded renames")
			}
			return seen{st, true}
		},
	}
	for name, open := range foldingStores() {
		stores[name] = func(*rapid.T, string) store.Store { return open() }
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				rapid.Check(bubbled{t}, func(t *rapid.T) {
					st := open(t, dir)
					defer st.Close()
					w := drawWorld(t, st)
					before := contents(t, st)
					foreign := map[archive.Key]string{}
					w.suffer(t, foreign, "rename")
					if !w.untrue {
						w.checkWorld(t, foreign)
						w.checkGroups(t)
					}
					w.clearFolded(t, foreign)
					untrue := w.undo(t, foreign)
					maps.Copy(before, foreign)
					after := contents(t, st)
					if untrue { // what an undo left as no record says is left to people, but it is all there, at names of the circle
						before, after = lists(before), lists(after)
					}
					if diff := cmp.Diff(before, after); diff != "" {
						t.Errorf("archive after the undo (-want +got):\n%s", diff)
					}
				})
			})
		})
	}
}

// clearFolded takes away what has names that objects are to get back.
func (w *world) clearFolded(t tester, foreign map[archive.Key]string) {
	t.Helper()
	for _, r := range w.rows {
		if r.SameFolded() && foreign[r.To] != "" {
			check(t, w.archive.Delete(context.Background(), r.To, archive.Identity{}))
			delete(foreign, r.To)
		}
	}
}

// checkGroups: of a group all objects were renamed, or none.
func (w *world) checkGroups(t tester) {
	t.Helper()
	records := w.records(t)
	for _, r := range w.rows {
		if r.Group != "" && (records[r.From].To == "") != (records[r.Group].To == "") {
			t.Errorf("%s is at %q, and %s of its group at %q", r.From, records[r.From].To, r.Group, records[r.Group].To)
		}
	}
}

// lists are the names and the contents, without saying which belong together.
func lists(of map[archive.Key]string) map[archive.Key]string {
	names, contents := slices.Sorted(maps.Keys(of)), slices.Sorted(maps.Values(of))
	out := map[archive.Key]string{}
	for i, name := range names {
		out[name] = contents[i]
	}
	return out
}

// undo reverses what has moved, and reports whether it did what no record says.
func (w *world) undo(t *rapid.T, foreign map[archive.Key]string) (untrue bool) {
	ctx := context.Background()
	over := func(context.Context, ledger.Execution) (bool, error) { return true, nil } // all processes are dead or done
	b := batch.Batch{ID: idB, Kind: batch.Undo, Undoes: idA, AssumeSingleWriter: w.batch.AssumeSingleWriter}
	check(t, planning.Undo(ctx, claim{}, w.led, w.archive.Store, b, 1, over, func(string) {}))
	p, _, err := w.led.Plan(ctx, idB)
	check(t, err)
	if len(p.Segments) == 0 {
		return false
	}
	u := &world{archive: w.archive, led: w.led, batch: b, plan: p}
	u.rows, err = w.led.PlanRows(ctx, p, 0)
	check(t, err)
	u.suffer(t, foreign, "undo")
	records := u.records(t)
	if byWayOf(w.archive) && u.rows[0].Chain != 0 {
		u.finishUndo(t, records)
		return u.untrue
	}
	if w.archive.Properties().FoldsCase {
		u.finishFolded(t, records)
		return u.untrue
	}
	for _, row := range u.rows { // an undo that was cancelled
		if r := records[row.From]; r.Reason == batch.ReasonCancelled {
			bring(t, w.archive, r.Identity.Inode, row.To)
		}
	}
	return u.untrue
}

// finishUndo carries out the rows of an undo that was cancelled, all objects by way of other names.
func (w *world) finishUndo(t tester, records map[archive.Key]batch.Record) {
	t.Helper()
	move := func(from, to archive.Key) {
		o, err := w.archive.Stat(context.Background(), from)
		check(t, err)
		check(t, w.archive.Rename(context.Background(), store.RenameRequest{From: from, To: to, Want: o.Identity, OpID: "by hand"}))
	}
	for _, row := range w.rows {
		if records[row.From].Reason == batch.ReasonCancelled {
			move(row.From, "hand-"+row.From)
		}
	}
	for _, row := range w.rows {
		if records[row.From].Reason == batch.ReasonCancelled {
			move("hand-"+row.From, row.To)
		}
	}
}

// bring gives an object a name, in exchange for the one that it has if need be.
func bring(t tester, st store.Store, inode uint64, to archive.Key) {
	t.Helper()
	ctx := context.Background()
	var from archive.Object
	for e, err := range st.List(ctx, store.ListOptions{}) {
		check(t, err)
		if e.Inode == inode {
			from = e.Object
		}
	}
	switch there, err := st.Stat(ctx, to); {
	case from.Key == to:
	case err == nil:
		check(t, st.Exchange(ctx, store.ExchangeRequest{A: from.Key, B: to, WantA: from.Identity, WantB: there.Identity}))
	default:
		check(t, st.Rename(ctx, store.RenameRequest{From: from.Key, To: to, Want: from.Identity}))
	}
}

func rowOf(rows []batch.Row, from archive.Key) batch.Row {
	for _, r := range rows {
		if r.From == from {
			return r
		}
	}
	return batch.Row{}
}
