package ledger_test

import (
	"errors"
	"maps"
	"slices"
	"strconv"

	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
)

// machine drives one batch's live state at random and knows what must be true of it.
type machine struct {
	*liveState
	rt      *rapid.T
	known   int
	sealed  bool
	room    int // the largest so far
	tasks   []batch.Task
	claims  []ledger.Claim
	epoch   int64
	settled map[int]bool
}

func TestLiveInvariants(t *testing.T) {
	onEachRedis(t, func(t *testing.T, client redis.UniversalClient) {
		rapid.Check(t, func(rt *rapid.T) {
			if err := client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			m := &machine{liveState: newLive(t, client), rt: rt, settled: map[int]bool{}}
			rt.Repeat(map[string]func(*rapid.T){
				"":          func(*rapid.T) { m.check() },
				"grow":      m.growOne,
				"seal":      m.seal,
				"dispatch":  m.dispatchSome,
				"claim":     m.claimOne,
				"beat":      m.beatOne,
				"settle":    m.settleOne,
				"release":   m.releaseOne,
				"reconcile": m.reconcile,
				"pause":     m.pause,
				"resume":    m.resume,
				"cancel":    m.cancel,
			})
			m.finish()
		})
	})
}

func (m *machine) growOne(*rapid.T) {
	if m.sealed {
		return
	}
	m.must(m.Grow(m.ctx(), ledger.Header{Ref: m.ref(m.known), Objects: 1}))
	m.known++
}

func (m *machine) seal(rt *rapid.T) {
	if rapid.IntRange(0, 4).Draw(rt, "seal") > 0 {
		return
	}
	_, err := m.Seal(m.ctx(), liveID, batch.StepInspect, m.known)
	m.must(err)
	m.sealed = true
}

func (m *machine) dispatchSome(rt *rapid.T) {
	room := rapid.IntRange(0, 4).Draw(rt, "room")
	m.room = max(m.room, room)
	m.tasks = append(m.tasks, m.dispatch(room)...)
}

// claimOne tries any task that ever was, so that doubled and delayed ones are among them.
func (m *machine) claimOne(rt *rapid.T) {
	if len(m.tasks) == 0 {
		return
	}
	task := rapid.SampledFrom(m.tasks).Draw(rt, "task")
	c, err := m.Claim(m.ctx(), task, "worker")
	if errors.Is(err, ledger.ErrStale) {
		return
	}
	m.must(err)
	if c.Epoch <= m.epoch {
		rt.Fatalf("epoch %d after %d", c.Epoch, m.epoch)
	}
	if m.settled[task.Segment] {
		rt.Fatalf("segment %d was claimed after it settled", task.Segment)
	}
	m.epoch = c.Epoch
	m.claims = append(m.claims, c)
}

// draw picks any claim that ever was.
func (m *machine) draw(rt *rapid.T) (ledger.Claim, bool) {
	if len(m.claims) == 0 {
		return ledger.Claim{}, false
	}
	return rapid.SampledFrom(m.claims).Draw(rt, "claim"), true
}

func (m *machine) beatOne(rt *rapid.T) {
	if c, ok := m.draw(rt); ok {
		alone := rapid.Bool().Draw(rt, "alone")
		m.beat(ledger.Sign{Claim: c, Objects: rapid.Int64Range(0, 3).Draw(rt, "objects"), InHand: []int{c.Segment}, Alone: alone})
	}
}

func (m *machine) settleOne(rt *rapid.T) {
	if c, ok := m.draw(rt); ok {
		_, err := m.Settle(m.ctx(), c.Ref(), batch.Counts{Done: 1})
		m.must(err)
		m.settled[c.Segment] = true
	}
}

func (m *machine) releaseOne(rt *rapid.T) {
	if c, ok := m.draw(rt); ok {
		// In a cancelled batch a failed segment waits for seconds; nothing but time ends that.
		m.must(m.Release(m.ctx(), c, rapid.Bool().Draw(rt, "failed") && !m.status.Cancelled))
	}
}

func (m *machine) reconcile(rt *rapid.T) {
	limit := rapid.SampledFrom([]time.Duration{0, time.Hour})
	found := m.judge(ledger.Limits{Stale: limit.Draw(rt, "stale"), Progress: limit.Draw(rt, "progress"), Queued: limit.Draw(rt, "queued")})
	for _, j := range found {
		if j.Kind == "queued" {
			m.must(m.Requeue(m.ctx(), liveID, j, rapid.Bool().Draw(rt, "waiting")))
		}
	}
}

func (m *machine) try(kind batch.EventKind) {
	if _, err := m.status.Apply(batch.Event{N: m.status.Event + 1, Kind: kind}); err == nil {
		m.event(batch.Event{Kind: kind})
	}
}

func (m *machine) pause(*rapid.T)  { m.try(batch.EventPause) }
func (m *machine) resume(*rapid.T) { m.try(batch.EventResume) }

func (m *machine) cancel(rt *rapid.T) {
	if rapid.IntRange(0, 9).Draw(rt, "cancel") == 0 {
		m.try(batch.EventCancel)
	}
}

// check holds after every step.
func (m *machine) check() {
	p := m.progress()
	count := windowStates(p)
	if count["?"] > 0 {
		m.rt.Fatalf("window = %+v", p.Window)
	}
	if n := count["q"] + count["c"]; n > m.room {
		m.rt.Fatalf("%d segments are enqueued or claimed in a room of %d", n, m.room)
	}
	key := "reshelf:{" + string(liveID) + "}:"
	busy, err := m.redis.HGet(m.ctx(), key+"batch", "inspect.busy").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		m.rt.Fatal(err)
	}
	n, _ := strconv.Atoi(busy)
	if n != count["q"]+count["c"] {
		m.rt.Fatalf("busy = %s, want %d: %+v", busy, count["q"]+count["c"], p.Window)
	}
	var again []string
	for _, e := range p.Window {
		if e.State == "r" {
			again = append(again, string(e.Step)+"/"+strconv.Itoa(e.Segment))
		}
		if m.settled[e.Segment] {
			m.rt.Fatalf("settled segment %d is in the window", e.Segment)
		}
	}
	redo := m.redis.LRange(m.ctx(), key+"redo", 0, -1).Val()
	slices.Sort(again)
	slices.Sort(redo)
	if !slices.Equal(again, redo) {
		m.rt.Fatalf("redo list = %v, want %v", redo, again)
	}
	step := p.Steps[batch.StepInspect]
	if step.Settled != len(m.settled) || step.Counts.Done != int64(len(m.settled)) || step.Known != m.known {
		m.rt.Fatalf("step = %+v, want %d settled of %d: %v", step, len(m.settled), m.known, slices.Sorted(maps.Keys(m.settled)))
	}
}

// finish: whatever happened, a fleet that works settles every segment, or, cancelled, every one that was claimed.
func (m *machine) finish() {
	m.try(batch.EventResume)
	over, err := m.Seal(m.ctx(), liveID, batch.StepInspect, m.known)
	m.must(err)
	m.room = max(m.room, 3)
	m.fail0()
	for range 10 * (m.known + 1) {
		if over {
			break
		}
		for _, j := range m.judge(ledger.Limits{}) {
			if j.Kind == "queued" {
				m.must(m.Requeue(m.ctx(), liveID, j, false))
			}
		}
		for _, task := range m.dispatch(3) {
			c := m.claim(task)
			over, err = m.Settle(m.ctx(), c.Ref(), batch.Counts{Done: 1})
			m.must(err)
			m.settled[c.Segment] = true
		}
		m.check()
	}
	if !over {
		m.rt.Fatalf("the step never ends: %+v", m.progress())
	}
	if !m.status.Cancelled && len(m.settled) != m.known {
		m.rt.Fatalf("%d segments settled of %d", len(m.settled), m.known)
	}
}

// fail0 ends all waiting for failed segments, as a pause and a resumption do.
func (m *machine) fail0() {
	m.try(batch.EventPause)
	m.try(batch.EventResume)
}
