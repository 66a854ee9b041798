package overview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
)

// readLive fills the half of o that Redis knows. An error means that Redis does not answer.
func (s *Source) readLive(ctx context.Context, o *Overview) error {
	active, err := s.live.Active(ctx)
	if err != nil {
		return err
	}
	if err := s.readBatches(ctx, o, active); err != nil {
		return err
	}
	workers, err := s.live.Workers(ctx)
	if err != nil {
		return err
	}
	setWorkers(o, workers)
	depths, err := s.queues.Depths(ctx)
	if err != nil {
		return err
	}
	s.setQueues(o, depths)
	return nil
}

func (s *Source) readBatches(ctx context.Context, o *Overview, active []batch.ID) error {
	o.Batches, o.InHand = []Batch{}, len(active)
	inHand, meters := map[batch.ID]bool{}, map[batch.ID]*meter{}
	for _, id := range slices.Backward(active) {
		inHand[id] = true
		if len(o.Batches) == MaxBatches {
			continue
		}
		if _, err := batch.ParseID(string(id)); err != nil {
			o.problem("Redis names a batch that is none: %v", err)
			continue
		}
		p, err := s.live.Progress(ctx, id)
		if errors.Is(err, ledger.ErrNotLive) {
			continue // it ended just now
		}
		if err != nil {
			return err
		}
		meters[id] = cmp.Or(s.meters[id], &meter{})
		o.Batches = append(o.Batches, s.batchOf(o.At, p, meters[id]))
	}
	for id := range s.inHand {
		if !inHand[id] {
			s.durable.expire() // it has ended
		}
	}
	s.inHand, s.meters = inHand, meters
	return nil
}

// batchOf is p in the terms of the overview, with its rates.
func (s *Source) batchOf(now time.Time, p ledger.Progress, m *meter) Batch {
	b := Batch{
		ID: p.ID, Name: text(p.Name), Kind: batch.Kind(text(string(p.Kind))), Archive: text(p.Archive), Pool: text(p.Pool),
		Priority: batch.Priority(text(string(p.Status.Priority))), Submitted: p.Submitted,
		State: batch.State(text(string(p.Status.State))), Paused: p.Status.Paused, Cancelled: p.Status.Cancelled,
		Words: text(p.Status.String()), Reason: text(p.Status.Reason), Steps: stepsOf(p),
	}
	if b.planned = hasPlan(p); b.planned {
		b.Plan = s.durable.plan(p.ID)
	}
	count(&b, p)
	m.add(fmt.Sprint(b.Counted, p.Generation), sample{now, b.Objects.Settled + b.Objects.InHand, b.Bytes.Settled + b.Bytes.InHand})
	if p.Status.State == batch.Inspecting || p.Status.State == batch.Renaming {
		b.ObjectsPerSecond, b.BytesPerSecond = m.rates()
		b.Left = left(b)
	}
	return b
}

// hasPlan reports whether the plan is sealed: its step is over.
func hasPlan(p ledger.Progress) bool {
	return p.Status.State == batch.AwaitingApproval || p.Status.State == batch.Renaming ||
		p.Status.State == batch.Finishing && p.Steps[batch.StepPlan].Settled > 0
}

func stepsOf(p ledger.Progress) []Step {
	all, state := p.Kind.Steps(), p.Status.State
	at := slices.Index(all, state.Step())
	switch {
	case state == batch.AwaitingApproval:
		at = slices.Index(all, batch.StepRename)
	case state.Over():
		at = len(all)
	}
	var steps []Step
	for i, name := range all {
		q := p.Steps[name]
		step := Step{
			Name: name, Over: i < at, Now: i == at && state != batch.AwaitingApproval,
			Settled: q.Settled, Known: q.Known, Total: q.Total,
		}
		if name == batch.StepList && state == batch.Inspecting { // the two overlap
			step.Over = q.Settled >= q.Total
			step.Now = !step.Over
		}
		steps = append(steps, step)
	}
	return steps
}

// count adds up objects: inspected ones until renaming begins, then renamed ones. Every listed object has its row in the
// plan, so those that could not be inspected are counted among the renamed ones again, and the two are never added.
func count(b *Batch, p ledger.Progress) {
	inspected, renamed := p.Steps[batch.StepInspect].Counts, p.Steps[batch.StepRename].Counts
	b.Failed, b.Skipped = max(inspected.Failed, renamed.Failed), max(inspected.Skipped, renamed.Skipped)
	switch {
	case p.Status.State == batch.Renaming || p.Status.State == batch.Finishing && p.Steps[batch.StepRename].Settled > 0:
		b.Counted = batch.StepRename
		b.Objects.Settled = renamed.Objects()
		if b.Plan != nil {
			b.Objects.Total = b.Plan.Rows
		}
	case p.Kind.Has(batch.StepInspect):
		b.Counted = batch.StepInspect
		b.Objects = Amount{Settled: inspected.Objects(), Total: p.ListedObjects}
		b.Bytes = Amount{Settled: inspected.Bytes, Total: p.ListedBytes}
		b.Listing = p.Steps[batch.StepInspect].Total < 0 && !p.Status.Cancelled
	}
	for _, e := range p.Window {
		if e.Step != b.Counted || e.State != "c" {
			continue
		}
		b.Objects.InHand += e.Objects
		if e.Step == batch.StepInspect {
			b.Bytes.InHand += e.Bytes
		}
	}
}

// Bounds of what is shown of one worker.
const (
	maxPools  = 20
	maxChecks = 20
)

func setWorkers(o *Overview, all []ledger.Worker) {
	slices.SortFunc(all, func(a, b ledger.Worker) int { return cmp.Compare(a.ID, b.ID) })
	o.Workers, o.Registered = []Worker{}, len(all)
	for _, w := range all {
		o.Slots += max(0, w.Slots)
		o.Busy += max(0, w.Busy)
		if len(o.Workers) == MaxWorkers {
			continue
		}
		shown := Worker{
			ID: text(w.ID), Host: text(w.Process.Host), PID: w.Process.PID, Pools: []string{}, Slots: w.Slots, Busy: w.Busy,
			Version: text(w.Version), ExifTool: text(w.ExifToolVersion), Started: w.Started, Silent: w.Silent.Seconds(), Checks: []Check{},
		}
		for _, p := range w.Pools[:min(len(w.Pools), maxPools)] {
			shown.Pools = append(shown.Pools, text(p))
		}
		for _, name := range slices.Sorted(maps.Keys(w.Health))[:min(len(w.Health), maxChecks)] {
			shown.Checks = append(shown.Checks, Check{Name: text(name), Error: text(w.Health[name])})
		}
		o.Workers = append(o.Workers, shown)
	}
}

func (s *Source) setQueues(o *Overview, depths map[string]queue.Depth) {
	o.Queues, o.Queued = []Queue{}, len(depths)
	for _, name := range slices.Sorted(maps.Keys(depths)) {
		d := depths[name]
		o.Pending += d.Pending
		o.Active += d.Active
		if len(o.Queues) == MaxQueues {
			continue
		}
		// A pool may hold dashes, the prefix and the priority do not.
		rest := strings.TrimPrefix(name, s.prefix+"-")
		i := max(0, strings.LastIndexByte(rest, '-'))
		o.Queues = append(o.Queues, Queue{
			Name: text(name), Pool: text(rest[:i]), Priority: batch.Priority(text(strings.TrimPrefix(rest[i:], "-"))),
			Pending: d.Pending, Active: d.Active,
		})
	}
}
