package listing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store"
)

// move is what a schedule does with a lister that is about to create a segment or the seal.
type move int

const (
	goOn       move = iota
	killBefore      // it dies before the creation
	killAfter       // it dies after the creation, before it knows of it
)

var errKilled = errors.New("killed")

// gate stops a lister at each creation in the ledger until it is told how to go on.
type gate struct {
	store.Store
	arrived func() move
	dead    bool
}

func (g *gate) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if !strings.Contains(string(key), "/segments/") {
		return g.Store.Create(ctx, key, body)
	}
	m := g.arrived()
	if m == killBefore || g.dead {
		g.dead = true
		return errKilled
	}
	err := g.Store.Create(ctx, key, body)
	if m == killAfter {
		g.dead = true
		return errKilled
	}
	return err
}

// contender is one of the listers that are at work on one batch.
type contender struct {
	st        store.Store
	opts      listing.Options
	cancelled func() bool
}

type outcome struct {
	total int
	told  []int
	err   error
}

// eager is a store that asks about every folder at once, and twice, as one that reads ahead may.
type eager struct{ store.Store }

func (e eager) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	for range 2 {
		for entry, err := range e.Store.List(ctx, store.ListOptions{}) {
			if err != nil {
				break
			}
			for dir := entry.Key.Dir(); dir != ""; dir = dir.Dir() {
				opts.Skip(dir, true)
			}
		}
	}
	return e.Store.List(ctx, opts)
}

// interleave runs listers on one batch, of which only one moves at a time: from creation to creation, as pick says.
// pick gets the listers that wait at a creation, and chooses one and what becomes of it.
func interleave(t *testing.T, st store.Store, b batch.Batch, listers []contender, pick func(waiting []int) (int, move)) []outcome {
	t.Helper()
	outcomes := make([]outcome, len(listers))
	type message struct {
		lister int
		done   bool
	}
	messages := make(chan message)
	resume := make([]chan move, len(listers))
	var running sync.WaitGroup
	for i, c := range listers {
		resume[i] = make(chan move)
		g := &gate{Store: st, arrived: func() move { messages <- message{lister: i}; return <-resume[i] }}
		running.Go(func() {
			o := &outcomes[i]
			o.total, o.err = listing.List(t.Context(), &claim{cancelled: c.cancelled}, ledger.New(g), c.st, b, c.opts, tell(&o.told))
			messages <- message{i, true}
		})
	}
	var waiting []int
	for moving := len(listers); moving > 0 || len(waiting) > 0; {
		if moving == 0 {
			slices.Sort(waiting)
			i, m := pick(waiting)
			waiting = slices.DeleteFunc(waiting, func(w int) bool { return w == i })
			resume[i] <- m
			moving++
		}
		got := <-messages
		moving--
		if !got.done {
			waiting = append(waiting, got.lister)
		}
	}
	running.Wait()
	return outcomes
}

// explore calls run with every schedule that there is: run asks choose at each branch, and explore takes them all in turn.
func explore(t *testing.T, run func(choose func(n int) int)) int {
	t.Helper()
	var path, width []int
	for runs := 1; ; runs++ {
		depth := 0
		run(func(n int) int {
			if depth == len(path) {
				path, width = append(path, 0), append(width, n)
			}
			depth++
			return path[depth-1]
		})
		path, width = path[:depth], width[:depth]
		for len(path) > 0 && path[len(path)-1] == width[len(width)-1]-1 {
			path, width = path[:len(path)-1], width[:len(width)-1]
		}
		if len(path) == 0 {
			return runs
		}
		path[len(path)-1]++
	}
}

func photos() []string {
	return []string{
		".x/1", "a", "b/.y", "b/1", "b/2", "b/@eaDir/1", "b-", "c/d/1:9", "c/d/2", "e", "f\xff", "g/Thumbs.db", "h",
	}
}

// wanted are the keys of photos that are listed, in order; four things are excluded.
func wanted() []string { return []string{"a", "b-", "b/1", "b/2", "c/d/1", "c/d/2", "e", "f\xff", "h"} }

const wantedExcluded = 4

// agree checks that all listers that lived tell of the same list, from its start to its end.
func agree(t *testing.T, outcomes []outcome, total int) {
	t.Helper()
	for i, o := range outcomes {
		if errors.Is(o.err, errKilled) {
			if !slices.Equal(o.told, upTo(len(o.told))) {
				t.Errorf("lister %d told of %v before it was killed", i, o.told)
			}
			continue
		}
		if o.err != nil || o.total != total || !slices.Equal(o.told, upTo(total)) {
			t.Errorf("lister %d: total %d, %v, told of %v; want all of %d", i, o.total, o.err, o.told, total)
		}
	}
}

// wholeArchive checks that the list is exactly the archive.
func wholeArchive(t *testing.T, segs []batch.Segment) {
	t.Helper()
	if diff := cmp.Diff(wanted(), keysOf(segs)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if got := excludedIn(segs); got != wantedExcluded {
		t.Errorf("excluded = %d, want %d", got, wantedExcluded)
	}
}

func TestTwoListersAtEveryPoint(t *testing.T) {
	cuts := [][2]listing.Options{
		{{Objects: 3, Parallel: 1}, {Objects: 3, Parallel: 1}},
		{{Objects: 2, Parallel: 2}, {Objects: 4, Parallel: 1}},
		{{Objects: 100}, {Objects: 3, Parallel: 2}},
	}
	for n, opts := range cuts {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			st, b := newArchive(t, photos()...), newBatch(t)
			runs := explore(t, func(choose func(int) int) {
				led := newLedger(t)
				listers := []contender{{st: st, opts: opts[0]}, {st: eager{st}, opts: opts[1]}}
				outcomes := interleave(t, led.Store(), b, listers, func(waiting []int) (int, move) {
					return waiting[choose(len(waiting))], goOn
				})
				segs := segments(t, led, b.ID)
				wholeArchive(t, segs)
				agree(t, outcomes, len(segs))
			})
			t.Logf("%d schedules", runs)
			if runs < 10 {
				t.Errorf("only %d schedules were explored", runs)
			}
		})
	}
}

func TestListerKilledAtEveryPoint(t *testing.T) {
	st, b := newArchive(t, photos()...), newBatch(t)
	for _, m := range []move{killBefore, killAfter} {
		for point := range 20 {
			led := newLedger(t)
			creations := 0
			first := interleave(t, led.Store(), b, []contender{{st: st, opts: listing.Options{Objects: 2, Parallel: 1}}},
				func([]int) (int, move) {
					creations++
					if creations == point+1 {
						return 0, m
					}
					return 0, goOn
				})
			if creations <= point {
				return // the kill came after its end
			}
			if !errors.Is(first[0].err, errKilled) {
				t.Fatalf("err = %v, want %v", first[0].err, errKilled)
			}
			total, told, err := list(t, led, st, b, listing.Options{Objects: 3, Parallel: 1})
			agree(t, []outcome{first[0], {total, told, err}}, total)
			wholeArchive(t, segments(t, led, b.ID))
		}
	}
}

// TestListersInAnyOrder draws schedules of three listers with different cuts, which are killed and replaced.
func TestListersInAnyOrder(t *testing.T) {
	st, b := newArchive(t, photos()...), newBatch(t)
	for seed := range uint64(80) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		led := newLedger(t)
		for alive := false; !alive; {
			listers := make([]contender, 3)
			for i := range listers {
				opts := listing.Options{Objects: 1 + rnd.IntN(4), Parallel: 1 + rnd.IntN(8), Bytes: 1 + rnd.Int64N(12)}
				listers[i] = contender{st: st, opts: opts}
			}
			outcomes := interleave(t, led.Store(), b, listers, func(waiting []int) (int, move) {
				m := goOn
				if rnd.IntN(4) == 0 {
					m = move(rnd.IntN(3))
				}
				return waiting[rnd.IntN(len(waiting))], m
			})
			alive = slices.ContainsFunc(outcomes, func(o outcome) bool { return o.err == nil })
			if alive {
				segs := segments(t, led, b.ID)
				wholeArchive(t, segs)
				agree(t, outcomes, len(segs))
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestListersOfChangingArchive: each lister sees another archive, and one is cancelled somewhere. What all of them see is
// in the list unless it was cancelled, nothing is in it twice, and all agree on where it ends.
func TestListersOfChangingArchive(t *testing.T) {
	views := []store.Store{
		newArchive(t, photos()...),
		newArchive(t, append(photos(), "0", "b/1.5", "zz")...),
		newArchive(t, slices.DeleteFunc(photos(), func(k string) bool { return k == "h" || k == "b/2" })...),
	}
	stable := slices.DeleteFunc(wanted(), func(k string) bool { return k == "h" || k == "b/2" })
	b := newBatch(t)
	for seed := range uint64(80) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		led := newLedger(t)
		cancelAt := rnd.IntN(60) // beyond 30 or so, never
		asked := 0
		cancelled := func() bool { asked++; return asked > cancelAt }
		listers := make([]contender, len(views))
		for i, st := range views {
			listers[i] = contender{st: st, opts: listing.Options{Objects: 1 + rnd.IntN(4), Parallel: 1 + rnd.IntN(4)}}
		}
		if seed%2 == 0 {
			listers[0].cancelled = cancelled
		}
		outcomes := interleave(t, led.Store(), b, listers, func(waiting []int) (int, move) {
			return waiting[rnd.IntN(len(waiting))], goOn
		})
		segs := segments(t, led, b.ID)
		agree(t, outcomes, len(segs))
		keys := keysOf(segs)
		if asked <= cancelAt || seed%2 != 0 {
			for _, key := range stable {
				if !slices.Contains(keys, key) {
					t.Errorf("%q is lost", key)
				}
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d: %q", seed, keys)
		}
	}
}
