package ledger

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/batch"
)

// ErrNotLive: Redis does not know the batch. It is finished, or Redis was lost (see flow.Recover).
var ErrNotLive = errors.New("not in hand in Redis")

//go:embed lua/*.lua
var scripts embed.FS

// Live is the half that Redis keeps: which segments are dispatched, claimed and settled. Every method is one round trip or
// few, atomic where it decides something, and safe for concurrent use.
type Live struct {
	redis  redis.UniversalClient
	prefix string
	script map[string]*redis.Script
}

// NewLive returns the live state below a prefix of keys ("reshelf"), which it shares with nobody else.
func NewLive(client redis.UniversalClient, prefix string) (*Live, error) {
	l := &Live{redis: client, prefix: prefix, script: map[string]*redis.Script{}}
	prelude, err := scripts.ReadFile("lua/prelude.lua")
	if err != nil {
		return nil, err
	}
	files, err := scripts.ReadDir("lua")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		src, err := scripts.ReadFile("lua/" + f.Name())
		if err != nil {
			return nil, err
		}
		l.script[strings.TrimSuffix(f.Name(), ".lua")] = redis.NewScript(string(prelude) + string(src))
	}
	return l, nil
}

func (l *Live) run(ctx context.Context, name string, keys []string, args ...any) *redis.Cmd {
	return l.script[name].Run(ctx, l.redis, keys, args...)
}

func (l *Live) key(id batch.ID, name string) string {
	return l.prefix + ":{" + string(id) + "}:" + name
}

func (l *Live) keys(id batch.ID) (b, w, r string) {
	return l.key(id, "batch"), l.key(id, "window"), l.key(id, "redo")
}

func (l *Live) settledKey(id batch.ID, step batch.Step, generation int) string {
	return l.key(id, fmt.Sprintf("settled:%s:%d", step, generation))
}

func (l *Live) activeKey() string { return l.prefix + ":active" }

func field(step batch.Step, segment int) string { return string(step) + "/" + strconv.Itoa(segment) }

// Announce makes the live state of a batch, if there is none.
func (l *Live) Announce(ctx context.Context, b batch.Batch, s batch.Status) error {
	key, _, _ := l.keys(b.ID)
	args := []any{
		"kind", string(b.Kind), "pool", b.Pool, "priority", string(s.Priority), "generation", 1, "event", s.Event,
		"state", string(s.State), "step", string(s.State.Step()), "paused", flag(s.Paused), "cancelled", flag(s.Cancelled),
		"reason", s.Reason, "archive", b.Archive.String(), "name", b.Name, "submitted", b.Submitted.UnixMilli(),
	}
	for _, step := range []batch.Step{batch.StepList, batch.StepPlan, batch.StepFinish} {
		args = append(args, string(step)+".total", 1, string(step)+".known", 1)
	}
	if err := l.run(ctx, "announce", []string{key}, args...).Err(); err != nil {
		return fmt.Errorf("announce batch %s: %w", b.ID, err)
	}
	if err := l.redis.SAdd(ctx, l.activeKey(), string(b.ID)).Err(); err != nil {
		return fmt.Errorf("announce batch %s: %w", b.ID, err)
	}
	return nil
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// Apply brings the live state up to s, unless it is past it: ErrNotLive if Redis does not know the batch. Over says that the
// step at work has ended.
func (l *Live) Apply(ctx context.Context, id batch.ID, s batch.Status) (over bool, err error) {
	b, w, r := l.keys(id)
	res, err := l.run(ctx, "apply", []string{b, w, r}, s.Event, string(s.State), string(s.State.Step()), flag(s.Paused),
		flag(s.Cancelled), string(s.Priority), s.Reason).Int64Slice()
	if err != nil {
		return false, fmt.Errorf("apply event %d to batch %s: %w", s.Event, id, err)
	}
	if res[0] < 0 {
		return false, fmt.Errorf("apply event %d to batch %s: %w", s.Event, id, ErrNotLive)
	}
	return res[1] == 1, nil
}

// Grow says that segment n of a step exists, with its header's counts.
func (l *Live) Grow(ctx context.Context, h Header) error {
	b, _, _ := l.keys(h.Batch)
	if err := l.run(ctx, "grow", []string{b}, string(h.Step), h.Segment, h.Objects, h.Bytes, h.Excluded).Err(); err != nil {
		return fmt.Errorf("announce segment %s: %w", h.Ref, err)
	}
	return nil
}

// Seal says how many segments a step has.
func (l *Live) Seal(ctx context.Context, id batch.ID, step batch.Step, total int) (over bool, err error) {
	b, w, _ := l.keys(id)
	n, err := l.run(ctx, "seal", []string{b, w}, string(step), total).Int64()
	if err != nil {
		return false, fmt.Errorf("seal step %s of batch %s: %w", step, id, err)
	}
	return n == 1, nil
}

// Dispatch hands out attempts to be enqueued, until room segments of the step are enqueued or claimed.
func (l *Live) Dispatch(ctx context.Context, id batch.ID, step batch.Step, generation, room int) ([]batch.Task, error) {
	b, w, r := l.keys(id)
	res, err := l.run(ctx, "dispatch", []string{b, w, r, l.settledKey(id, step, generation)}, string(step), room).Int64Slice()
	if err != nil {
		return nil, fmt.Errorf("dispatch step %s of batch %s: %w", step, id, err)
	}
	out := make([]batch.Task, 0, len(res)/2)
	for pair := range slices.Chunk(res, 2) {
		out = append(out, batch.Task{V: batch.Version, Batch: id, Step: step, Generation: generation, Segment: int(pair[0]), Attempt: int(pair[1])})
	}
	return out, nil
}

// Claim is the right to work on a segment. It must be renewed by Beat.
type Claim struct {
	batch.Task
	// Epoch is greater than that of every earlier claim of the batch.
	Epoch int64
	// Suspects are indices of objects that were in hand when a worker died, with the times they killed one alone.
	Suspects map[int]int
	// Failures counts earlier executions of the segment that ended with an error.
	Failures int
	// Cancelled: the batch is cancelled; find out what earlier executions did, and do nothing more.
	Cancelled bool
}

// ErrStale: the task gives no claim (any more); it ends quietly. The message says why.
var ErrStale = errors.New("stale task")

// Claim asks for the right to work on a task's segment.
func (l *Live) Claim(ctx context.Context, t batch.Task, worker string) (Claim, error) {
	b, w, r := l.keys(t.Batch)
	res, err := l.run(ctx, "claim", []string{b, w, r, l.settledKey(t.Batch, t.Step, t.Generation)},
		string(t.Step), t.Generation, t.Segment, t.Attempt, worker).StringSlice()
	if err != nil {
		return Claim{}, fmt.Errorf("claim %s: %w", t.Ref(), err)
	}
	if res[0] != "ok" {
		return Claim{}, fmt.Errorf("claim %s: %w: %s", t.Ref(), ErrStale, res[1])
	}
	c := Claim{Task: t, Cancelled: res[3] == "1"}
	if c.Epoch, err = strconv.ParseInt(res[1], 10, 64); err != nil {
		return Claim{}, fmt.Errorf("claim %s: epoch: %w", t.Ref(), err)
	}
	if c.Failures, err = strconv.Atoi(res[4]); err != nil {
		return Claim{}, fmt.Errorf("claim %s: failures: %w", t.Ref(), err)
	}
	if err := json.Unmarshal([]byte(res[2]), &c.Suspects); err != nil {
		return Claim{}, fmt.Errorf("claim %s: suspects: %w", t.Ref(), err)
	}
	return c, nil
}

// MaxInHand is how many objects of a segment may be in hand at once. One that is not told of would be no suspect when it
// kills its worker.
const MaxInHand = 64

// Sign is one claim's sign of life.
type Sign struct {
	Claim   Claim
	Objects int64 // finished so far
	Bytes   int64 // read so far
	InHand  []int // indices of the objects being worked on now; at most MaxInHand are told
	Alone   bool  // InHand is handled alone
}

// Verdict answers a Sign.
type Verdict string

// Verdicts.
const (
	Held     Verdict = "ok"        // the claim is renewed
	Stop     Verdict = "cancelled" // renewed, but the batch is cancelled: end quickly, record what is done
	LostHold Verdict = "lost"      // somebody else may have it: touch nothing any more
)

// Beat renews claims of one batch and answers in their order.
func (l *Live) Beat(ctx context.Context, id batch.ID, signs []Sign) ([]Verdict, error) {
	b, w, _ := l.keys(id)
	args := make([]any, 0, 6*len(signs))
	for _, s := range signs {
		hand, err := json.Marshal(s.InHand[:min(len(s.InHand), MaxInHand)])
		if err != nil {
			return nil, err
		}
		args = append(args, field(s.Claim.Step, s.Claim.Segment), s.Claim.Epoch, s.Objects, s.Bytes, hand, flag(s.Alone))
	}
	res, err := l.run(ctx, "beat", []string{b, w}, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("renew claims of batch %s: %w", id, err)
	}
	out := make([]Verdict, len(signs))
	for i := range out {
		out[i] = Verdict(res[i])
	}
	return out, nil
}

// Settle counts a segment's part, once; it may be repeated by anybody who has read the part.
func (l *Live) Settle(ctx context.Context, ref batch.Ref, c batch.Counts) (over bool, err error) {
	b, w, r := l.keys(ref.Batch)
	res, err := l.run(ctx, "settle", []string{b, w, r, l.settledKey(ref.Batch, ref.Step, ref.Generation)},
		string(ref.Step), ref.Segment, c.Done, c.Skipped, c.Failed, c.Bytes).Int64Slice()
	if err != nil {
		return false, fmt.Errorf("settle %s: %w", ref, err)
	}
	return res[1] == 1, nil
}

// Release gives a claim back; failed counts the execution as one that ended with an error.
func (l *Live) Release(ctx context.Context, c Claim, failed bool) error {
	b, w, r := l.keys(c.Batch)
	if err := l.run(ctx, "release", []string{b, w, r}, field(c.Step, c.Segment), c.Epoch, flag(failed)).Err(); err != nil {
		return fmt.Errorf("give back %s: %w", c.Ref(), err)
	}
	return nil
}

// Revive takes a segment in hand again that was worked on and has no part, to be dispatched even if the batch is cancelled.
func (l *Live) Revive(ctx context.Context, ref batch.Ref) error {
	b, w, r := l.keys(ref.Batch)
	err := l.run(ctx, "revive", []string{b, w, r, l.settledKey(ref.Batch, ref.Step, ref.Generation)}, string(ref.Step), ref.Segment).Err()
	if err != nil {
		return fmt.Errorf("take %s in hand again: %w", ref, err)
	}
	return nil
}

// Judgement is what Reconcile found about one segment of the window.
type Judgement struct {
	Kind    string // "died", "stuck": to be dispatched again; "queued": answer with Requeue
	Step    batch.Step
	Segment int
	Attempt int
	Worker  string
}

// Limits are how long a segment of the window may be silent.
type Limits struct {
	Stale    time.Duration // a claim without a sign of life
	Progress time.Duration // a claim that lives but does not get on
	Queued   time.Duration // enqueued but not claimed
	// Seen is Redis's time (see Steady) when the judge last heard of it, and Silence how old that may be.
	Seen    time.Time
	Silence time.Duration
}

// ErrSilent: Redis was silent right before it was to judge, so signs of life were held up too.
var ErrSilent = errors.New("redis was silent")

// Steady notes that Redis answers now, and returns when that is by Redis's clock, and for how long it has answered somebody
// who noted it without a gap: a time of more than gap between two notes, a clock set back, or the loss of what Redis held.
func (l *Live) Steady(ctx context.Context, gap time.Duration) (now time.Time, steady time.Duration, err error) {
	res, err := l.run(ctx, "steady", []string{l.prefix + ":{lock}:steady"}, gap.Milliseconds()).Int64Slice()
	if err != nil {
		return now, 0, fmt.Errorf("note that Redis answers: %w", err)
	}
	return time.UnixMilli(res[0]), time.Duration(res[1]) * time.Millisecond, nil
}

// Reconcile judges the window of a batch; ErrSilent if nobody can be judged now.
func (l *Live) Reconcile(ctx context.Context, id batch.ID, lim Limits) ([]Judgement, error) {
	b, w, r := l.keys(id)
	res, err := l.run(ctx, "reconcile", []string{b, w, r}, lim.Stale.Milliseconds(), lim.Progress.Milliseconds(), lim.Queued.Milliseconds(),
		lim.Seen.UnixMilli(), lim.Silence.Milliseconds()).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("reconcile batch %s: %w", id, err)
	}
	if slices.Equal(res, []string{"silent"}) {
		return nil, fmt.Errorf("reconcile batch %s: %w", id, ErrSilent)
	}
	var out []Judgement
	for q := range slices.Chunk(res, 4) {
		j := Judgement{Kind: q[0], Worker: q[3]}
		step, segment, _ := strings.Cut(q[1], "/")
		j.Step = batch.Step(step)
		if j.Segment, err = strconv.Atoi(segment); err != nil {
			return nil, fmt.Errorf("reconcile batch %s: %w", id, err)
		}
		if j.Attempt, err = strconv.Atoi(q[2]); err != nil {
			return nil, fmt.Errorf("reconcile batch %s: %w", id, err)
		}
		out = append(out, j)
	}
	return out, nil
}

// Requeue answers a Judgement of kind "queued": waiting says whether the task is still in its queue.
func (l *Live) Requeue(ctx context.Context, id batch.ID, j Judgement, waiting bool) error {
	b, w, r := l.keys(id)
	answer := "gone"
	if waiting {
		answer = "waiting"
	}
	if err := l.run(ctx, "requeue", []string{b, w, r}, field(j.Step, j.Segment), j.Attempt, answer).Err(); err != nil {
		return fmt.Errorf("requeue %s/%d of batch %s: %w", j.Step, j.Segment, id, err)
	}
	return nil
}

// expectFor is how long a batch may be expected before it is written to the ledger.
const expectFor = time.Hour

// Expect says that a batch is about to be written to the ledger: if its submitter dies before Announce, the reconciler finds
// it all the same.
func (l *Live) Expect(ctx context.Context, id batch.ID) error {
	if err := l.redis.Set(ctx, l.key(id, "expected"), 1, expectFor).Err(); err != nil {
		return fmt.Errorf("announce batch %s: %w", id, err)
	}
	if err := l.redis.SAdd(ctx, l.activeKey(), string(id)).Err(); err != nil {
		return fmt.Errorf("announce batch %s: %w", id, err)
	}
	return nil
}

// Unexpect takes a batch that was never written out of hand, once its time to be written is over.
func (l *Live) Unexpect(ctx context.Context, id batch.ID) error {
	n, err := l.redis.Exists(ctx, l.key(id, "expected")).Result()
	if err == nil && n == 0 {
		err = l.redis.SRem(ctx, l.activeKey(), string(id)).Err()
	}
	if err != nil {
		return fmt.Errorf("forget batch %s: %w", id, err)
	}
	return nil
}

// Head reads only the status of a batch: ErrNotLive if Redis does not know it.
func (l *Live) Head(ctx context.Context, id batch.ID) (batch.Status, error) {
	b, _, _ := l.keys(id)
	fields := []string{"kind", "state", "event", "paused", "cancelled", "priority", "reason"}
	values, err := l.redis.HMGet(ctx, b, fields...).Result()
	if err != nil {
		return batch.Status{}, fmt.Errorf("read batch %s: %w", id, err)
	}
	h := map[string]string{}
	for i, v := range values {
		if text, ok := v.(string); ok {
			h[fields[i]] = text
		}
	}
	if len(h) == 0 {
		return batch.Status{}, fmt.Errorf("batch %s: %w", id, ErrNotLive)
	}
	return decodeProgress(id, h).Status, nil
}

// Active lists the batches in hand, sorted.
func (l *Live) Active(ctx context.Context) ([]batch.ID, error) {
	ids, err := l.redis.SMembers(ctx, l.activeKey()).Result()
	if err != nil {
		return nil, fmt.Errorf("list batches in hand: %w", err)
	}
	slices.Sort(ids)
	out := make([]batch.ID, len(ids))
	for i, id := range ids {
		out[i] = batch.ID(id)
	}
	return out, nil
}

// forgetAfter is how long Redis still shows a batch that is over.
const forgetAfter = time.Hour

// Forget takes a batch that is over out of hand; Redis shows it for an hour more.
func (l *Live) Forget(ctx context.Context, b batch.Batch) error {
	_, err := l.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.SRem(ctx, l.activeKey(), string(b.ID))
		hash, window, redo := l.keys(b.ID)
		keys := []string{hash, window, redo}
		for _, s := range b.Kind.Steps() {
			keys = append(keys, l.settledKey(b.ID, s, 1))
		}
		for _, k := range keys {
			p.Expire(ctx, k, forgetAfter)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget batch %s: %w", b.ID, err)
	}
	return nil
}

// Lock takes or renews the lock of that name for d.
func (l *Live) Lock(ctx context.Context, name, owner string, d time.Duration) (bool, error) {
	n, err := l.run(ctx, "lock", []string{l.prefix + ":{lock}:" + name}, owner, d.Milliseconds()).Int64()
	if err != nil {
		return false, fmt.Errorf("take lock %s: %w", name, err)
	}
	return n == 1, nil
}
