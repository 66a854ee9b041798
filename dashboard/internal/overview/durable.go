package overview

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

const (
	// readEvery is the time between two readings of the ledger, unless something says that it has changed.
	readEvery = 10 * time.Second
	// readWithin bounds one reading, patience what an overview waits for it.
	readWithin = 30 * time.Second
	patience   = time.Second
	// adriftAfter is how long a batch may be unknown to Redis: it is announced soon after it was written.
	adriftAfter = 30 * time.Second
)

// durable is the half of an overview that the ledger knows. Its store can hang, in a kernel that waits for a disk or a
// server, so it is read in a goroutine of its own, one at a time, and only while somebody looks.
type durable struct {
	ledger *ledger.Ledger

	mu      sync.Mutex
	begun   time.Time // the last reading
	expired bool      // read again
	reading chan struct{}
	cancel  context.CancelFunc
	closed  bool
	known   known
	plans   map[batch.ID]*Plan
}

// known is the outcome of a reading. It is never changed after it was made.
type known struct {
	at       time.Time // of the last good reading
	err      error     // of the last reading
	finished []Finished
	adrift   []Finished
	problems []string
}

func newDurable(led *ledger.Ledger) *durable {
	return &durable{ledger: led, plans: map[batch.ID]*Plan{}}
}

// expire says that the ledger has changed.
func (d *durable) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expired = true
}

// plan is what was read of a batch's plan, nil if it was not read yet.
func (d *durable) plan(id batch.ID) *Plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plans[id]
}

// refresh reads the ledger if that is due, and waits a moment for it.
func (d *durable) refresh(ctx context.Context, inHand map[batch.ID]bool, plans []batch.ID) {
	reading := d.begin(ctx, inHand, plans)
	if reading == nil {
		return
	}
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-reading:
	case <-wait.C:
	}
}

// begin returns what is closed at the end of the present reading, nil if there is none.
func (d *durable) begin(ctx context.Context, inHand map[batch.ID]bool, plans []batch.ID) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	due := d.expired || len(plans) > 0 || time.Since(d.begun) >= readEvery
	if d.closed || d.reading != nil || !due {
		return d.reading
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readWithin)
	done := make(chan struct{})
	d.reading, d.cancel, d.begun, d.expired = done, cancel, time.Now(), false
	go func() {
		defer cancel()
		d.read(ctx, inHand, plans)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.reading = nil
		close(done)
	}()
	return done
}

func (d *durable) read(ctx context.Context, inHand map[batch.ID]bool, plans []batch.ID) {
	d.readPlans(ctx, inHand, plans)
	d.mu.Lock()
	before := d.known
	d.mu.Unlock()
	next, err := d.readBatches(ctx, inHand, before)
	if err != nil {
		next = before
		next.err = err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = next
}

// readPlans reads plans and forgets those of batches that are over. A plan that cannot be read is read again later.
func (d *durable) readPlans(ctx context.Context, inHand map[batch.ID]bool, ids []batch.ID) {
	found := map[batch.ID]*Plan{}
	for _, id := range ids {
		if p, _, err := d.ledger.Plan(ctx, id); err == nil {
			found[id] = &Plan{Rows: p.Summary.Rows, Moves: p.Summary.Moves}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.plans {
		if !inHand[id] {
			delete(d.plans, id)
		}
	}
	for id, p := range found {
		d.plans[id] = p
	}
}

// readBatches reads the newest batches that are not in hand. What is over does not change and is read once.
func (d *durable) readBatches(ctx context.Context, inHand map[batch.ID]bool, before known) (known, error) {
	over := map[batch.ID]Finished{}
	for _, f := range before.finished {
		over[f.ID] = f
	}
	next := known{at: time.Now()}
	ids, err := d.ledger.Newest(ctx, MaxFinished+MaxBatches)
	if err != nil {
		return next, err
	}
	for _, id := range ids {
		if inHand[id] || len(next.finished) == MaxFinished {
			continue
		}
		f, read := over[id]
		if !read {
			f, err = d.batch(ctx, id)
		}
		switch {
		case ctx.Err() != nil:
			return next, err
		case err != nil && len(next.problems) < MaxProblems:
			next.problems = append(next.problems, text(fmt.Sprintf("batch %s cannot be read: %v", id, err)))
		case err != nil:
		case f.State.Over():
			next.finished = append(next.finished, f)
		case time.Since(f.Changed) > adriftAfter:
			next.adrift = append(next.adrift, f)
		}
		err = nil
	}
	return next, nil
}

func (d *durable) batch(ctx context.Context, id batch.ID) (Finished, error) {
	b, err := d.ledger.Batch(ctx, id)
	if err != nil {
		return Finished{}, err
	}
	status, err := d.ledger.Status(ctx, b)
	if err != nil {
		return Finished{}, err
	}
	f := Finished{
		ID: b.ID, Name: text(b.Name), Kind: b.Kind, Archive: text(b.Archive.String()), Submitted: b.Submitted,
		Changed: status.Changed, State: status.State, Words: status.String(), Reason: text(status.Reason),
	}
	if status.State.Over() {
		f.Final, err = d.final(ctx, id)
	}
	return f, err
}

// final reads the summary of a batch that is over, nil if it has none.
func (d *durable) final(ctx context.Context, id batch.ID) (*Final, error) {
	c, err := d.ledger.Store().Open(ctx, ledger.Key(id, "report", report.SummaryName), 0, -1, archive.Identity{})
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s, err := report.ReadSummary(c)
	if err != nil {
		return nil, err
	}
	return finalOf(s), nil
}

// fill adds to o what is known, and since when nothing new is.
func (d *durable) fill(o *Overview) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.known
	o.Finished, o.Adrift = k.finished, k.adrift
	if o.Finished == nil {
		o.Finished = []Finished{}
	}
	since := ""
	if !k.at.IsZero() {
		since = "; finished batches are those of " + k.at.UTC().Format(time.TimeOnly) + " UTC"
	}
	switch {
	case k.err != nil:
		o.problem("the ledger cannot be read%s: %v", since, k.err)
	case d.reading != nil && time.Since(d.begun) > patience:
		o.problem("the ledger does not answer%s", since)
	}
	for _, p := range k.problems {
		o.problem("%s", p)
	}
}

func (d *durable) close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	reading := d.reading
	if reading != nil {
		d.cancel()
	}
	d.mu.Unlock()
	if reading == nil {
		return nil
	}
	select {
	case <-reading:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the ledger is still being read: %w", ctx.Err())
	}
}
