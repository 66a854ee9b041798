package renaming_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// newCircles is a world of one chain: moves "from -> to", those of a group behind "group: ".
func newCircles(t tester, moves ...string) *world {
	t.Helper()
	plain, groups := make([]string, len(moves)), make([]archive.Key, len(moves))
	for i, move := range moves {
		if group, rest, ok := strings.Cut(move, ": "); ok {
			groups[i], move = archive.Key(group), rest
		}
		plain[i] = move
	}
	w := newUnsealed(t, false, plain...)
	for i := range w.rows {
		w.rows[i].Group, w.rows[i].Chain = groups[i], 1
	}
	w.seal(t)
	return w
}

var three = []string{"a -> b", "b -> c", "c -> a"}

func TestCircle(t *testing.T) {
	remove := func(key archive.Key) func(*world) error {
		return func(w *world) error { return w.archive.Delete(context.Background(), key, archive.Identity{}) }
	}
	put := func(key archive.Key) func(*world) error {
		return func(w *world) error {
			return w.archive.Create(context.Background(), key, strings.NewReader("foreign"))
		}
	}
	replace := func(key archive.Key) func(*world) error {
		return func(w *world) error {
			return w.archive.Store.Replace(context.Background(), key, strings.NewReader("foreign"))
		}
	}
	exchanged := func(a, b archive.Key) func(*world) error { // by an execution that died
		return func(w *world) error {
			return blind(context.Background(), w.archive.Store, store.ExchangeRequest{A: a, B: b})
		}
	}
	both := func(all ...func(*world) error) func(*world) error {
		return func(w *world) error {
			for _, do := range all {
				if err := do(w); err != nil {
					return err
				}
			}
			return nil
		}
	}
	failing := func(n int, err error) func(string, archive.Key) error {
		return func(op string, _ archive.Key) error {
			if op != "exchange" {
				return nil
			}
			if n--; n == 0 {
				return fmt.Errorf("exchange: %w", err)
			}
			return nil
		}
	}
	group := []string{"a: a -> b", "a: ax -> bx", "b -> a"}
	tests := map[string]struct {
		moves     []string
		prepare   func(*world) error
		before    func(string, archive.Key) error
		cancelled bool
		want      map[archive.Key]string
	}{
		"two":               {moves: []string{"a -> b", "b -> a"}, want: map[archive.Key]string{"a": "b", "b": "a"}},
		"three":             {moves: three, want: map[archive.Key]string{"a": "b", "b": "c", "c": "a"}},
		"a group and one":   {moves: group, want: map[archive.Key]string{"a": "b", "ax": "bx", "b": "a"}},
		"beside a chain":    {moves: []string{"x -> y", "a -> b", "b -> a", "w -> x"}, want: map[archive.Key]string{"x": "y", "a": "b", "b": "a", "w": "x"}},
		"one waits for it":  {moves: append(slices.Clone(group), "w -> ax"), want: map[archive.Key]string{"a": "b", "ax": "bx", "b": "a", "w": "ax"}},
		"a path and a ring": {moves: []string{"a: a -> b", "a: ax -> bx", "b: b -> c", "b: bx -> cx", "c -> a"}, want: map[archive.Key]string{"a": "b", "ax": "bx", "b": "c", "bx": "cx", "c": "a"}},
		"by groups only":    {moves: []string{"a: a -> b", "a: ax -> n", "b: b -> c", "b: bx -> ax"}, want: map[archive.Key]string{"a": "b", "ax": "n", "b": "c", "bx": "ax"}},
		"one is gone": {
			moves: three, prepare: remove("b"),
			want: map[archive.Key]string{"a": "failed: conflict", "b": "failed: missing", "c": "failed: conflict"},
		},
		"one has changed": {
			moves: three, prepare: replace("b"),
			want: map[archive.Key]string{"a": "failed: conflict", "b": "skipped: changed", "c": "failed: conflict"},
		},
		"a name of its group is taken": {
			moves: append(slices.Clone(group), "w -> ax"), prepare: put("bx"),
			want: map[archive.Key]string{"a": "failed: conflict", "ax": "failed: conflict", "b": "failed: conflict", "w": "failed: conflict"},
		},
		"what it waits for stays": {
			moves: []string{"x -> y", "a: a -> b", "a: ax -> x", "b -> a"}, prepare: put("y"),
			want: map[archive.Key]string{"x": "failed: conflict", "a": "failed: conflict", "ax": "failed: conflict", "b": "failed: conflict"},
		},
		"no permission": {
			moves: three, before: failing(2, store.ErrPermission),
			want: map[archive.Key]string{"a": "failed: conflict", "b": "failed: io", "c": "failed: conflict"},
		},
		"the disk fails, and when it is put back": {
			moves: three, before: func() func(string, archive.Key) error {
				n := 0
				return func(op string, _ archive.Key) error {
					if op == "exchange" {
						n++
					}
					if n > 1 && op == "exchange" {
						return errors.New("input/output error")
					}
					return nil
				}
			}(),
			want: map[archive.Key]string{"a": "failed: conflict, at b", "b": "failed: conflict, at a", "c": "failed: conflict"},
		},
		"cancelled": {
			moves: three, cancelled: true,
			want: map[archive.Key]string{"a": "skipped: cancelled", "b": "skipped: cancelled", "c": "skipped: cancelled"},
		},
		"cancelled half way": {
			moves: three, cancelled: true, prepare: exchanged("a", "b"),
			want: map[archive.Key]string{"a": "skipped: cancelled", "b": "skipped: cancelled", "c": "skipped: cancelled"},
		},
		"cancelled when it was done": {
			moves: []string{"a -> b", "b -> a"}, cancelled: true, prepare: exchanged("a", "b"),
			want: map[archive.Key]string{"a": "b", "b": "a"},
		},
		"half way": {moves: three, prepare: exchanged("a", "b"), want: map[archive.Key]string{"a": "b", "b": "c", "c": "a"}},
		"half way another way": {
			moves: three, prepare: exchanged("a", "c"), want: map[archive.Key]string{"a": "b", "b": "c", "c": "a"},
		},
		"half way, and one is gone": {
			moves: three, prepare: both(exchanged("a", "b"), remove("c")),
			want: map[archive.Key]string{"a": "failed: conflict", "b": "failed: conflict", "c": "failed: missing"},
		},
		"half way, and one was removed at its new name": {
			moves: three, prepare: both(exchanged("a", "b"), remove("b")),
			want: map[archive.Key]string{"a": "failed: missing", "b": "failed: conflict", "c": "failed: conflict"},
		},
		"half way, and something has its new name": {
			moves: three, prepare: both(exchanged("a", "b"), replace("b")),
			want: map[archive.Key]string{"a": "failed: missing", "b": "failed: conflict, at a", "c": "failed: conflict"},
		},
		"unknown to the kernel": {
			moves: []string{"a -> b", "b -> a"}, before: failing(1, store.ErrUnsupported),
			want: map[archive.Key]string{"a": "failed: unsupported", "b": "failed: conflict"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newCircles(t, tt.moves...)
			if tt.prepare != nil {
				check(t, tt.prepare(w))
			}
			w.archive.before = tt.before
			check(t, w.execute(claim{cancelled: tt.cancelled}))
			if diff := cmp.Diff(tt.want, w.outcomes(t)); diff != "" {
				t.Errorf("records differ (-want +got):\n%s", diff)
			}
			foreign := map[archive.Key]string{}
			for k, v := range contents(t, w.archive.Store) {
				if v == "foreign" {
					foreign[k] = v
				}
			}
			w.checkWorld(t, foreign)
			w.checkCulprit(t)
		})
	}
}

// checkCulprit: a record of one that could not move because of another one names that.
func (w *world) checkCulprit(t *testing.T) {
	t.Helper()
	records := w.records(t)
	for key, r := range records {
		if !strings.Contains(r.Message, "in a circle") {
			continue
		}
		named := false
		for other, why := range records {
			because, _, _ := strings.Cut(why.Message, ";")
			named = named || why.Outcome != batch.Done && other != key && strings.Contains(r.Message, string(other)+" could not be renamed: "+because)
		}
		if !named {
			t.Errorf("the record of %s does not say which one could not be renamed, and why: %s", key, r.Message)
		}
	}
}

// A store that cannot exchange names refuses a circle, and the rest of the chain is carried out. Likewise where a rename takes two steps, and
// where one writer is assumed.
func TestCircleWithoutExchange(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"no exchange":   func(w *world) { w.archive.Store = withoutExchange{w.archive.Store} },
		"two steps":     func(w *world) { w.archive.Store = seen{w.archive.Store, false} },
		"single writer": func(w *world) { w.batch.AssumeSingleWriter = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newCircles(t, "a -> b", "b -> a", "x -> y")
			prepare(w)
			check(t, w.execute(claim{}))
			want := map[archive.Key]string{"a": "failed: unsupported", "b": "failed: unsupported", "x": "y"}
			if diff := cmp.Diff(want, w.outcomes(t)); diff != "" {
				t.Errorf("records differ (-want +got):\n%s", diff)
			}
			w.checkWorld(t, nil)
		})
	}
}

type withoutExchange struct{ store.Store }

func (s withoutExchange) Properties() store.Properties {
	p := s.Store.Properties()
	p.Exchange = false
	return p
}

// A worker dies when a circle is done, or half way, and somebody writes to one of its objects in place. It is known by its inode, is not moved any
// more, and the records say where all are. The undo finds it as it was recorded, and gives all their names back.
func TestTouchedInCircle(t *testing.T) {
	for name, tt := range map[string]struct {
		moves  []string
		before string // the operation before which the worker dies
		touch  string
		want   map[archive.Key]string
	}{
		"done": {
			[]string{"a -> b", "b -> a"}, "sync", "b",
			map[archive.Key]string{"a": "failed: changed, at b", "b": "a"},
		},
		"half way": {
			three, "exchange", "b",
			map[archive.Key]string{"a": "failed: changed, at b", "b": "failed: conflict, at a", "c": "failed: conflict"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := files(t, false, tt.moves...)
			exchanges := 0
			w.archive.before = func(op string, _ archive.Key) error {
				if op == "exchange" {
					exchanges++
				}
				if op == tt.before && (op != "exchange" || exchanges > 1) {
					return store.ErrUnavailable
				}
				return nil
			}
			if err := w.execute(claim{}); !errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("got %v, want the death of the worker", err)
			}
			w.archive.before = nil
			check(t, os.Chtimes(filepath.Join(dir, tt.touch), time.Time{}, time.Unix(2e9, 0)))
			check(t, w.execute(claim{}))
			if diff := cmp.Diff(tt.want, w.outcomes(t)); diff != "" {
				t.Errorf("records differ (-want +got):\n%s", diff)
			}
			got := contents(t, w.archive.Store)
			for key, r := range w.records(t) {
				if at := whereIs(r); got[at] != "content of "+string(key) {
					t.Errorf("the record of %s says that it is at %s; there is %q", key, at, got[at])
				}
			}
			w.undoes(t)
		})
	}
}

// Objects that cannot be told apart are not exchanged, whatever the plan says.
func TestLinksInCircle(t *testing.T) {
	w := newUnsealed(t, false, three...)
	for i := range w.rows {
		w.rows[i].Chain = 1
	}
	w.rows[2].Want.Inode = w.rows[0].Want.Inode
	w.seal(t)
	check(t, w.execute(claim{}))
	want := map[archive.Key]string{"a": "failed: unsupported", "b": "failed: unsupported", "c": "failed: unsupported"}
	if diff := cmp.Diff(want, w.outcomes(t)); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	w.checkWorld(t, nil)
}

// whereIs is where the object of a record is.
func whereIs(r batch.Record) archive.Key {
	if r.To != "" {
		return r.To
	}
	return r.Key
}

// A circle is durable when its segment is recorded: all names of it were synced, also those that an earlier execution exchanged.
func TestCircleIsSynced(t *testing.T) {
	for _, before := range []bool{false, true} {
		w := newCircles(t, three...)
		if before {
			w.diesAt(t, "sync", "")
		}
		st := &recorder{Store: w.archive}
		check(t, w.executeOn(claim{}, st))
		for _, key := range []archive.Key{"a", "b", "c"} {
			if !slices.Contains(st.synced, key) {
				t.Errorf("executed before %t: %s was not synced", before, key)
			}
		}
	}
}

// A worker is stopped at any of its operations on a circle, also between an exchange and the look at it, until its successor has
// settled the segment. What it did late is as the records say when it has ended.
func TestStoppedInCircle(t *testing.T) {
	circles := map[string][]string{
		"two": {"a -> b", "b -> a"}, "three": three, "four": {"c -> d", "a -> b", "d -> a", "b -> c"},
		"groups": {"a: a -> b", "a: ax -> bx", "a: ay -> by", "b: b -> a", "b: bx -> ax"},
	}
	for name, moves := range circles {
		for _, cancelled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/cancelled=%t", name, cancelled), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for at, reached := 1, true; reached; at++ {
						w := newCircles(t, moves...)
						led, st := w.led, w.archive.Store
						var failure error
						p := &process{left: 1 << 30, lapsesAt: 1 << 30, at: at, delays: []int{0}}
						p.between = func() {
							w.led = led
							failure = w.execute(claim{cancelled: cancelled})
						}
						w.led = ledger.New(mortal{led.Store(), p})
						_ = w.executeOn(claim{held: p.held}, mortal{st, p})
						w.led = led
						check(t, failure)
						if reached = p.overtaken; !reached {
							return
						}
						w.checkWorld(t, nil)
						w.undoes(t)
						if t.Failed() {
							t.Fatalf("stopped before operation %d", at)
						}
					}
				})
			})
		}
	}
}

// A worker is stopped right before an exchange that its successor makes, and wakes. The successor records it much later than anybody waits for:
// the exchange was made twice, and is taken back.
func TestLateExchangeAndSlowSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCircles(t, "a -> b", "b -> a")
		looked, recorded, settle := make(chan struct{}), make(chan error), make(chan struct{})
		slow := &hooked{Store: w.archive.Store, before: func(op string, _ archive.Key) error {
			if op == "sync" {
				close(looked)
				<-settle
			}
			return nil
		}}
		p := &process{left: 1 << 30, lapsesAt: 1 << 30, delays: []int{0}}
		sleepy := mortal{w.archive.Store, p}
		overtake := &hooked{Store: w.archive.Store}
		overtake.before = func(op string, _ archive.Key) error {
			if op == "exchange" && !p.overtaken { // both objects were looked at
				p.overtaken = true
				go func() { recorded <- w.executeOn(claim{}, slow) }()
				<-looked
			}
			return nil
		}
		sleepy.Store = overtake
		led := w.led
		twin := w.twin(100, led)
		if err := twin.executeOn(claim{held: p.held}, sleepy); !errors.Is(err, errLapsed) {
			t.Errorf("Rename = %v, want %v", err, errLapsed)
		}
		close(settle)
		check(t, <-recorded)
		w.checkWorld(t, nil)
	})
}

// undoes undoes the batch; then every object has its name again.
func (w *world) undoes(t *testing.T) {
	t.Helper()
	over := func(context.Context, ledger.Execution) (bool, error) { return true, nil }
	u := &world{archive: w.archive, led: w.led, batch: batch.Batch{ID: idB, Kind: batch.Undo, Undoes: idA}}
	check(t, planning.Undo(t.Context(), claim{}, w.led, w.archive.Store, u.batch, 1, over, func(string) {}))
	var err error
	u.plan, _, err = w.led.Plan(t.Context(), idB)
	check(t, err)
	if len(u.plan.Segments) > 0 {
		u.rows, err = w.led.PlanRows(t.Context(), u.plan, 0)
		check(t, err)
		check(t, u.execute(claim{}))
		u.records(t)
	}
	for key, content := range contents(t, w.archive.Store) {
		if content != "another" && content != "content of "+string(key) {
			t.Errorf("after the undo %s holds %q", key, content)
		}
	}
}

// TestTwins runs an execution whose claim has lapsed beside its successor, each operation of one between any of the other, and
// then a third beside them. In the end the records are true.
func TestTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(t *rapid.T) {
			w := &world{archive: &hooked{Store: memstore.New(archive.Root{})}, led: ledger.New(memstore.New(archive.Root{})), batch: batch.Batch{ID: idA}}
			check(t, w.archive.Create(context.Background(), "another", strings.NewReader("another")))
			w.drawCircles(t)
			w.seal(t)
			type twin struct {
				process *process
				lapse   time.Duration
			}
			draw := func(label string) twin {
				return twin{
					&process{left: 1 << 30, lapsesAt: 1 << 30, delays: rapid.SliceOfN(rapid.IntRange(0, 20), 1, 30).Draw(t, label+" delays")},
					time.Duration(rapid.IntRange(0, 200).Draw(t, label+" lapses after")) * time.Millisecond,
				}
			}
			last, twins := draw("the last"), []twin{draw("first"), draw("second")}[:rapid.IntRange(1, 2).Draw(t, "lapsed executions")]
			cancelled := rapid.Bool().Draw(t, "cancelled")
			ended := make(chan error)
			run := func(i int, tw twin, hold claim) error {
				other := w.twin(int64(100*i), ledger.New(mortal{w.led.Store(), tw.process}))
				return other.executeOn(hold, mortal{w.archive.Store, tw.process})
			}
			for i, tw := range twins {
				lapsed := time.Now().Add(tw.lapse)
				go func() {
					ended <- run(i, tw, claim{held: func() error {
						if time.Now().Before(lapsed) {
							return nil
						}
						return errLapsed
					}})
				}()
				time.Sleep(tw.lapse)
			}
			err := run(len(twins), last, claim{cancelled: cancelled})
			for range twins {
				<-ended
			}
			check(t, err)
			w.checkWorld(t, nil)
			w.checkGroups(t)
		})
	})
}
