package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
)

const (
	beatEvery = time.Second
	validFor  = 4 * time.Second
)

// ErrLost: the claim may have lapsed; somebody else may be at work on the segment. Touch nothing any more.
var ErrLost = errors.New("claim lost")

// Claims are the claims that this process holds, renewed by one sign of life a second.
type Claims struct {
	live   *ledger.Live
	worker string
	log    *slog.Logger

	objects, bytes atomic.Int64 // of all executions, ended ones included

	mu   sync.Mutex
	held map[*Execution]struct{}
}

// NewClaims returns the claims of a worker. Run renews them.
func NewClaims(live *ledger.Live, worker string, log *slog.Logger) *Claims {
	return &Claims{live: live, worker: worker, log: log, held: map[*Execution]struct{}{}}
}

// Take asks for a task's claim: ledger.ErrStale if there is none to be had. End must be called when the work is over.
func (c *Claims) Take(ctx context.Context, t batch.Task) (*Execution, error) {
	sent := boottime()
	claim, err := c.live.Claim(ctx, t, c.worker)
	if err != nil {
		return nil, err
	}
	x := &Execution{Claim: claim, claims: c}
	x.valid.Store(int64(sent + validFor))
	x.cancelled.Store(claim.Cancelled)
	c.mu.Lock()
	c.held[x] = struct{}{}
	c.mu.Unlock()
	return x, nil
}

// End forgets a claim.
func (c *Claims) End(x *Execution) {
	c.mu.Lock()
	delete(c.held, x)
	c.mu.Unlock()
}

// Busy is the number of claims held.
func (c *Claims) Busy() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held)
}

// Done is what all executions of this process have done so far.
func (c *Claims) Done() (objects, bytes int64) { return c.objects.Load(), c.bytes.Load() }

// Run renews all claims every second until ctx is done.
func (c *Claims) Run(ctx context.Context) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.beat(ctx)
		}
	}
}

func (c *Claims) beat(ctx context.Context) {
	byBatch := map[batch.ID][]*Execution{}
	c.mu.Lock()
	for x := range c.held {
		byBatch[x.Claim.Batch] = append(byBatch[x.Claim.Batch], x)
	}
	c.mu.Unlock()
	for id, xs := range byBatch {
		if err := c.beatBatch(ctx, id, xs); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "renew claims", "batch", id, "claims", len(xs), "error", err)
		}
	}
}

func (c *Claims) beatBatch(ctx context.Context, id batch.ID, xs []*Execution) error {
	ctx, cancel := context.WithTimeout(ctx, validFor/2)
	defer cancel()
	signs := make([]ledger.Sign, len(xs))
	for i, x := range xs {
		signs[i] = x.sign()
	}
	sent := boottime()
	verdicts, err := c.live.Beat(ctx, id, signs)
	if err != nil {
		return err
	}
	for i, v := range verdicts {
		xs[i].judge(v, sent)
	}
	return nil
}

// boottime is CLOCK_BOOTTIME: it goes on while the machine sleeps, so a suspended laptop finds its claims lapsed.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("CLOCK_BOOTTIME: %v", err)) // in every Linux since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// Execution is one claimed attempt at a segment. Its methods are safe for concurrent use.
type Execution struct {
	Claim ledger.Claim

	claims    *Claims
	valid     atomic.Int64 // CLOCK_BOOTTIME until which the claim is certainly held
	lost      atomic.Bool
	cancelled atomic.Bool
	objects   atomic.Int64
	bytes     atomic.Int64

	mu    sync.Mutex
	hand  []int // indices of the objects in hand
	alone bool  // the one in hand is handled alone
}

// Held reports nil while the claim is certainly held, else ErrLost. After an outage of Redis it can be held again.
func (x *Execution) Held() error {
	if x.lost.Load() || int64(boottime()) >= x.valid.Load() {
		return fmt.Errorf("%s: %w", x.Claim.Ref(), ErrLost)
	}
	return nil
}

// Lost reports whether somebody else certainly has the segment, or may get it any moment: there is no coming back.
func (x *Execution) Lost() bool { return x.lost.Load() }

// Cancelled reports whether the batch was cancelled.
func (x *Execution) Cancelled() bool { return x.cancelled.Load() }

// Advance adds to what the execution has done so far.
func (x *Execution) Advance(objects, bytes int64) {
	x.objects.Add(objects)
	x.bytes.Add(bytes)
	x.claims.objects.Add(objects)
	x.claims.bytes.Add(bytes)
}

// Begin says that an object of the segment is in hand from now on, and whether it is handled alone. It is a suspect if
// the worker dies before Finish. No more than ledger.MaxInHand may be in hand at once.
func (x *Execution) Begin(index int, alone bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hand = append(x.hand, index)
	x.alone = alone && len(x.hand) == 1 // where there are others, nobody knows which one kills
}

// Finish says that an object is not in hand any more.
func (x *Execution) Finish(index int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := slices.Index(x.hand, index); i >= 0 {
		x.hand = slices.Delete(x.hand, i, i+1)
	}
	x.alone = false
}

func (x *Execution) sign() ledger.Sign {
	x.mu.Lock()
	defer x.mu.Unlock()
	return ledger.Sign{
		Claim: x.Claim, Objects: x.objects.Load(), Bytes: x.bytes.Load(),
		InHand: append([]int{}, x.hand...), Alone: x.alone,
	}
}

func (x *Execution) judge(v ledger.Verdict, sent time.Duration) {
	switch v {
	case ledger.LostHold:
		x.lost.Store(true)
	case ledger.Stop:
		x.cancelled.Store(true)
		x.valid.Store(int64(sent + validFor))
	default:
		x.valid.Store(int64(sent + validFor))
	}
}
