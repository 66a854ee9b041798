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

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// wide is a store that asks for another number of objects at once.
type wide struct {
	store.Store
	parallel int
}

func (w wide) Properties() store.Properties {
	p := w.Store.Properties()
	p.Parallel = w.parallel
	return p
}

// moves of n objects: "00 -> n/00", …
func moves(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%02d -> n/%02d", i, i)
	}
	return out
}

// crowd counts the operations that are under way.
type crowd struct {
	mu            sync.Mutex
	now, most, in int
}

func (c *crowd) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.in++
	c.most = max(c.most, c.now)
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

func TestAsManyUnitsAtOnceAsTheStoreAsksFor(t *testing.T) {
	for _, tt := range []struct {
		parallel int
		group    bool
		want     int
	}{{0, false, 1}, {1, false, 1}, {3, false, 3}, {20, false, 10}, {3, true, 1}} {
		t.Run(fmt.Sprintf("%d/group=%t", tt.parallel, tt.group), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, tt.group, moves(10)...)
				w.archive.Store = wide{w.archive.Store, tt.parallel}
				var c crowd
				w.archive.before = func(op string, key archive.Key) error {
					if op == "rename" {
						c.enter()
						defer c.leave()
						time.Sleep(time.Second)
					}
					return nil
				}
				start := time.Now()
				check(t, w.execute(claim{}))
				if c.most != tt.want {
					t.Errorf("%d moves at once, want %d", c.most, tt.want)
				}
				if took, want := time.Since(start), time.Duration((10+tt.want-1)/tt.want)*time.Second; took != want {
					t.Errorf("10 moves of a second took %v, want %v", took, want)
				}
				w.checkWorld(t, nil)
			})
		})
	}
}

func TestRecordsAreInTheOrderOfTheRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false, append(moves(10), "-stays -> ")...)
		left := 10
		w.archive.before = func(op string, key archive.Key) error {
			if op == "rename" { // the later, the faster
				n := 0
				_, err := fmt.Sscanf(string(key), "%02d", &n)
				check(t, err)
				time.Sleep(time.Duration(left-n) * time.Second)
			}
			return nil
		}
		check(t, w.execute(claim{}))
		var got, want []archive.Key
		for r, err := range w.led.Part(t.Context(), w.ref()) {
			check(t, err)
			got = append(got, r.Key)
		}
		for _, r := range w.rows {
			want = append(want, r.From)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("keys of the records (-want +got):\n%s", diff)
		}
	})
}

// TestAnErrorWaitsForTheOthers: what is in hand is carried on to its end, and nothing else is begun.
func TestAnErrorWaitsForTheOthers(t *testing.T) {
	ends := map[string]func(cancel context.CancelFunc) error{
		"archive unavailable": func(context.CancelFunc) error { return store.ErrUnavailable },
		"cancelled":           func(cancel context.CancelFunc) error { cancel(); return context.Canceled },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(t, false, moves(10)...)
				var c crowd
				var want error
				w.archive.before = func(op string, key archive.Key) error {
					if op != "rename" {
						return nil
					}
					c.enter()
					defer c.leave()
					if key == "01" {
						time.Sleep(time.Second / 2)
						want = end(cancel)
						return want
					}
					time.Sleep(time.Second)
					return nil
				}
				err := w.executeIn(ctx, claim{}, w.archive)
				if !errors.Is(err, want) {
					t.Errorf("Rename = %v, want %v", err, want)
				}
				if c.now != 0 || c.in != 4 {
					t.Errorf("%d moves begun, %d not ended; want the 4 that were in hand, and none", c.in, c.now)
				}
				if n := w.open(t); n != 0 {
					t.Errorf("%d executions are open, want none", n)
				}
				w.archive.before = nil
				check(t, w.execute(claim{}))
				w.checkWorld(t, nil)
			})
		})
	}
}

// TestSeveralMovesThatWakeUp stops a worker right before four moves until its successor has settled the segment: each is
// put where the successor's part says.
func TestSeveralMovesThatWakeUp(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelled=%t", cancelled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, false, moves(6)...)
				var c crowd
				wake := make(chan struct{})
				sleepy := &hooked{Store: w.archive.Store, before: func(op string, key archive.Key) error {
					if op == "rename" && strings.HasPrefix(string(key), "0") {
						c.enter()
						<-wake
					}
					return nil
				}}
				lapsed := func() error {
					select {
					case <-wake:
						return errLapsed
					default:
						return nil
					}
				}
				ended := make(chan error)
				go func() { ended <- w.executeOn(claim{held: lapsed}, sleepy) }()
				synctest.Wait()
				if c.in != 4 {
					t.Errorf("%d moves in hand, want 4", c.in)
				}
				check(t, w.execute(claim{cancelled: cancelled}))
				close(wake)
				if err := <-ended; !errors.Is(err, errLapsed) {
					t.Errorf("Rename = %v, want %v", err, errLapsed)
				}
				w.checkWorld(t, nil)
			})
		})
	}
}

// TestTheWaitForASuccessorOutlivesTheOthers: one move was made after the claim had lapsed, and waits for the part of a
// successor that had looked before. Another unit finds the claim lapsed at once; that must not end the wait.
func TestTheWaitForASuccessorOutlivesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newUnsealed(t, false, "a -> n/a", "b -> n/b", "c -> n/c")
		w.rows[1].Group, w.rows[2].Group = "b", "b"
		w.seal(t)
		lapsed, looked, moved, settle := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
		slow := &hooked{Store: w.archive.Store, after: func(op string, key archive.Key) error {
			if op == "stat" && key == "n/a" { // it has seen that the object is at its old name
				close(looked)
				<-settle
			}
			return nil
		}}
		done := make(chan error, 1)
		sleepy := &hooked{Store: w.archive.Store, before: func(op string, key archive.Key) error {
			switch {
			case op == "rename" && key == "a":
				close(lapsed)
				go func() { done <- w.executeOn(claim{cancelled: true}, slow) }()
				<-looked
			case op == "stat" && key == "b":
				<-moved
			}
			return nil
		}, after: func(op string, key archive.Key) error {
			if op == "rename" && key == "a" {
				close(moved)
			}
			return nil
		}}
		go func() {
			time.Sleep(3 * time.Second)
			close(settle)
		}()
		err := w.executeOn(claim{held: func() error {
			select {
			case <-lapsed:
				return errLapsed
			default:
				return nil
			}
		}}, sleepy)
		if !errors.Is(err, errLapsed) {
			t.Errorf("Rename = %v, want %v", err, errLapsed)
		}
		check(t, <-done)
		w.checkWorld(t, nil)
	})
}

// recorder remembers what was synced.
type recorder struct {
	store.Store
	synced []archive.Key
}

func (r *recorder) Sync(ctx context.Context, keys []archive.Key) error {
	r.synced = append(r.synced, keys...)
	return r.Store.Sync(ctx, keys)
}

func TestTargetsAreSyncedBeforeSources(t *testing.T) {
	w := newWorld(t, false, "a -> n/a", "b -> n/b")
	st := &recorder{Store: w.archive}
	check(t, w.executeOn(claim{}, st))
	slices.Sort(st.synced[:2])
	slices.Sort(st.synced[2:])
	if diff := cmp.Diff([]archive.Key{"n/a", "n/b", "a", "b"}, st.synced); diff != "" {
		t.Errorf("synced (-want +got):\n%s", diff)
	}
}

// TestAPanicIsTheCallers: who handles a task catches panics, which it can only on its own goroutine.
func TestAPanicIsTheCallers(t *testing.T) {
	w := newWorld(t, false, moves(10)...)
	w.archive.before = func(op string, key archive.Key) error {
		if op == "rename" && key == "02" {
			panic("boom")
		}
		return nil
	}
	func() {
		defer func() {
			if said := fmt.Sprint(recover()); !strings.Contains(said, "boom") || !strings.Contains(said, "parallel_test.go") {
				t.Errorf("recovered %s, want boom and where", said)
			}
		}()
		t.Errorf("Rename = %v, want a panic", w.execute(claim{}))
	}()
	if n := w.open(t); n != 0 {
		t.Errorf("%d executions are open, want none", n)
	}
	w.archive.before = nil
	check(t, w.execute(claim{}))
	w.checkWorld(t, nil)
}
