package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

const id batch.ID = "01jd0000000000000000000000"

// carrier keeps what is enqueued, so that a test decides what becomes of each task.
type carrier struct {
	mu     sync.Mutex
	tasks  []batch.Task
	prio   []batch.Priority
	broken error
}

func (c *carrier) EnqueueAll(_ context.Context, _ string, p batch.Priority, tasks []batch.Task) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	for _, t := range tasks {
		c.tasks, c.prio = append(c.tasks, t), append(c.prio, p)
	}
	return nil
}

func (c *carrier) Waiting(_ context.Context, _ string, _ batch.Priority, t batch.Task) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.tasks, t), nil
}

// take removes and returns everything enqueued for a step, in order.
func (c *carrier) take(step batch.Step) []batch.Task {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out, rest []batch.Task
	for _, t := range c.tasks {
		if t.Step == step {
			out = append(out, t)
		} else {
			rest = append(rest, t)
		}
	}
	c.tasks = rest
	return out
}

// world is one Redis, one ledger and a carrier.
type world struct {
	t      *testing.T
	redis  *redistest.Server
	ledger *ledger.Ledger
	queue  *carrier
	flow   *flow.Flow
	log    *slog.Logger
}

func newWorld(t *testing.T) *world {
	t.Helper()
	st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	w := &world{t: t, redis: redistest.Start(t), ledger: ledger.New(st), queue: &carrier{}, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	w.flow = w.newFlow()
	return w
}

func (w *world) newFlow() *flow.Flow {
	live, err := ledger.NewLive(w.redis.Client(), "reshelf")
	w.must(err)
	return flow.New(w.ledger, live, w.queue, w.log)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) ctx() context.Context { return w.t.Context() }

func (w *world) batch(kind batch.Kind) batch.Batch {
	root, err := archive.FileRoot("/archive")
	w.must(err)
	b := batch.Batch{
		V: batch.Version, ID: id, Kind: kind, Archive: root, Level: batch.LevelNone, Pool: "default", Priority: batch.Normal,
		Submitted: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
	}
	if kind == batch.Rename {
		b.Renaming = &batch.RenameOptions{Template: "{name}{ext}", OnConflict: batch.ConflictStop}
	}
	return b
}

func (w *world) submit(kind batch.Kind) batch.Batch {
	w.t.Helper()
	b := w.batch(kind)
	w.must(w.flow.Submit(w.ctx(), b))
	return b
}

func (w *world) claim(t batch.Task) (*flow.Execution, error) {
	return flow.NewClaims(w.flow.Live(), "worker", w.log).Take(w.ctx(), t)
}

func (w *world) mustClaim(t batch.Task) *flow.Execution {
	w.t.Helper()
	x, err := w.claim(t)
	w.must(err)
	return x
}

// list makes n segments of the inspect step as a lister does, and settles the list step.
func (w *world) list(b batch.Batch, n int) {
	w.t.Helper()
	tasks := w.queue.take(batch.StepList)
	if len(tasks) != 1 {
		w.t.Fatalf("list tasks = %v, want one", tasks)
	}
	x := w.mustClaim(tasks[0])
	for i := range n {
		ref := batch.Ref{Batch: b.ID, Step: batch.StepInspect, Generation: 1, Segment: i}
		o := batch.Listed{Object: archive.Object{Key: archive.Key("k" + string(rune('a'+i))), Identity: archive.Identity{Size: 10}}}
		h, err := w.ledger.CreateSegment(w.ctx(), ref, batch.Segment{Objects: []batch.Listed{o}})
		w.must(err)
		w.must(w.flow.Made(w.ctx(), b, h))
	}
	w.must(w.ledger.Seal(w.ctx(), b.ID, batch.StepInspect, 1, n))
	w.must(w.flow.Sealed(w.ctx(), b, n))
	w.finish(b, x, nil)
}

// finish writes the part of an execution and settles it.
func (w *world) finish(b batch.Batch, x *flow.Execution, records []batch.Record) {
	w.t.Helper()
	w.must(w.flow.Settle(w.ctx(), b, w.part(x, records)))
}

func (w *world) part(x *flow.Execution, records []batch.Record) ledger.Header {
	w.t.Helper()
	pw, err := ledger.NewPartWriter(x.Claim.Ref(), x.Claim.Epoch)
	w.must(err)
	defer pw.Close()
	for _, r := range records {
		w.must(pw.Add(r))
	}
	h, _, err := w.ledger.CreatePart(w.ctx(), pw)
	w.must(err)
	return h
}

func done(key string) []batch.Record {
	return []batch.Record{{Object: archive.Object{Key: archive.Key(key), Identity: archive.Identity{Size: 10}}, Outcome: batch.Done}}
}

func (w *world) status() batch.Status {
	w.t.Helper()
	b, err := w.ledger.Batch(w.ctx(), id)
	w.must(err)
	s, err := w.ledger.Status(w.ctx(), b)
	w.must(err)
	return s
}

func (w *world) progress() ledger.Progress {
	w.t.Helper()
	p, err := w.flow.Live().Progress(w.ctx(), id)
	w.must(err)
	return p
}

// drain does all inspect work there is.
func (w *world) drain(b batch.Batch, step batch.Step) int {
	w.t.Helper()
	n := 0
	for {
		tasks := w.queue.take(step)
		if len(tasks) == 0 {
			return n
		}
		for _, t := range tasks {
			w.finish(b, w.mustClaim(t), done("k"))
			n++
		}
	}
}

// age makes every entry of the window look silent for d longer.
func (w *world) age(d time.Duration) {
	w.t.Helper()
	key := "reshelf:{" + string(id) + "}:window"
	for f, raw := range w.redis.Client().HGetAll(w.ctx(), key).Val() {
		var e map[string]any
		dec := json.NewDecoder(strings.NewReader(raw))
		dec.UseNumber()
		w.must(dec.Decode(&e))
		for _, k := range []string{"t", "pt"} {
			if n, ok := e[k].(json.Number); ok {
				ms, err := n.Float64()
				w.must(err)
				e[k] = ms - float64(d.Milliseconds())
			}
		}
		aged, err := json.Marshal(e)
		w.must(err)
		w.must(w.redis.Client().HSet(w.ctx(), key, f, aged).Err())
	}
}

func (w *world) reconciler(owner string) *flow.Reconciler {
	return flow.NewReconciler(w.flow, owner, w.log, nil)
}

const steadyKey = "reshelf:{lock}:steady"

// note does what a worker's reconciler does each second.
func (w *world) note() {
	w.t.Helper()
	_, _, err := w.flow.Live().Steady(w.ctx(), 4*time.Second)
	w.must(err)
}

// steady makes Redis look as if it had answered somebody all the time for 16 s.
func (w *world) steady() {
	w.t.Helper()
	w.note()
	w.must(w.redis.Client().HIncrBy(w.ctx(), steadyKey, "since", -16_000).Err())
}

// silent makes Redis look as if it had answered nobody for d.
func (w *world) silent(d time.Duration) {
	w.t.Helper()
	w.age(d)
	for _, f := range []string{"since", "last"} {
		w.must(w.redis.Client().HIncrBy(w.ctx(), steadyKey, f, -d.Milliseconds()).Err())
	}
}

// steadyRound lets a reconciler judge, as if Redis had been steady for long enough.
func (w *world) steadyRound(r *flow.Reconciler) {
	w.t.Helper()
	w.steady()
	w.must(r.Once(w.ctx()))
}

func TestInspectBatchRunsToItsEnd(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 5)
	if got := w.drain(b, batch.StepInspect); got != 5 {
		t.Errorf("inspected %d segments, want 5", got)
	}
	if got := w.status().State; got != batch.Finishing {
		t.Fatalf("state = %s, want finishing", got)
	}
	if p := w.progress().Steps[batch.StepInspect]; p.Settled != 5 || p.Counts.Done != 5 || p.Counts.Bytes != 50 {
		t.Errorf("inspect progress = %+v, want 5 settled, 5 done, 50 bytes", p)
	}
	w.drain(b, batch.StepFinish)
	if got := w.status().State; got != batch.Complete {
		t.Errorf("state = %s, want complete", got)
	}
	if active, err := w.flow.Live().Active(w.ctx()); err != nil || len(active) != 0 {
		t.Errorf("active = %v, %v; want none", active, err)
	}
}

func TestEmptyArchiveEnds(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 0)
	w.drain(b, batch.StepFinish)
	if got := w.status().State; got != batch.Complete {
		t.Errorf("state = %s, want complete", got)
	}
}

func TestATaskGivesOneClaimOnly(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	task := w.queue.take(batch.StepInspect)[0]
	x := w.mustClaim(task)
	for _, when := range []string{"doubled", "delayed"} {
		if _, err := w.claim(task); !errors.Is(err, ledger.ErrStale) {
			t.Errorf("%s task: claim = %v, want ErrStale", when, err)
		}
		if when == "doubled" {
			w.finish(b, x, done("ka"))
		}
	}
	task.Attempt = 2
	if _, err := w.claim(task); !errors.Is(err, ledger.ErrStale) {
		t.Errorf("task of another attempt: claim = %v, want ErrStale", err)
	}
}

func TestASegmentIsCountedOnce(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 2)
	x := w.mustClaim(w.queue.take(batch.StepInspect)[0])
	h := w.part(x, done("ka"))
	for range 3 {
		w.must(w.flow.Settle(w.ctx(), b, h))
	}
	if p := w.progress().Steps[batch.StepInspect]; p.Settled != 1 || p.Counts.Done != 1 {
		t.Errorf("progress = %+v, want 1 settled, 1 done", p)
	}
}

func TestLoserSettlesFromTheWinnersPart(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	zombie := w.mustClaim(w.queue.take(batch.StepInspect)[0])
	w.age(10 * time.Second)
	w.steadyRound(w.reconciler("other"))
	successor := w.mustClaim(w.queue.take(batch.StepInspect)[0])
	if successor.Claim.Epoch <= zombie.Claim.Epoch {
		t.Errorf("epoch %d after %d, want it greater", successor.Claim.Epoch, zombie.Claim.Epoch)
	}
	w.part(successor, append(done("ka"), done("kb")...))
	h := w.part(zombie, done("ka"))
	if h.Counts.Done != 2 || h.Epoch != successor.Claim.Epoch {
		t.Errorf("loser's header = %+v, want the winner's with 2 done", h)
	}
}

func TestDeadWorkersSegmentIsDispatchedAgainFirst(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 5) // the window holds 2
	tasks := w.queue.take(batch.StepInspect)
	dead := w.mustClaim(tasks[0])
	w.queue.tasks = tasks[1:] // the other still waits
	w.must(w.beatOnce(dead, 3))
	w.age(10 * time.Second)
	w.steadyRound(w.reconciler("other"))
	again := w.queue.take(batch.StepInspect)[1:]
	if len(again) != 1 || again[0].Segment != tasks[0].Segment || again[0].Attempt != 2 {
		t.Fatalf("dispatched %+v, want segment %d, attempt 2", again, tasks[0].Segment)
	}
	x := w.mustClaim(again[0])
	if kills, ok := x.Claim.Suspects[3]; !ok || kills != 0 {
		t.Errorf("suspects = %v, want object 3 with no kill: it was not alone", x.Claim.Suspects)
	}
}

// The others have seen Redis steady, and the one that has the lock has just started.
func TestAWorkerThatJustStartedJudges(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	dead := w.queue.take(batch.StepInspect)[0]
	w.mustClaim(dead)
	w.steady()
	w.age(10 * time.Second)
	w.must(w.reconciler("just started").Once(w.ctx()))
	if got := w.queue.take(batch.StepInspect); len(got) != 1 || got[0].Attempt != 2 {
		t.Errorf("dispatched %+v in the first round, want attempt 2 of %+v", got, dead)
	}
}

// Every worker notes that Redis answers, whether it has the lock or not.
func TestAllWorkersNoteThatRedisAnswers(t *testing.T) {
	w := newWorld(t)
	if mine, err := w.flow.Live().Lock(w.ctx(), "reconciler", "another", time.Hour); err != nil || !mine {
		t.Fatalf("lock = %v, %v", mine, err)
	}
	ctx, cancel := context.WithCancel(w.ctx())
	ended := make(chan struct{})
	go func() { defer close(ended); w.reconciler("worker").Run(ctx) }()
	defer func() { cancel(); <-ended }()
	last := func() string { return w.redis.Client().HGet(w.ctx(), steadyKey, "last").Val() }
	waitFor(t, 10*time.Second, "the first note", func() bool { return last() != "" })
	first := last()
	waitFor(t, 4*time.Second, "another note", func() bool { return last() != first })
}

// A worker dies, and with it half of the slots: the window of those that are left is full.
func TestASegmentToBeDispatchedAgainNeedsNoRoom(t *testing.T) {
	w := newWorld(t)
	left := ledger.Worker{ID: "left", Pools: []string{"default"}, Slots: 1}
	w.must(w.flow.Live().Register(w.ctx(), left))
	w.must(w.flow.Live().Register(w.ctx(), ledger.Worker{ID: "dies", Pools: left.Pools, Slots: 3}))
	w.must(w.flow.Observe(w.ctx()))
	b := w.submit(batch.Inspect)
	w.list(b, 20)
	tasks := w.queue.take(batch.StepInspect)
	if len(tasks) != 8 {
		t.Fatalf("%d tasks enqueued for 4 slots, want 8", len(tasks))
	}
	for _, task := range tasks[:3] {
		w.mustClaim(task)
	}
	w.age(10 * time.Second)
	w.queue.tasks = slices.Clone(tasks[3:]) // they wait
	w.must(w.flow.Live().Deregister(w.ctx(), "dies"))
	w.steadyRound(w.reconciler("left"))
	var got, want []string
	for _, task := range w.queue.take(batch.StepInspect)[5:] {
		got = append(got, fmt.Sprintf("%d#%d", task.Segment, task.Attempt))
	}
	for _, task := range tasks[:3] {
		want = append(want, fmt.Sprintf("%d#2", task.Segment))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("dispatched %v, want %v", got, want)
	}
}

// beatOnce sends one sign of life with an object in hand.
func (w *world) beatOnce(x *flow.Execution, index int) error {
	return w.beat(x, index, false)
}

func (w *world) beat(x *flow.Execution, index int, alone bool) error {
	v, err := w.flow.Live().Beat(w.ctx(), id, []ledger.Sign{{Claim: x.Claim, InHand: []int{index}, Alone: alone}})
	if err == nil && v[0] != ledger.Held {
		err = errors.New("verdict " + string(v[0]))
	}
	return err
}

func TestOnlyAnObjectHandledAloneIsGuilty(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	for want := range 3 {
		x := w.mustClaim(w.queue.take(batch.StepInspect)[0])
		if want > 0 && x.Claim.Suspects[7] != want-1 {
			t.Errorf("attempt %d: suspects = %v, want object 7 with %d kills", x.Claim.Attempt, x.Claim.Suspects, want-1)
		}
		w.must(w.beat(x, 7, want > 0))
		w.age(10 * time.Second)
		w.steadyRound(w.reconciler("other"))
	}
}

// inHand is what the last sign of life of the only segment says.
func (w *world) inHand() (hand string, alone bool) {
	w.t.Helper()
	raw, err := w.redis.Client().HGet(w.ctx(), "reshelf:{"+string(id)+"}:window", "inspect/0").Result()
	w.must(err)
	var e struct {
		H string
		L int
	}
	w.must(json.Unmarshal([]byte(raw), &e))
	return e.H, e.L == 1
}

func TestEveryObjectInHandIsSuspect(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	for _, tc := range []struct {
		name  string
		work  func(x *flow.Execution)
		hand  string
		alone bool
		want  map[int]int // suspects, with how often each killed alone
	}{
		{"several", func(x *flow.Execution) {
			x.Begin(3, false)
			x.Begin(5, false)
			x.Begin(12, false)
			x.Finish(5)
			x.Finish(7) // never begun
		}, "[3,12]", false, map[int]int{3: 0, 12: 0}},
		{"alone", func(x *flow.Execution) {
			x.Begin(5, false)
			x.Finish(5)
			x.Begin(3, true)
		}, "[3]", true, map[int]int{3: 1, 12: 0}},
		{"alone, and another", func(x *flow.Execution) {
			x.Begin(3, true)
			x.Begin(7, false)
		}, "[3,7]", false, map[int]int{3: 1, 7: 0, 12: 0}},
		{"another, and alone", func(x *flow.Execution) {
			x.Begin(12, false)
			x.Begin(3, true)
			x.Finish(3)
		}, "[12]", false, map[int]int{3: 1, 7: 0, 12: 0}},
		{"none any more", func(x *flow.Execution) {
			x.Begin(3, true)
			x.Finish(3)
		}, "[]", false, map[int]int{3: 1, 7: 0, 12: 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claims := flow.NewClaims(w.flow.Live(), "worker", w.log)
			x, err := claims.Take(w.ctx(), w.queue.take(batch.StepInspect)[0])
			w.must(err)
			tc.work(x)
			ctx, cancel := context.WithCancel(w.ctx())
			ended := make(chan struct{})
			go func() { defer close(ended); claims.Run(ctx) }()
			waitFor(t, 10*time.Second, "a sign of life", func() bool { hand, _ := w.inHand(); return hand != "" })
			cancel()
			<-ended
			if hand, alone := w.inHand(); hand != tc.hand || alone != tc.alone {
				t.Errorf("in hand: %s, alone %t; want %s, %t", hand, alone, tc.hand, tc.alone)
			}
			w.age(10 * time.Second)
			w.steadyRound(w.reconciler("other"))
			again := w.queue.take(batch.StepInspect)
			w.queue.tasks = again
			next := w.mustClaim(again[0])
			if diff := cmp.Diff(tc.want, next.Claim.Suspects); diff != "" {
				t.Errorf("suspects (-want +got):\n%s", diff)
			}
			w.must(w.flow.Live().Release(w.ctx(), next.Claim, false))
			w.queue.take(batch.StepInspect)
			w.must(w.flow.Sync(w.ctx(), id))
		})
	}
}

func TestOneOutageDoesNotConvictTheFleet(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	x := w.mustClaim(w.queue.take(batch.StepInspect)[0])
	r := w.reconciler("worker")
	w.steadyRound(r)
	w.silent(45 * time.Second)
	w.must(r.Once(w.ctx()))
	if got := w.queue.take(batch.StepInspect); len(got) != 0 {
		t.Fatalf("dispatched %+v right after the outage", got)
	}
	w.must(w.beatOnce(x, 0)) // the worker comes back and renews
	w.steadyRound(r)
	if got := w.queue.take(batch.StepInspect); len(got) != 0 {
		t.Errorf("dispatched %+v although the worker renewed its claim", got)
	}
}

func TestStuckSegmentIsDispatchedAgain(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	x := w.mustClaim(w.queue.take(batch.StepInspect)[0])
	w.age(31 * time.Minute)
	w.must(w.beatOnce(x, 0)) // alive, but no progress
	w.steadyRound(w.reconciler("other"))
	if got := w.queue.take(batch.StepInspect); len(got) != 1 {
		t.Errorf("dispatched %+v, want the stuck segment", got)
	}
}

func TestLostEnqueueIsRepeatedAndAWaitingTaskIsNot(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 2)
	lost := w.queue.take(batch.StepInspect)
	w.queue.tasks = append(w.queue.tasks, lost[1]) // one still waits, the other was never enqueued
	w.age(time.Minute)
	w.steadyRound(w.reconciler("other"))
	got := w.queue.take(batch.StepInspect)
	want := []batch.Task{lost[1], {V: 1, Batch: id, Step: batch.StepInspect, Generation: 1, Segment: lost[0].Segment, Attempt: 2}}
	if !slices.Equal(got, want) {
		t.Errorf("queue holds %+v, want %+v", got, want)
	}
}

func TestTheWindowBoundsWhatIsEnqueued(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 20)
	if got := len(w.queue.tasks); got != 2 {
		t.Errorf("%d tasks enqueued without a worker, want 2", got)
	}
	w.must(w.flow.Live().Register(w.ctx(), ledger.Worker{ID: "w", Pools: []string{"default"}, Slots: 3}))
	w.must(w.flow.Observe(w.ctx()))
	w.must(w.flow.Sync(w.ctx(), id))
	if got := len(w.queue.tasks); got != 6 {
		t.Errorf("%d tasks enqueued for 3 slots, want 6", got)
	}
	if got := w.drain(b, batch.StepInspect); got != 20 {
		t.Errorf("inspected %d segments, want 20", got)
	}
}

func TestPauseActsWithinOneSegment(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 5)
	tasks := w.queue.take(batch.StepInspect)
	x := w.mustClaim(tasks[0])
	w.decide(batch.EventPause)
	if _, err := w.claim(tasks[1]); !errors.Is(err, ledger.ErrStale) {
		t.Errorf("claim while paused = %v, want ErrStale", err)
	}
	w.finish(b, x, done("ka")) // what is in hand ends normally
	if got := w.queue.take(batch.StepInspect); len(got) != 0 {
		t.Fatalf("enqueued %+v while paused", got)
	}
	w.decide(batch.EventResume)
	if got := w.drain(b, batch.StepInspect); got != 4 {
		t.Errorf("inspected %d segments after resume, want 4", got)
	}
}

func (w *world) decide(kind batch.EventKind) {
	w.t.Helper()
	_, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: kind})
	w.must(err)
}

func TestPriorityActsOnTheNextSegments(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 3)
	_, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventPriority, Priority: batch.Critical})
	w.must(err)
	for _, t := range w.queue.take(batch.StepInspect) {
		w.finish(b, w.mustClaim(t), done("k"))
	}
	if got := w.queue.prio[len(w.queue.prio)-1]; got != batch.Critical {
		t.Errorf("last task enqueued with priority %s, want critical", got)
	}
}

func TestCancelWaitsForWhatIsInHand(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 5)
	tasks := w.queue.take(batch.StepInspect)
	x := w.mustClaim(tasks[0])
	w.decide(batch.EventCancel)
	if got := w.status().State; got != batch.Inspecting {
		t.Fatalf("state = %s with a segment in hand, want inspecting", got)
	}
	if _, err := w.claim(tasks[1]); !errors.Is(err, ledger.ErrStale) {
		t.Errorf("claim of a dropped task = %v, want ErrStale", err)
	}
	v, err := w.flow.Live().Beat(w.ctx(), id, []ledger.Sign{{Claim: x.Claim}})
	if err != nil || v[0] != ledger.Stop {
		t.Errorf("beat = %v, %v; want it to say stop", v, err)
	}
	w.finish(b, x, done("ka"))
	w.drain(b, batch.StepFinish)
	if got := w.status().State; got != batch.Cancelled {
		t.Errorf("state = %s, want cancelled", got)
	}
}

func TestCancelDispatchesWhatADeadWorkerHad(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 2)
	w.mustClaim(w.queue.take(batch.StepInspect)[0])
	w.decide(batch.EventCancel)
	w.age(10 * time.Second)
	w.steadyRound(w.reconciler("other"))
	again := w.queue.take(batch.StepInspect)
	if len(again) != 1 {
		t.Fatalf("dispatched %+v, want the dead worker's segment", again)
	}
	x := w.mustClaim(again[0])
	if !x.Cancelled() {
		t.Error("the claim does not say that the batch is cancelled")
	}
	w.finish(b, x, nil)
	if got := w.status().State; got != batch.Finishing {
		t.Errorf("state = %s, want finishing", got)
	}
}

func TestDecisionsAreDurableBeforeRedisHears(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 5)
	// A process wrote the event and died before it told Redis.
	w.must(w.ledger.CreateEvent(w.ctx(), id, batch.Event{N: 1, Kind: batch.EventPause, At: time.Now()}))
	w.must(w.reconciler("other").Once(w.ctx()))
	if !w.progress().Status.Paused {
		t.Error("the reconciler did not bring Redis up to the ledger")
	}
}

func TestABatchWhoseSubmitterDiesIsFound(t *testing.T) {
	w := newWorld(t)
	b := w.batch(batch.Inspect)
	w.must(w.flow.Live().Expect(w.ctx(), b.ID))
	r := w.reconciler("other")
	w.must(r.Once(w.ctx()))
	w.must(w.ledger.CreateBatch(w.ctx(), b)) // and then the submitter died
	w.must(r.Once(w.ctx()))
	w.list(b, 1)
	w.drain(b, batch.StepInspect)
	w.drain(b, batch.StepFinish)
	if got := w.status().State; got != batch.Complete {
		t.Errorf("state = %s, want complete", got)
	}
}

func TestABatchThatIsNeverWrittenIsForgotten(t *testing.T) {
	w := newWorld(t)
	w.must(w.flow.Live().Expect(w.ctx(), id))
	r := w.reconciler("other")
	w.must(r.Once(w.ctx()))
	w.must(w.redis.Client().Del(w.ctx(), "reshelf:{"+string(id)+"}:expected").Err()) // its time is over
	w.must(r.Once(w.ctx()))
	if active, err := w.flow.Live().Active(w.ctx()); err != nil || len(active) != 0 {
		t.Errorf("active = %v, %v; want none", active, err)
	}
}

func TestTheLoserOfARaceOfDecisionsDecidesAnew(t *testing.T) {
	w := newWorld(t)
	w.submit(batch.Inspect)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = w.newFlow().Decide(w.ctx(), id, batch.Event{Kind: batch.EventPause}) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, batch.ErrTransition) {
			t.Errorf("decide = %v, want ErrTransition", err)
		}
	}
	if won != 1 || w.status().Event != 1 {
		t.Errorf("%d pauses won, %d events; want one of each", won, w.status().Event)
	}
}

func (w *world) sealPlan(b batch.Batch, rows ...batch.Row) string {
	w.t.Helper()
	seg, err := w.ledger.WritePlanRows(w.ctx(), b.ID, 1, 0, rows)
	w.must(err)
	p := batch.Plan{Batch: b.ID, Epoch: 1, Segments: []batch.PlanSegment{seg}, Summary: batch.PlanSummary{Rows: int64(len(rows)), Moves: seg.Moves}}
	w.must(w.ledger.SealPlan(w.ctx(), p))
	_, digest, err := w.ledger.Plan(w.ctx(), b.ID)
	w.must(err)
	return digest
}

// planned brings a rename batch to its approval.
func (w *world) planned() (batch.Batch, string) {
	w.t.Helper()
	b := w.submit(batch.Rename)
	w.list(b, 1)
	w.drain(b, batch.StepInspect)
	x := w.mustClaim(w.queue.take(batch.StepPlan)[0])
	digest := w.sealPlan(b, batch.Row{From: "ka", To: "kz"})
	w.finish(b, x, nil)
	if got := w.status().State; got != batch.AwaitingApproval {
		w.t.Fatalf("state = %s, want awaiting-approval", got)
	}
	return b, digest
}

func TestOnlyThePlanThatWasSeenIsApproved(t *testing.T) {
	w := newWorld(t)
	b, digest := w.planned()
	_, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventApprove, Plan: strings.Repeat("0", 64)})
	if !errors.Is(err, flow.ErrOtherPlan) {
		t.Fatalf("approve another digest = %v, want ErrOtherPlan", err)
	}
	_, err = w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventApprove, Plan: digest})
	w.must(err)
	w.drain(b, batch.StepRename)
	w.drain(b, batch.StepFinish)
	if s := w.status(); s.State != batch.Complete || s.Approved != digest {
		t.Errorf("status = %+v, want complete with that plan", s)
	}
}

func TestRedisIsDisposable(t *testing.T) {
	stages := map[string]func(w *world) batch.Batch{
		"nothing listed": func(w *world) batch.Batch { return w.submit(batch.Rename) },
		"half inspected": func(w *world) batch.Batch {
			b := w.submit(batch.Rename)
			w.list(b, 4)
			w.finish(b, w.mustClaim(w.queue.take(batch.StepInspect)[0]), done("ka"))
			return b
		},
		"inspected, plan claimed": func(w *world) batch.Batch {
			b := w.submit(batch.Rename)
			w.list(b, 1)
			w.drain(b, batch.StepInspect)
			w.mustClaim(w.queue.take(batch.StepPlan)[0])
			return b
		},
		"awaiting approval": func(w *world) batch.Batch { b, _ := w.planned(); return b },
		"approved": func(w *world) batch.Batch {
			b, digest := w.planned()
			_, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventApprove, Plan: digest})
			w.must(err)
			return b
		},
		"cancelled": func(w *world) batch.Batch { b, _ := w.planned(); w.decide(batch.EventCancel); return b },
	}
	for name, stage := range stages {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			b := stage(w)
			before := w.status()
			w.redis.FlushAll()
			w.queue.tasks = nil
			if err := w.flow.Sync(w.ctx(), id); !errors.Is(err, ledger.ErrNotLive) {
				t.Errorf("sync without Redis's state = %v, want ErrNotLive", err)
			}
			w.must(w.flow.Recover(w.ctx(), id))
			w.complete(b)
			s := w.status()
			if !s.State.Over() || s.Cancelled != before.Cancelled {
				t.Errorf("status = %+v after recovery from %+v, want it over", s, before)
			}
		})
	}
}

// complete does whatever the batch still needs.
func (w *world) complete(b batch.Batch) {
	w.t.Helper()
	for range 20 {
		s := w.status()
		switch {
		case s.State.Over():
			return
		case s.State == batch.AwaitingApproval:
			_, digest, err := w.ledger.Plan(w.ctx(), id)
			w.must(err)
			_, err = w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventApprove, Plan: digest})
			w.must(err)
		case s.State == batch.Planning:
			x := w.mustClaim(w.queue.take(batch.StepPlan)[0])
			w.sealPlan(b, batch.Row{From: "ka", To: "kz"})
			w.finish(b, x, nil)
		case s.State == batch.Inspecting:
			if _, sealed, err := w.ledger.Sealed(w.ctx(), id, batch.StepInspect, 1); err == nil && !sealed {
				w.list(b, 2)
			}
			w.drain(b, batch.StepInspect)
		default:
			w.drain(b, s.State.Step())
		}
	}
}

func TestRecoverIsIdempotentBesideLiveWork(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 5)
	tasks := w.queue.take(batch.StepInspect)
	x := w.mustClaim(tasks[0])
	for range 2 {
		w.must(w.flow.Recover(w.ctx(), id))
	}
	w.must(w.beatOnce(x, 0))
	w.finish(b, x, done("ka"))
	w.finish(b, w.mustClaim(tasks[1]), done("kb"))
	if got := w.drain(b, batch.StepInspect); got != 3 {
		t.Errorf("inspected %d more segments, want 3", got)
	}
	if p := w.progress(); p.ListedObjects != 5 || p.Steps[batch.StepInspect].Counts.Done != 5 {
		t.Errorf("progress = %+v, want 5 listed, 5 done", p)
	}
}

func TestAClaimLapsesWhenRedisIsSilent(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	claims := flow.NewClaims(w.flow.Live(), "worker", w.log)
	ctx, cancel := context.WithCancel(w.ctx())
	ended := make(chan struct{})
	go func() { defer close(ended); claims.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	x, err := claims.Take(w.ctx(), w.queue.take(batch.StepInspect)[0])
	w.must(err)
	w.must(x.Held())
	w.redis.Pause()
	waitFor(t, 10*time.Second, "the claim to lapse", func() bool { return errors.Is(x.Held(), flow.ErrLost) })
	w.redis.Resume()
	waitFor(t, 10*time.Second, "the claim to be renewed", func() bool { return x.Held() == nil })
	if x.Lost() {
		t.Error("the claim is lost for good although nobody else took it")
	}
}

func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", limit, what)
		}
		<-tick.C
	}
}

func TestAnExecutionThatLostItsClaimKnows(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 1)
	claims := flow.NewClaims(w.flow.Live(), "worker", w.log)
	x, err := claims.Take(w.ctx(), w.queue.take(batch.StepInspect)[0])
	w.must(err)
	w.age(10 * time.Second)
	w.steadyRound(w.reconciler("other"))
	w.mustClaim(w.queue.take(batch.StepInspect)[0])
	ctx, cancel := context.WithCancel(w.ctx())
	ended := make(chan struct{})
	go func() { defer close(ended); claims.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	waitFor(t, 10*time.Second, "the old execution to hear that it lost", x.Lost)
	if err := x.Held(); !errors.Is(err, flow.ErrLost) {
		t.Errorf("Held = %v, want ErrLost", err)
	}
}

func TestServedNamesWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	b := w.batch(batch.Inspect)
	if err := w.flow.Served(w.ctx(), b); !errors.Is(err, flow.ErrNoWorker) {
		t.Errorf("no worker: %v, want ErrNoWorker", err)
	}
	other, err := archive.FileRoot("/elsewhere")
	w.must(err)
	w.must(w.flow.Live().Register(w.ctx(), ledger.Worker{ID: "w", Pools: []string{"default"}, Roots: []archive.Root{other}, Slots: 1}))
	if err := w.flow.Served(w.ctx(), b); !errors.Is(err, flow.ErrNoWorker) || !strings.Contains(err.Error(), "/elsewhere") {
		t.Errorf("a worker of another root: %v, want ErrNoWorker naming it", err)
	}
	w.must(w.flow.Live().Register(w.ctx(), ledger.Worker{ID: "v", Pools: []string{"default"}, Roots: []archive.Root{b.Archive}, Slots: 1}))
	w.must(w.flow.Served(w.ctx(), b))
}

func TestPreviousCountIsOfTheSameArchive(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Inspect)
	w.list(b, 3)
	later := b
	later.ID = "01jd0000000000000000000001"
	if n, err := w.flow.Previous(w.ctx(), later); err != nil || n == 0 {
		t.Errorf("previous = %d, %v; want what the first batch found", n, err)
	}
	var err error
	later.Archive, err = archive.FileRoot("/elsewhere")
	w.must(err)
	if n, err := w.flow.Previous(w.ctx(), later); err != nil || n != 0 {
		t.Errorf("previous of another archive = %d, %v; want 0", n, err)
	}
}

func TestSegmentsThatExistAreNotMadeTwice(t *testing.T) {
	w := newWorld(t)
	ref := batch.Ref{Batch: id, Step: batch.StepInspect, Generation: 1}
	_, err := w.ledger.CreateSegment(w.ctx(), ref, batch.Segment{})
	w.must(err)
	if _, err := w.ledger.CreateSegment(w.ctx(), ref, batch.Segment{}); !errors.Is(err, store.ErrExist) {
		t.Errorf("second creation = %v, want ErrExist", err)
	}
}

// Redis freezes in the middle of a round, before or after it was found to be steady.
func TestAFreezeInTheMiddleOfARoundConvictsNobody(t *testing.T) {
	for _, after := range []string{":{lock}:reconciler", steadyKey} {
		t.Run("after "+after, func(t *testing.T) {
			w := newWorld(t)
			b := w.submit(batch.Inspect)
			w.list(b, 1)
			x := w.mustClaim(w.queue.take(batch.StepInspect)[0])
			r := w.reconciler("worker")
			w.steadyRound(r)
			w.must(w.beatOnce(x, 0))
			hook := &freeze{server: w.redis, key: after}
			w.redis.Client().AddHook(hook)
			hook.armed.Store(true)
			w.must(r.Once(w.ctx()))
			hook.wait()
			w.must(r.Once(w.ctx()))
			if got := w.queue.take(batch.StepInspect); len(got) != 0 {
				t.Fatalf("dispatched %+v although Redis had been silent", got)
			}
			w.must(w.beatOnce(x, 0))
		})
	}
}

// freeze stops a server for longer than a claim may be silent, right after a script that uses the key was answered.
type freeze struct {
	server  *redistest.Server
	key     string
	armed   atomic.Bool
	resumed sync.WaitGroup
}

func (f *freeze) wait() { f.resumed.Wait() }

func (f *freeze) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *freeze) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *freeze) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if strings.Contains(fmt.Sprint(cmd.Args()...), f.key) && f.armed.CompareAndSwap(true, false) {
			f.server.Pause()
			f.resumed.Go(func() {
				time.Sleep(7 * time.Second)
				f.server.Resume()
			})
		}
		return err
	}
}

// slow is a ledger's store as far away as a bucket.
type slow struct{ store.Store }

func (s slow) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
	}
	return s.Store.Open(ctx, key, offset, length, want)
}

func TestEveryBatchIsRepairedHoweverManyThereAre(t *testing.T) {
	w := newWorld(t)
	var ids []batch.ID
	for i := range 30 {
		b := w.batch(batch.Inspect)
		b.ID = batch.ID(fmt.Sprintf("01jd00000000000000000000%02d", i))
		w.must(w.flow.Submit(w.ctx(), b))
		ids = append(ids, b.ID)
	}
	// Their submitters died before Redis heard of the cancellation.
	for _, id := range ids {
		w.must(w.ledger.CreateEvent(w.ctx(), id, batch.Event{N: 1, Kind: batch.EventCancel, At: time.Now()}))
	}
	w.ledger = ledger.New(slow{w.ledger.Store()})
	w.flow = w.newFlow()
	r := w.reconciler("worker")
	rounds := 0
	for ; ; rounds++ {
		if rounds > 20 {
			t.Fatal("some batches are never reached")
		}
		began := time.Now()
		w.must(r.Once(w.ctx()))
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("a round took %v", took)
		}
		reached := 0
		for _, id := range ids {
			if s, err := w.flow.Live().Head(w.ctx(), id); err == nil && s.Cancelled {
				reached++
			}
		}
		if reached == len(ids) {
			break
		}
	}
	if rounds == 0 {
		t.Error("one round reached all: the test proves nothing")
	}
}

func TestWhatWasBegunIsLookedAtAlthoughRedisWasLostAndTheBatchCancelled(t *testing.T) {
	for _, ended := range []bool{false, true} {
		w := newWorld(t)
		b, digest := w.planned()
		_, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventApprove, Plan: digest})
		w.must(err)
		x := w.mustClaim(w.queue.take(batch.StepRename)[0])
		e := ledger.Execution{Ref: x.Claim.Ref(), Epoch: x.Claim.Epoch}
		w.must(w.ledger.BeginExecution(w.ctx(), e)) // it moves objects, and then dies or gives back
		if ended {
			w.must(w.ledger.EndExecution(w.ctx(), e))
		}
		w.decide(batch.EventCancel)
		w.redis.FlushAll()
		w.queue.tasks = nil
		w.must(w.flow.Recover(w.ctx(), id))
		if s := w.status(); s.State != batch.Renaming {
			t.Fatalf("batch is %s, want %s until somebody has looked at what was done", s, batch.Renaming)
		}
		tasks := w.queue.take(batch.StepRename)
		if len(tasks) != 1 {
			t.Fatalf("tasks = %+v, want the segment that was begun", tasks)
		}
		again := w.mustClaim(tasks[0])
		if !again.Cancelled() {
			t.Error("the execution is not told that the batch is cancelled")
		}
		w.finish(b, again, done("ka"))
		if s := w.status(); s.State != batch.Finishing {
			t.Errorf("batch is %s, want %s", s, batch.Finishing)
		}
	}
}
