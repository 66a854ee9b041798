package renaming_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// card is an archive in memory that folds names and keeps no inode numbers, as a card from a camera does.
type card struct {
	store.Store
	// links: renames take two steps, a second name and the removal of the first, as on a share of another machine.
	links bool
	// inodes: it keeps their numbers, as NFS does.
	inodes bool
}

func newCard(links bool) *card {
	return &card{memstore.NewFolding(archive.Root{}, naming.Fold), links, false}
}

// newNAS is an archive as NFS has it, or one that folds names besides.
func newNAS(folds bool) *card {
	if folds {
		return &card{memstore.NewFolding(archive.Root{}, naming.Fold), true, true}
	}
	return &card{memstore.New(archive.Root{}), true, true}
}

func (c *card) Properties() store.Properties {
	return store.Properties{
		Local: true, KeepsMTime: true, GuardedRename: !c.links, Parks: c.inodes || !c.links, RenameMethod: "card",
		FoldsCase: c.Store.Properties().FoldsCase, Folders: true, Parallel: 2,
	}
}

func (c *card) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range c.Store.List(ctx, opts) {
			if !c.inodes {
				e.Inode = 0
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (c *card) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	o, err := c.Store.Stat(ctx, key)
	if !c.inodes {
		o.Inode = 0
	}
	return o, err
}

func (c *card) Rename(ctx context.Context, req store.RenameRequest) error {
	return c.rename(ctx, req, func(do func() error) error { return do() })
}

// rename takes one step after the other, each of them around.
func (c *card) rename(ctx context.Context, req store.RenameRequest, around func(func() error) error) error {
	src, err := c.Store.Stat(ctx, req.From)
	if errors.Is(err, store.ErrNotExist) || err == nil && req.Want.Inode != 0 && !req.Want.Same(src.Identity) {
		if dst, dstErr := c.Store.Stat(ctx, req.To); dstErr == nil && req.Want.Same(dst.Identity) {
			return nil
		}
	}
	if err != nil || !c.links {
		return around(func() error { return c.Store.Rename(ctx, req) })
	}
	if !req.Want.Same(src.Identity) {
		return store.ErrChanged
	}
	switch dst, err := c.Store.Stat(ctx, req.To); {
	case err == nil && dst.Inode != src.Inode:
		return store.ErrExist
	case err == nil:
		spelled, err := store.Spelled(ctx, c, req.From, req.To)
		if err != nil || len(spelled) != 2 {
			return errors.Join(err, store.ErrUnsupported)
		}
	default:
		err := around(func() error {
			return c.Copy(ctx, store.CopyRequest{From: req.From, To: req.To, Want: req.Want, Link: true})
		})
		if err != nil {
			return err
		}
	}
	return around(func() error { return c.Delete(ctx, req.From, archive.Identity{}) })
}

// foldingStores are the kinds of archives that fold names: those that keep inode numbers and those that do not, and those whose renames
// are not one step.
func foldingStores() map[string]func() store.Store {
	return map[string]func() store.Store{
		"folding": func() store.Store { return memstore.NewFolding(archive.Root{}, naming.Fold) },
		"card":    func() store.Store { return newCard(false) },
		"share":   func() store.Store { return newCard(true) },
		"numbers": func() store.Store { return newNAS(true) },
	}
}

// folded is an archive that folds names with a plan: each row "from -> to", or "from -> to @ group".
func folded(t tester, st store.Store, moves ...string) *world {
	t.Helper()
	w := newFolded(t, st)
	for _, move := range moves {
		move, group, _ := strings.Cut(move, " @ ")
		from, to, _ := strings.Cut(move, " -> ")
		w.addFolded(t, archive.Key(from), archive.Key(to), archive.Key(group))
	}
	w.parkFolded()
	w.seal(t)
	return w
}

func newFolded(t tester, st store.Store) *world {
	t.Helper()
	check(t, st.Create(context.Background(), "another", strings.NewReader("another")))
	b := batch.Batch{ID: idA, AssumeSingleWriter: !st.Properties().GuardedRename}
	return &world{archive: &hooked{Store: st}, led: ledger.New(memstore.New(archive.Root{})), batch: b}
}

func (w *world) addFolded(t tester, from, to, group archive.Key) {
	t.Helper()
	check(t, w.archive.Create(context.Background(), from, strings.NewReader("content of "+string(from))))
	o, err := w.archive.Stat(context.Background(), from)
	check(t, err)
	n := int64(len(w.rows))
	w.rows = append(w.rows, batch.Row{N: n, From: from, To: to, Want: o.Identity, OpID: fmt.Sprintf("op%d", n), Group: group})
}

// parkFolded gives names in between to all of a group of which one needs it.
func (w *world) parkFolded() {
	for i, r := range w.rows {
		for _, other := range w.rows {
			if other.SameFolded() && (other.N == r.N || other.Together(r)) {
				w.rows[i].Park = r.From.Dir() + "/parked-" + archive.Key(r.From.Base())
			}
		}
		w.rows[i].Park = archive.Key(strings.TrimPrefix(string(w.rows[i].Park), "/"))
	}
}

// drawFolded draws a plan of objects and groups that get other spellings of their names, or other names.
func drawFolded(t *rapid.T, st store.Store) *world {
	w := newFolded(t, st)
	for g := range rapid.IntRange(1, 4).Draw(t, "groups") {
		size := rapid.IntRange(1, 3).Draw(t, "size")
		for i := range size {
			from, group := archive.Key(fmt.Sprintf("%d/IMG_%d.JPG", g, i)), archive.Key("")
			names := []archive.Key{archive.Key(fmt.Sprintf("%d/IMG_%d.jpg", g, i)), archive.Key(fmt.Sprintf("%d/img_%d.Jpg", g, i))}
			// Elsewhere nothing proves what a worker renamed that woke late, and a cancelled batch leaves the second link of another name.
			if i > 0 || st.Properties().AtomicRename {
				names = append(names, archive.Key(fmt.Sprintf("n/%d-%d", g, i)))
			}
			to := rapid.SampledFrom(names).Draw(t, "to")
			if size > 1 {
				group = archive.Key(fmt.Sprintf("%d/IMG_0.JPG", g))
			}
			w.addFolded(t, from, to, group)
		}
	}
	w.parkFolded()
	w.seal(t)
	return w
}

// finishFolded carries out the rows of an undo that was cancelled, or where an object was left with two names.
func (w *world) finishFolded(t tester, records map[archive.Key]batch.Record) {
	t.Helper()
	ctx := context.Background()
	for _, row := range w.rows {
		r := records[row.From]
		if r.Outcome == batch.Done || r.Reason != batch.ReasonCancelled && w.archive.Properties().GuardedRename {
			continue
		}
		for e, err := range w.archive.List(ctx, store.ListOptions{}) {
			check(t, err)
			if e.Same(row.Want) {
				check(t, w.archive.Rename(ctx, store.RenameRequest{From: e.Key, To: "hand-" + row.From, Want: row.Want, AssumeSingleWriter: true}))
				check(t, w.archive.Rename(ctx, store.RenameRequest{From: "hand-" + row.From, To: row.To, Want: row.Want, AssumeSingleWriter: true}))
			}
		}
	}
}

// dead lets the n-th rename, and all operations after it, fail; last: that one is carried out.
func (w *world) dead(n int64, last bool) {
	var renames atomic.Int64
	w.archive.before = func(op string, _ archive.Key) error {
		now := renames.Load()
		if op == "rename" {
			now = renames.Add(1)
		}
		if now > n || now == n && !last {
			return errDead
		}
		return nil
	}
	w.archive.after = func(string, archive.Key) error {
		if renames.Load() >= n {
			return errDead
		}
		return nil
	}
}

func (w *world) alive() { w.archive.before, w.archive.after = nil, nil }

func wantContents(t *testing.T, st store.Store, want ...archive.Key) {
	t.Helper()
	names := map[archive.Key]string{"another": "another"}
	for _, key := range want {
		names[key] = "content of " + strings.ToUpper(string(key))
	}
	if diff := cmp.Diff(names, contents(t, st)); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

// An execution dies before or after each of the two renames; the one that follows ends the way, or says truly that the batch was cancelled.
func TestFoldedIsInterrupted(t *testing.T) {
	for name, open := range foldingStores() {
		for renames := int64(1); renames <= 3; renames++ {
			for _, last := range []bool{false, true} {
				for _, cancelled := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%d %t %t", name, renames, last, cancelled), func(t *testing.T) {
						w := folded(t, open(), "A.JPG -> A.jpg", "B.JPG -> B.jpg")
						w.dead(renames, last)
						if err := w.execute(claim{}); err == nil {
							t.Fatal("it did not die")
						}
						w.alive()
						check(t, w.execute(claim{cancelled: cancelled}))
						w.checkWorld(t, nil)
						if !cancelled {
							wantContents(t, w.archive.Store, "A.jpg", "B.jpg")
						}
						check(t, w.planUndo(t).execute(claim{}))
						wantContents(t, w.archive.Store, "A.JPG", "B.JPG")
					})
				}
			}
		}
	}
}

// A batch is undone whose execution died and was never followed.
func TestUndoOfFoldedThatWasNotRecorded(t *testing.T) {
	for name, open := range foldingStores() {
		for renames := int64(1); renames <= 5; renames++ {
			t.Run(fmt.Sprintf("%s/%d", name, renames), func(t *testing.T) {
				w := folded(t, open(), "A.JPG -> A.jpg @ A.JPG", "A.XMP -> A.xmp @ A.JPG", "B.JPG -> B.jpg")
				w.dead(renames, true)
				if err := w.execute(claim{}); err == nil {
					t.Fatal("it did not die")
				}
				w.alive()
				u := w.planUndo(t)
				for _, r := range u.rows {
					if spelled, err := store.Spelled(t.Context(), w.archive.Store, r.To); r.Moves() && (err != nil || spelled[r.To]) {
						t.Errorf("%s is to go to %s, where it is: %v", r.From, r.To, err)
					}
				}
				check(t, u.execute(claim{}))
				wantContents(t, w.archive.Store, "A.JPG", "A.XMP", "B.JPG")
			})
		}
	}
}

// An execution dies before or after any operation. The one that follows ends the way, or says truly that the batch was cancelled, and the
// undo of it brings all back.
func TestFoldedDiesAnywhere(t *testing.T) {
	for name, open := range foldingStores() {
		survived := false
		for left := 1; !survived; left++ {
			for _, last := range []bool{false, true} {
				for _, cancelled := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%d %t %t", name, left, last, cancelled), func(t *testing.T) {
						w := folded(t, open(), "A.JPG -> A.jpg @ A.JPG", "A.XMP -> B.XMP @ A.JPG", "B.JPG -> b.JPG")
						before := contents(t, w.archive.Store)
						if err := w.diesAfter(left, last); err == nil {
							survived = true
							return
						}
						check(t, w.execute(claim{cancelled: cancelled}))
						w.checkWorld(t, nil)
						w.checkGroups(t)
						if !cancelled {
							want := map[archive.Key]string{"A.JPG": "A.jpg", "A.XMP": "B.XMP", "B.JPG": "b.JPG"}
							if diff := cmp.Diff(want, w.outcomes(t)); diff != "" {
								t.Errorf("outcomes (-want +got):\n%s", diff)
							}
						}
						u := w.planUndo(t)
						if len(u.rows) > 0 {
							_ = u.diesAfter(left, last)
							check(t, u.execute(claim{}))
						}
						if diff := cmp.Diff(before, contents(t, w.archive.Store)); diff != "" {
							t.Errorf("archive after the undo (-want +got):\n%s", diff)
						}
					})
				}
			}
		}
	}
}

// diesAfter is an execution that dies after a number of operations; last: the last one is carried out.
func (w *world) diesAfter(left int, last bool) error {
	p := &process{left: left, last: last, lapsesAt: 1 << 30, delays: []int{0}}
	return w.executeOn(claim{held: p.held}, mortal{w.archive.Store, p})
}

// What was all done when the execution died is not taken back since the batch was cancelled meanwhile.
func TestFoldedIsDoneWhenItIsCancelled(t *testing.T) {
	for name, open := range foldingStores() {
		t.Run(name, func(t *testing.T) {
			w := folded(t, open(), "A.JPG -> A.jpg")
			w.dead(2, true)
			if err := w.execute(claim{}); err == nil {
				t.Fatal("it did not die")
			}
			w.alive()
			check(t, w.execute(claim{cancelled: true}))
			if diff := cmp.Diff(map[archive.Key]string{"A.JPG": "A.jpg"}, w.outcomes(t)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			w.checkWorld(t, nil)
		})
	}
}

// Of a group one object has changed when the other one has got its new name: both get their old names.
func TestFoldedGroupIsNotHalved(t *testing.T) {
	for name, open := range foldingStores() {
		t.Run(name, func(t *testing.T) {
			w := folded(t, open(), "A.JPG -> A.jpg @ A.JPG", "A.XMP -> A.xmp @ A.JPG")
			w.dead(4, false) // both have left, and A.JPG has arrived
			if err := w.execute(claim{}); err == nil {
				t.Fatal("it did not die")
			}
			w.alive()
			check(t, w.archive.Replace(t.Context(), "parked-A.XMP", strings.NewReader("changed")))
			check(t, w.execute(claim{}))
			if diff := cmp.Diff(map[archive.Key]string{"A.JPG": "skipped: group", "A.XMP": "failed: changed"}, w.outcomes(t)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			want := map[archive.Key]string{"another": "another", "A.JPG": "content of A.JPG", "parked-A.XMP": "changed"}
			if diff := cmp.Diff(want, contents(t, w.archive.Store)); diff != "" {
				t.Errorf("archive (-want +got):\n%s", diff)
			}
			if message := w.records(t)["A.XMP"].Message; !strings.Contains(message, "parked-A.XMP") {
				t.Errorf("message %q does not say where it is", message)
			}
		})
	}
}

// Somebody takes the name while the object is at the name in between.
func TestFoldedNameIsTaken(t *testing.T) {
	for name, open := range foldingStores() {
		t.Run(name, func(t *testing.T) {
			w := folded(t, open(), "A.JPG -> A.jpg @ A.JPG", "A.XMP -> A.xmp @ A.JPG")
			w.archive.after = func(op string, key archive.Key) error {
				if op == "rename" && key == "A.JPG" {
					return w.archive.Create(t.Context(), "a.jpg", strings.NewReader("foreign"))
				}
				return nil
			}
			check(t, w.execute(claim{}))
			w.alive()
			for key, r := range w.records(t) {
				if strings.Contains(r.Message, "nothing was touched") {
					t.Errorf("%s: %s", key, r.Message)
				}
			}
			want := map[archive.Key]string{"A.JPG": "failed: conflict, at parked-A.JPG", "A.XMP": "failed: conflict, at parked-A.XMP"}
			if diff := cmp.Diff(want, w.outcomes(t)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			w.checkWorld(t, map[archive.Key]string{"a.jpg": "foreign"})
			check(t, w.archive.Delete(t.Context(), "a.jpg", archive.Identity{}))
			check(t, w.planUndo(t).execute(claim{}))
			wantContents(t, w.archive.Store, "A.JPG", "A.XMP")
		})
	}
}

// counted counts listings.
type counted struct {
	store.Store
	lists *atomic.Int64
}

func (c counted) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	c.lists.Add(1)
	return c.Store.List(ctx, opts)
}

// However many objects a folder has, it is listed once to see what was done by an execution that died.
func TestFoldersAreListedOnce(t *testing.T) {
	var moves []string
	for i := range 40 {
		moves = append(moves, fmt.Sprintf("%d/%d.JPG -> %d/%d.jpg", i%2, i, i%2, i))
	}
	w := folded(t, newCard(false), moves...)
	w.dead(20, true)
	if err := w.execute(claim{}); err == nil {
		t.Fatal("it did not die")
	}
	w.alive()
	var lists atomic.Int64
	check(t, w.executeOn(claim{cancelled: true}, counted{w.archive, &lists}))
	w.checkWorld(t, nil)
	if n := lists.Load(); n > 4 {
		t.Errorf("%d listings of two folders", n)
	}
}
