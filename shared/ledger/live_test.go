package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/embedded"
	"github.com/reshelf/reshelf/shared/queue/redistest"
)

// onEachRedis runs a test on a real Redis and on the one that is embedded on a laptop.
func onEachRedis(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	t.Run("redis", func(t *testing.T) { test(t, redistest.Start(t).Client()) })
	t.Run("embedded", func(t *testing.T) {
		s, err := embedded.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		test(t, s.Client())
	})
}

const liveID batch.ID = "01jd0000000000000000000000"

// liveState is the live state of one batch.
type liveState struct {
	*ledger.Live
	t      *testing.T
	redis  redis.UniversalClient
	batch  batch.Batch
	status batch.Status
}

func newLive(t *testing.T, client redis.UniversalClient) *liveState {
	t.Helper()
	live, err := ledger.NewLive(client, "reshelf")
	if err != nil {
		t.Fatal(err)
	}
	root, err := archive.FileRoot("/archive")
	if err != nil {
		t.Fatal(err)
	}
	b := batch.Batch{V: batch.Version, ID: liveID, Kind: batch.Inspect, Archive: root, Pool: "default", Priority: batch.Normal, Submitted: time.Unix(1_700_000_000, 0)}
	l := &liveState{Live: live, t: t, redis: client, batch: b, status: b.Initial()}
	l.must(live.Announce(t.Context(), b, l.status))
	return l
}

func (l *liveState) ctx() context.Context { return l.t.Context() }

func (l *liveState) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// grow makes segments known up to n, of 10 objects and 100 bytes each.
func (l *liveState) grow(n int) {
	l.t.Helper()
	for i := range n {
		l.must(l.Grow(l.ctx(), ledger.Header{Ref: l.ref(i), Objects: 10, Bytes: 100, Excluded: 1}))
	}
}

func (l *liveState) ref(segment int) batch.Ref {
	return batch.Ref{Batch: l.batch.ID, Step: batch.StepInspect, Generation: 1, Segment: segment}
}

func (l *liveState) dispatch(room int) []batch.Task {
	l.t.Helper()
	tasks, err := l.Dispatch(l.ctx(), l.batch.ID, batch.StepInspect, 1, room)
	l.must(err)
	return tasks
}

func (l *liveState) claim(t batch.Task) ledger.Claim {
	l.t.Helper()
	c, err := l.Claim(l.ctx(), t, "worker")
	l.must(err)
	return c
}

func (l *liveState) beat(s ledger.Sign) ledger.Verdict {
	l.t.Helper()
	v, err := l.Beat(l.ctx(), l.batch.ID, []ledger.Sign{s})
	l.must(err)
	return v[0]
}

// event brings Redis to the status after e.
func (l *liveState) event(e batch.Event) (over bool) {
	l.t.Helper()
	e.N = l.status.Event + 1
	next, err := l.status.Apply(e)
	l.must(err)
	l.status = next
	over, err = l.Apply(l.ctx(), l.batch.ID, next)
	l.must(err)
	return over
}

func (l *liveState) progress() ledger.Progress {
	l.t.Helper()
	p, err := l.Progress(l.ctx(), l.batch.ID)
	l.must(err)
	return p
}

// judge judges with limits of zero: whatever is older than a millisecond is judged.
func (l *liveState) judge(lim ledger.Limits) []ledger.Judgement {
	l.t.Helper()
	l.tick()
	seen, _, err := l.Steady(l.ctx(), time.Minute)
	l.must(err)
	lim.Seen, lim.Silence = seen, time.Minute
	found, err := l.Reconcile(l.ctx(), l.batch.ID, lim)
	l.must(err)
	return found
}

// tick waits until Redis's clock has gone on by two milliseconds.
func (l *liveState) tick() {
	l.t.Helper()
	from, err := l.redis.Time(l.ctx()).Result()
	l.must(err)
	for {
		at, err := l.redis.Time(l.ctx()).Result()
		l.must(err)
		if at.Sub(from) > 2*time.Millisecond {
			return
		}
	}
}

func segmentsOf(tasks []batch.Task) []string {
	out := []string{}
	for _, t := range tasks {
		out = append(out, fmt.Sprintf("%d#%d", t.Segment, t.Attempt))
	}
	return out
}

func (l *liveState) wantTasks(got []batch.Task, want ...string) {
	l.t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), segmentsOf(got)); diff != "" {
		l.t.Fatalf("tasks (-want +got):\n%s", diff)
	}
}

func (l *liveState) wantStale(task batch.Task) {
	l.t.Helper()
	if c, err := l.Claim(l.ctx(), task, "worker"); !errors.Is(err, ledger.ErrStale) {
		l.t.Fatalf("claim of %s attempt %d = %+v, %v; want ErrStale", task.Ref(), task.Attempt, c, err)
	}
}

const (
	hour  = time.Hour
	never = 24 * time.Hour
)

func TestLiveAnnounce(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(2)
		l.must(l.Announce(l.ctx(), l.batch, l.status)) // changes nothing
		p := l.progress()
		want := ledger.StepProgress{Known: 2, Total: -1}
		if got := p.Steps[batch.StepInspect]; got != want {
			t.Errorf("inspect step = %+v, want %+v", got, want)
		}
		if p.ListedObjects != 20 || p.ListedBytes != 200 || p.ListedExcluded != 2 {
			t.Errorf("listed %d objects, %d bytes, %d excluded; want 20, 200, 2", p.ListedObjects, p.ListedBytes, p.ListedExcluded)
		}
		if p.Status.State != batch.Inspecting || p.Pool != "default" || !p.Submitted.Equal(l.batch.Submitted) {
			t.Errorf("progress = %+v", p)
		}
		active, err := l.Active(l.ctx())
		l.must(err)
		if !slices.Equal(active, []batch.ID{liveID}) {
			t.Errorf("active = %v, want only %s", active, liveID)
		}
	})
}

func TestLiveGrowIgnoresWhatIsKnown(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(3)
		l.grow(2)
		l.must(l.Grow(l.ctx(), ledger.Header{Ref: l.ref(7), Objects: 10}))
		if p := l.progress(); p.Steps[batch.StepInspect].Known != 3 || p.ListedObjects != 30 {
			t.Errorf("known = %d with %d objects, want 3 with 30", p.Steps[batch.StepInspect].Known, p.ListedObjects)
		}
	})
}

func TestLiveDispatch(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(5)
		first := l.dispatch(2)
		l.wantTasks(first, "0#1", "1#1")
		l.wantTasks(l.dispatch(2))
		l.wantTasks(l.dispatch(3), "2#1")
		l.must(l.Release(l.ctx(), l.claim(first[0]), false))
		l.wantTasks(l.dispatch(4), "0#2", "3#1") // given back first
		_, err := l.Settle(l.ctx(), l.ref(4), batch.Counts{Done: 10})
		l.must(err)
		l.wantTasks(l.dispatch(9)) // settled before it was dispatched
	})
}

func TestLiveDispatchPassesAnyNumberOfSettledSegments(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		const settled = 30_003
		_, err := l.Seal(l.ctx(), liveID, batch.StepInspect, settled+2)
		l.must(err)
		bits := strings.Repeat("\xff", settled/8) + string([]byte{^byte(0xff >> (settled % 8))})
		l.must(client.Set(l.ctx(), "reshelf:{"+string(liveID)+"}:settled:inspect:1", bits, 0).Err())
		l.wantTasks(l.dispatch(9), fmt.Sprintf("%d#1", settled), fmt.Sprintf("%d#1", settled+1))
	})
}

func TestLiveClaim(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(2)
		task := l.dispatch(1)[0]
		undispatched, other, generation := task, task, task
		undispatched.Segment, other.Attempt, generation.Generation = 1, 2, 2
		for _, stale := range []batch.Task{undispatched, other, generation} {
			l.wantStale(stale)
		}
		c := l.claim(task)
		if c.Epoch <= 0 || len(c.Suspects) != 0 || c.Failures != 0 || c.Cancelled {
			t.Errorf("claim = %+v, want a fresh one", c)
		}
		l.wantStale(task)
		_, err := l.Settle(l.ctx(), task.Ref(), batch.Counts{})
		l.must(err)
		l.wantStale(task)
	})
}

func TestLiveEpochsGrowWhenRedisForgets(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		var last int64
		for range 3 {
			l := newLive(t, client)
			l.grow(2)
			for _, task := range l.dispatch(2) {
				c := l.claim(task)
				if c.Epoch <= last {
					t.Fatalf("epoch %d after epoch %d", c.Epoch, last)
				}
				last = c.Epoch
			}
			l.must(client.FlushAll(l.ctx()).Err())
		}
	})
}

func TestLiveBeat(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(2)
		c := l.claim(l.dispatch(1)[0])
		if v := l.beat(ledger.Sign{Claim: c, Objects: 3, Bytes: 30}); v != ledger.Held {
			t.Errorf("beat = %s, want %s", v, ledger.Held)
		}
		if w := l.progress().Window; len(w) != 1 || w[0].Objects != 3 || w[0].Bytes != 30 || w[0].Epoch != c.Epoch {
			t.Errorf("window = %+v, want 3 objects of 30 bytes in hand", w)
		}
		other := c
		other.Epoch++
		if v := l.beat(ledger.Sign{Claim: other}); v != ledger.LostHold {
			t.Errorf("beat of another epoch = %s, want %s", v, ledger.LostHold)
		}
		l.event(batch.Event{Kind: batch.EventCancel})
		if v := l.beat(ledger.Sign{Claim: c}); v != ledger.Stop {
			t.Errorf("beat in a cancelled batch = %s, want %s", v, ledger.Stop)
		}
	})
}

func TestLiveSettleCountsOnce(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(1)
		c := l.claim(l.dispatch(1)[0])
		counts := batch.Counts{Done: 7, Skipped: 2, Failed: 1, Bytes: 100}
		for range 3 {
			over, err := l.Settle(l.ctx(), c.Ref(), counts)
			l.must(err)
			if over {
				t.Error("over before the step is sealed")
			}
		}
		want := ledger.StepProgress{Known: 1, Total: -1, Settled: 1, Counts: counts}
		if got := l.progress().Steps[batch.StepInspect]; got != want {
			t.Errorf("inspect step = %+v, want %+v", got, want)
		}
		over, err := l.Seal(l.ctx(), liveID, batch.StepInspect, 1)
		l.must(err)
		if !over {
			t.Error("not over, though sealed and settled")
		}
		if v := l.beat(ledger.Sign{Claim: c}); v != ledger.LostHold {
			t.Errorf("beat after settling = %s, want %s", v, ledger.LostHold)
		}
	})
}

func TestLiveSettleOfABatchThatRedisDoesNotKnow(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.must(client.FlushAll(l.ctx()).Err())
		_, err := l.Settle(l.ctx(), l.ref(0), batch.Counts{Done: 1})
		l.must(err)
		if n := client.DBSize(l.ctx()).Val(); n != 0 {
			t.Errorf("%d keys were left, want none", n)
		}
	})
}

func TestLiveNothingStaysOfAForgottenBatch(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(2)
		c := l.claim(l.dispatch(1)[0])
		l.event(batch.Event{Kind: batch.EventAdvance, To: batch.FailedState})
		l.must(l.Forget(l.ctx(), l.batch))
		// A worker that has not heard of it settles, gives back and renews.
		_, err := l.Settle(l.ctx(), c.Ref(), batch.Counts{Done: 1})
		l.must(err)
		l.must(l.Release(l.ctx(), c, true))
		l.beat(ledger.Sign{Claim: c})
		keys, err := client.Keys(l.ctx(), "*").Result()
		l.must(err)
		for _, k := range keys {
			if ttl := client.TTL(l.ctx(), k).Val(); ttl <= 0 {
				t.Errorf("key %s has no time to live", k)
			}
		}
	})
}

func TestLiveRelease(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(1)
		c := l.claim(l.dispatch(1)[0])
		l.must(l.Release(l.ctx(), c, false))
		l.must(l.Release(l.ctx(), c, true)) // not held any more
		next := l.claim(l.dispatch(1)[0])
		if next.Attempt != 2 || next.Failures != 0 || len(next.Suspects) != 0 {
			t.Errorf("claim = %+v, want attempt 2 without failures and suspects", next)
		}
		if next.Epoch <= c.Epoch {
			t.Errorf("epoch %d after %d", next.Epoch, c.Epoch)
		}
	})
}

func TestLiveFailedSegmentWaitsInItsPlace(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(3)
		c := l.claim(l.dispatch(1)[0])
		released := time.Now()
		l.must(l.Release(l.ctx(), c, true))
		l.wantTasks(l.dispatch(1)) // its place is taken while it waits
		l.wantTasks(l.dispatch(2), "1#1")
		var again []batch.Task
		for len(again) == 0 {
			again = l.dispatch(2)
			if time.Since(released) > 30*time.Second {
				t.Fatal("it never was dispatched again")
			}
		}
		l.wantTasks(again, "0#2")
		if waited := time.Since(released); waited < 900*time.Millisecond {
			t.Errorf("dispatched again after %v, want a second", waited)
		}
		if c := l.claim(again[0]); c.Failures != 1 {
			t.Errorf("failures = %d, want 1", c.Failures)
		}
	})
}

func TestLiveResumeForgetsFailures(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(1)
		l.must(l.Release(l.ctx(), l.claim(l.dispatch(1)[0]), true))
		l.event(batch.Event{Kind: batch.EventPause})
		l.wantTasks(l.dispatch(1))
		l.event(batch.Event{Kind: batch.EventResume})
		tasks := l.dispatch(1) // at once: a person has seen to it
		l.wantTasks(tasks, "0#2")
		if c := l.claim(tasks[0]); c.Failures != 0 {
			t.Errorf("failures = %d, want 0", c.Failures)
		}
	})
}

func TestLiveReconcile(t *testing.T) {
	for _, tc := range []struct {
		name     string
		sign     *ledger.Sign // nil: none was sent
		limits   ledger.Limits
		kind     string
		suspects map[int]int
	}{
		{"died at once", nil, ledger.Limits{Progress: never, Queued: never}, "died", map[int]int{}},
		{"died between objects", &ledger.Sign{}, ledger.Limits{Progress: never, Queued: never}, "died", map[int]int{}},
		{"died with objects in hand", &ledger.Sign{InHand: []int{3, 17}}, ledger.Limits{Progress: never, Queued: never}, "died", map[int]int{3: 0, 17: 0}},
		{"died with one alone", &ledger.Sign{InHand: []int{3}, Alone: true}, ledger.Limits{Progress: never, Queued: never}, "died", map[int]int{3: 1}},
		{"stuck", &ledger.Sign{InHand: []int{0}}, ledger.Limits{Stale: never, Queued: never}, "stuck", map[int]int{0: 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
				l := newLive(t, client)
				l.grow(1)
				c := l.claim(l.dispatch(1)[0])
				if tc.sign != nil {
					s := *tc.sign
					s.Claim = c
					l.beat(s)
				}
				want := []ledger.Judgement{{Kind: tc.kind, Step: batch.StepInspect, Segment: 0, Attempt: 1, Worker: "worker"}}
				if diff := cmp.Diff(want, l.judge(tc.limits)); diff != "" {
					t.Fatalf("judgement (-want +got):\n%s", diff)
				}
				if found := l.judge(tc.limits); len(found) != 0 {
					t.Errorf("judged again: %+v", found)
				}
				if v := l.beat(ledger.Sign{Claim: c}); v != ledger.LostHold {
					t.Errorf("beat of the judged = %s, want %s", v, ledger.LostHold)
				}
				if diff := cmp.Diff(tc.suspects, l.claim(l.dispatch(1)[0]).Suspects); diff != "" {
					t.Errorf("suspects (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLiveReconcileJudgesNobodyAfterASilence(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(1)
		c := l.claim(l.dispatch(1)[0])
		seen, _, err := l.Steady(l.ctx(), time.Minute)
		l.must(err)
		l.tick()
		if _, err := l.Reconcile(l.ctx(), liveID, ledger.Limits{Seen: seen}); !errors.Is(err, ledger.ErrSilent) {
			t.Errorf("reconcile = %v, want ErrSilent", err)
		}
		if v := l.beat(ledger.Sign{Claim: c}); v != ledger.Held {
			t.Errorf("beat = %s, want %s: nobody was judged", v, ledger.Held)
		}
	})
}

func TestLiveRequeue(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(1)
		task := l.dispatch(1)[0]
		found := l.judge(ledger.Limits{Stale: hour, Progress: hour})
		if len(found) != 1 || found[0].Kind != "queued" {
			t.Fatalf("found = %+v, want one that is queued", found)
		}
		l.must(l.Requeue(l.ctx(), liveID, found[0], true))
		l.wantTasks(l.dispatch(1))
		l.must(l.Requeue(l.ctx(), liveID, found[0], false))
		l.wantTasks(l.dispatch(1), "0#2")
		l.must(l.Requeue(l.ctx(), liveID, found[0], false)) // of an attempt that is past
		l.wantTasks(l.dispatch(1))
		l.wantStale(task)
	})
}

func TestLiveApply(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.grow(4)
		tasks := l.dispatch(2)
		l.event(batch.Event{Kind: batch.EventPause, Reason: "by hand"})
		l.wantStale(tasks[0]) // and is to be dispatched again
		l.wantTasks(l.dispatch(9))
		paused := l.status
		l.event(batch.Event{Kind: batch.EventResume})
		_, err := l.Apply(l.ctx(), liveID, paused) // an event that is past changes nothing
		l.must(err)
		l.wantTasks(l.dispatch(2), "0#2")
		held := l.claim(tasks[1])
		if over := l.event(batch.Event{Kind: batch.EventCancel}); over {
			t.Error("over while a segment is in hand")
		}
		l.wantTasks(l.dispatch(9)) // what nobody claimed is dropped
		over, err := l.Settle(l.ctx(), held.Ref(), batch.Counts{Skipped: 10})
		l.must(err)
		if !over {
			t.Error("not over, though nothing is in hand")
		}
		l.event(batch.Event{Kind: batch.EventAdvance, To: batch.Finishing})
		finish, err := l.Dispatch(l.ctx(), liveID, batch.StepFinish, 1, 1)
		l.must(err)
		l.wantTasks(finish, "0#1")
		if c := l.claim(finish[0]); c.Cancelled {
			t.Error("the finish step of a cancelled batch is told to stop")
		}
	})
}

func TestLiveApplyToABatchThatRedisDoesNotKnow(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		l.must(client.FlushAll(l.ctx()).Err())
		if _, err := l.Apply(l.ctx(), liveID, l.status); !errors.Is(err, ledger.ErrNotLive) {
			t.Errorf("apply = %v, want ErrNotLive", err)
		}
		if _, err := l.Head(l.ctx(), liveID); !errors.Is(err, ledger.ErrNotLive) {
			t.Errorf("head = %v, want ErrNotLive", err)
		}
	})
}

func TestLiveSteady(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		const key = "reshelf:{lock}:steady"
		steady := func() time.Duration {
			t.Helper()
			_, d, err := l.Steady(l.ctx(), 4*time.Second)
			l.must(err)
			return d
		}
		// ago sets what is known as if the notes had been made so long ago.
		ago := func(since, last time.Duration) {
			t.Helper()
			at, _, err := l.Steady(l.ctx(), time.Hour)
			l.must(err)
			l.must(client.HSet(l.ctx(), key, "since", at.Add(-since).UnixMilli(), "last", at.Add(-last).UnixMilli()).Err())
		}
		if got := steady(); got != 0 {
			t.Errorf("steady for %v at the first note, want 0", got)
		}
		ago(time.Minute, 3*time.Second)
		if got := steady(); got < time.Minute {
			t.Errorf("steady for %v after notes for a minute, want that", got)
		}
		ago(time.Minute, 5*time.Second)
		if got := steady(); got != 0 {
			t.Errorf("steady for %v after a gap of 5 s, want 0", got)
		}
		ago(time.Minute, -time.Minute)
		if got := steady(); got != 0 {
			t.Errorf("steady for %v by a clock that was set back, want 0", got)
		}
	})
}

func TestLiveLock(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		take := func(owner string, d time.Duration) bool {
			t.Helper()
			ok, err := l.Lock(l.ctx(), "reconciler", owner, d)
			l.must(err)
			return ok
		}
		if !take("a", hour) || take("b", hour) || !take("a", 20*time.Millisecond) {
			t.Fatal("a lock must be its owner's until it lapses")
		}
		for start := time.Now(); !take("b", hour); {
			if time.Since(start) > 30*time.Second {
				t.Fatal("the lock never lapsed")
			}
		}
	})
}

func TestLiveWorkers(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		l := newLive(t, client)
		for _, id := range []string{"a", "b", "c"} {
			l.must(l.Register(l.ctx(), ledger.Worker{ID: id, Slots: 2}))
		}
		l.must(l.Deregister(l.ctx(), "b"))
		l.must(client.ZAdd(l.ctx(), "reshelf:{workers}:at", redis.Z{Score: 1, Member: "c"}).Err()) // silent since 1970
		workers, err := l.Workers(l.ctx())
		l.must(err)
		if len(workers) != 1 || workers[0].ID != "a" || workers[0].Slots != 2 || workers[0].Silent > time.Minute {
			t.Errorf("workers = %+v, want only a", workers)
		}
		if info := client.HKeys(l.ctx(), "reshelf:{workers}:info").Val(); !slices.Equal(info, []string{"a"}) {
			t.Errorf("kept of %v, want only of a", info)
		}
	})
}

// window counts the entries of a window by state.
func windowStates(p ledger.Progress) map[string]int {
	out := map[string]int{}
	for _, e := range p.Window {
		out[e.State]++
	}
	return out
}
