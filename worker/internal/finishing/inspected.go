package finishing

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// generation is the only one that is finished so far.
const generation = 1

func (f *finish) ref(step batch.Step, segment int) batch.Ref {
	return batch.Ref{Batch: f.batch.ID, Step: step, Generation: generation, Segment: segment}
}

// corrupt is the error for records of a segment that are not what the segment says; key may be empty.
func corrupt(ref batch.Ref, key archive.Key, what string) error {
	if key == "" {
		return fmt.Errorf("segment %s: %s: %w", ref, what, ledger.ErrCorrupt)
	}
	return fmt.Errorf("segment %s: %s: %s: %w", ref, key.Text(), what, ledger.ErrCorrupt)
}

// inspected yields exactly one record of inspecting for each listed object, in ascending order of key. One segment is read
// ahead.
func (f *finish) inspected(ctx context.Context) iter.Seq2[batch.Record, error] {
	return func(yield func(batch.Record, error) bool) {
		total, err := f.listed(ctx)
		if err != nil {
			yield(batch.Record{}, err)
			return
		}
		segments := func(ctx context.Context) iter.Seq2[covered, error] { return f.inspectedSegments(ctx, total) }
		for seg, err := range ahead(ctx, segments) {
			if err == nil {
				err = f.alive(ctx)
			}
			if err != nil {
				yield(batch.Record{}, err)
				return
			}
			f.tally.summary.Excluded += seg.excluded
			for _, r := range seg.records {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// covered is a segment with the records of its objects, in order of key.
type covered struct {
	records  []batch.Record
	excluded int64
}

// inspectedSegments yields the segments in order. It only reads, and touches nothing that changes.
func (f *finish) inspectedSegments(ctx context.Context, total int) iter.Seq2[covered, error] {
	return func(yield func(covered, error) bool) {
		var last archive.Key
		for n := range total {
			seg, err := f.inspectedSegment(ctx, n, last)
			if !yield(seg, err) || err != nil {
				return
			}
			if len(seg.records) > 0 {
				last = seg.records[len(seg.records)-1].Key
			}
		}
	}
}

// onlyGeneration refuses what it would otherwise leave out.
func (f *finish) onlyGeneration(ctx context.Context, step batch.Step) error {
	_, later, err := f.led.Sealed(ctx, f.batch.ID, step, generation+1)
	if err == nil && later {
		err = fmt.Errorf("step %s: generation %d: only generation %d can be finished by this program", step, generation+1, generation)
	}
	return err
}

// listed is the number of segments that were listed.
func (f *finish) listed(ctx context.Context) (int, error) {
	if err := f.onlyGeneration(ctx, batch.StepInspect); err != nil {
		return 0, err
	}
	total, sealed, err := f.led.Sealed(ctx, f.batch.ID, batch.StepInspect, generation)
	if err != nil || sealed {
		return total, err
	}
	if !f.cancelled {
		return 0, corrupt(f.ref(batch.StepInspect, 0), "", "the listing is not sealed")
	}
	f.tally.summary.ListingIncomplete = true
	return f.led.Segments(ctx, f.batch.ID, batch.StepInspect, generation)
}

// segment is the list of one segment.
func (f *finish) segment(ctx context.Context, n int) (batch.Segment, error) {
	ref := f.ref(batch.StepInspect, n)
	seg, err := f.led.Segment(ctx, ref)
	if errors.Is(err, store.ErrNotExist) {
		return batch.Segment{}, corrupt(ref, "", "is missing")
	}
	return seg, err
}

// inspectedSegment is one segment. All keys must be after last.
func (f *finish) inspectedSegment(ctx context.Context, n int, last archive.Key) (covered, error) {
	seg, err := f.segment(ctx, n)
	if err != nil {
		return covered{}, err
	}
	ref := f.ref(batch.StepInspect, n)
	part, found, err := f.part(ctx, ref)
	if err != nil {
		return covered{}, err
	}
	if !found && !f.cancelled {
		return covered{}, corrupt(ref, "", "has no records")
	}
	records := make([]batch.Record, 0, len(seg.Objects))
	for _, o := range seg.Objects {
		if o.Key <= last {
			return covered{}, corrupt(ref, o.Key, "is not after the object listed before it")
		}
		last = o.Key
		r, ok := part[o.Key]
		switch {
		case ok:
			delete(part, o.Key)
		case found:
			return covered{}, corrupt(ref, o.Key, "has no record")
		default:
			r = unreached(o)
		}
		records = append(records, r)
	}
	return covered{records, seg.Excluded}, leftOver(ref, part)
}

// unreached is the record of an object that was listed and not inspected before the batch was cancelled.
func unreached(o batch.Listed) batch.Record {
	if o.Problem != "" {
		return batch.Record{Object: o.Object, Outcome: o.Outcome, Reason: o.Problem, Message: o.Detail}
	}
	return batch.Record{
		Object: o.Object, Outcome: batch.Skipped, Reason: batch.ReasonCancelled,
		Message: "the batch was cancelled before this object was read",
	}
}

// part reads the records of a segment, which are at most as many as its objects, and false if it has none.
func (f *finish) part(ctx context.Context, ref batch.Ref) (map[archive.Key]batch.Record, bool, error) {
	part := map[archive.Key]batch.Record{}
	for r, err := range f.led.Part(ctx, ref) {
		if errors.Is(err, store.ErrNotExist) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		if _, twice := part[r.Key]; twice {
			return nil, false, corrupt(ref, r.Key, "has two records")
		}
		if r.Outcome != batch.Done && r.Outcome != batch.Skipped && r.Outcome != batch.Failed {
			return nil, false, corrupt(ref, r.Key, fmt.Sprintf("has the unknown outcome %q", r.Outcome))
		}
		part[r.Key] = r
	}
	return part, true, nil
}

// leftOver is the error for records of objects that are not in the segment.
func leftOver(ref batch.Ref, part map[archive.Key]batch.Record) error {
	if len(part) == 0 {
		return nil
	}
	return corrupt(ref, slices.Min(slices.Collect(maps.Keys(part))), "has a record and is not in the segment")
}
