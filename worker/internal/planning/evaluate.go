package planning

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/naming"
)

// candidate is an object before it is known what it belongs to.
type candidate struct {
	Captured string    `json:"c"`
	Row      batch.Row `json:"r"`
	// Named is the name, or why there is none, that the template gives the object as a principal.
	Named named `json:"n,omitzero"`
	// Record is what the name is made of, where that has to wait for the object's number.
	Record *batch.Record `json:"v,omitempty"`
}

type named struct {
	Key        archive.Key  `json:"k,omitempty"`
	DateSource string       `json:"d,omitempty"`
	Reason     batch.Reason `json:"r,omitempty"`
	Message    string       `json:"m,omitempty"`
}

// evaluate turns the records of the inspect step into rows that are settled and units that want to move.
func (p *planner) evaluate(ctx context.Context) error {
	members := p.sorter("members")
	if err := p.gather(ctx, members); err != nil {
		return err
	}
	numbers, stop := func() (int64, error) { return 0, nil }, func() {}
	if p.template.Needs().Seq {
		order, err := p.number(ctx, members)
		if err != nil {
			return err
		}
		numbers, stop = pullNumbers(order.Sorted(ctx))
	}
	defer stop()
	a := arranger{unit: func(near map[archive.Key]*candidate, of naming.Unit) error {
		u, err := p.unit(near, of, numbers)
		if err != nil {
			return err
		}
		return p.sortOut(ctx, u)
	}, crowd: func(c *candidate) error { return p.tooMany(ctx, c) }}
	if err := p.neighbourhoods(ctx, members, a); err != nil {
		return err
	}
	return members.Remove(ctx)
}

// gather sorts all records by what they may belong to.
func (p *planner) gather(ctx context.Context, members *extsort.Sorter) error {
	for r, err := range p.inspected(ctx) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err != nil {
			return err
		}
		raw, err := json.Marshal(p.candidate(r))
		if err != nil {
			return fmt.Errorf("record of %s: %w", r.Key.Text(), err)
		}
		if err := members.Add(ctx, groupItem(r.Key), raw); err != nil {
			return err
		}
	}
	return nil
}

func groupItem(key archive.Key) []byte { return []byte(naming.GroupKey(key) + "\x00" + string(key)) }

// inspected yields the records of the inspect step, which must be as many as were listed.
func (p *planner) inspected(ctx context.Context) iter.Seq2[batch.Record, error] {
	return func(yield func(batch.Record, error) bool) {
		total, ok, err := p.led.Sealed(ctx, p.batch.ID, batch.StepInspect, generation)
		if err == nil && !ok {
			err = fmt.Errorf("the inspect step is not over: %w", ledger.ErrCorrupt)
		}
		for n := 0; err == nil && n < total; n++ {
			ref := batch.Ref{Batch: p.batch.ID, Step: batch.StepInspect, Generation: generation, Segment: n}
			var more bool
			if more, err = p.inspectedPart(ctx, ref, yield); err == nil && !more {
				return
			}
		}
		if err != nil {
			yield(batch.Record{}, err)
		}
	}
}

func (p *planner) inspectedPart(ctx context.Context, ref batch.Ref, yield func(batch.Record, error) bool) (more bool, err error) {
	h, err := p.led.SegmentHeader(ctx, ref)
	if err != nil {
		return false, err
	}
	var records int64
	for r, err := range p.led.Part(ctx, ref) {
		if err != nil {
			return false, err
		}
		records++
		if !yield(r, nil) {
			return false, nil
		}
	}
	if records != h.Objects {
		return false, fmt.Errorf("segment %s: %d records of %d objects: %w", ref, records, h.Objects, ledger.ErrCorrupt)
	}
	return true, nil
}

// candidate names an object as if it were a principal, or keeps what that takes.
func (p *planner) candidate(r batch.Record) candidate {
	c := candidate{Captured: captured(r), Row: batch.Row{From: r.Key, Want: r.Identity}}
	library, managed := listing.ManagedLibrary(r.Key)
	switch needs := p.template.Needs(); {
	case managed:
		settle(&c.Row, batch.Skipped, batch.ReasonLibrary,
			fmt.Sprintf("it is in %s, which another program manages; rename it there", archive.EscapeText(library)))
	case r.Outcome != batch.Done:
		settle(&c.Row, r.Outcome, batch.ReasonNotDone, fmt.Sprintf("it was not inspected: %s", why(r)))
	case needs.Seq:
		if !needs.Tags {
			r.Tags = nil
		}
		if needs.Digests == digest.Set(0) {
			r.Digests = nil
		}
		r.Warnings, r.Message = nil, ""
		c.Record = &r
	default:
		c.Named = p.name(r, 0)
	}
	return c
}

func why(r batch.Record) string {
	if r.Message == "" {
		return string(r.Reason)
	}
	return string(r.Reason) + ", " + r.Message
}

func (p *planner) name(r batch.Record, seq int64) named {
	v := naming.Values{
		Key: r.Key, Size: r.Size, MTime: r.ModTime(), Tags: r.Tags, Digests: r.Digests, Seq: seq, Location: p.opts.Location,
	}
	if r.Facts != nil {
		v.Facts = *r.Facts
	}
	res, err := p.template.Name(v)
	switch {
	case errors.Is(err, naming.ErrNoValue):
		return named{Reason: batch.ReasonNoValue, Message: err.Error()}
	case err != nil:
		return named{Reason: batch.ReasonBadName, Message: err.Error()}
	}
	return named{Key: res.Key, DateSource: res.DateSource}
}

// arranger takes what neighbourhoods finds. Each is called as often as needed.
type arranger struct {
	// unit takes a unit with all candidates of its neighbourhood.
	unit func(near map[archive.Key]*candidate, of naming.Unit) error
	// crowd takes one candidate of a neighbourhood that is too large to be arranged.
	crowd func(*candidate) error
}

// neighbourhoods divides candidates with equal group keys into units, in order of group key, then principal.
func (p *planner) neighbourhoods(ctx context.Context, members *extsort.Sorter, to arranger) error {
	n := neighbourhood{arranger: to, limit: p.opts.Rows, near: map[archive.Key]*candidate{}}
	for it, err := range members.Sorted(ctx) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err != nil {
			return err
		}
		c, err := decode[candidate](it.Value)
		if err != nil {
			return err
		}
		if err := n.add(&c); err != nil {
			return err
		}
	}
	return n.flush()
}

// neighbourhood gathers candidates with equal group keys.
type neighbourhood struct {
	arranger
	limit   int
	key     string
	near    map[archive.Key]*candidate
	crowded bool
	last    archive.Key
}

func (n *neighbourhood) add(c *candidate) error {
	if c.Row.From == n.last {
		return fmt.Errorf("%s has two records: %w", c.Row.From.Text(), ledger.ErrCorrupt)
	}
	n.last = c.Row.From
	if key := naming.GroupKey(c.Row.From); key != n.key {
		if err := n.flush(); err != nil {
			return err
		}
		n.key, n.crowded = key, false
	}
	n.near[c.Row.From] = c
	if len(n.near) <= n.limit && !n.crowded {
		return nil
	}
	n.crowded = true
	for _, c := range n.near {
		if err := n.crowd(c); err != nil {
			return err
		}
	}
	clear(n.near)
	return nil
}

func (n *neighbourhood) flush() error {
	keys := slices.Collect(maps.Keys(n.near))
	for _, of := range naming.Arrange(keys) {
		if err := n.unit(n.near, of); err != nil {
			return err
		}
	}
	clear(n.near)
	return nil
}

func (p *planner) tooMany(ctx context.Context, c *candidate) error {
	if c.Row.Moves() {
		settle(&c.Row, batch.Failed, batch.ReasonGroup, fmt.Sprintf(
			"more than %d objects have this name but for extension and case, so it cannot be told which of them belong together", p.opts.Rows))
	}
	return p.emitRow(ctx, string(c.Row.From), c.Row)
}

// number numbers the principals that can be named by capture time, then key, from 1. The result is in the order of
// neighbourhoods.
func (p *planner) number(ctx context.Context, members *extsort.Sorter) (*extsort.Sorter, error) {
	order, numbers := p.sorter("order"), p.sorter("numbers")
	err := p.neighbourhoods(ctx, members, arranger{unit: func(near map[archive.Key]*candidate, of naming.Unit) error {
		c := near[of.Principal]
		if c.Record == nil {
			return nil
		}
		return order.Add(ctx, []byte(c.Captured+"\x00"+string(c.Row.From)), []byte(c.Row.From))
	}, crowd: func(*candidate) error { return nil }})
	if err != nil {
		return nil, err
	}
	var n uint64
	for it, err := range order.Sorted(ctx) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err != nil {
			return nil, err
		}
		n++
		if err := numbers.Add(ctx, groupItem(archive.Key(it.Value)), binary.BigEndian.AppendUint64(nil, n)); err != nil {
			return nil, err
		}
	}
	return numbers, order.Remove(ctx)
}

func pullNumbers(sorted iter.Seq2[extsort.Item, error]) (next func() (int64, error), stop func()) {
	pull, stop := iter.Pull2(sorted)
	return func() (int64, error) {
		it, err, ok := pull()
		if !ok || err != nil {
			return 0, errors.Join(err, errors.New("fewer numbers than objects to number"))
		}
		return int64(binary.BigEndian.Uint64(it.Value)), nil
	}, stop
}

// unit makes the rows of a principal and its companions.
func (p *planner) unit(near map[archive.Key]*candidate, of naming.Unit, next func() (int64, error)) (*unit, error) {
	first := near[of.Principal]
	if first.Record != nil {
		n, err := next()
		if err != nil {
			return nil, err
		}
		first.Named = p.name(*first.Record, n)
	}
	u := &unit{Captured: first.Captured, Natural: first.Named.Key, Rows: []batch.Row{first.Row}}
	for _, k := range of.Companions {
		u.Rows = append(u.Rows, near[k].Row)
	}
	principal := &u.Rows[0]
	switch {
	case !principal.Moves():
	case first.Named.Reason != "":
		settle(principal, batch.Failed, first.Named.Reason, first.Named.Message)
	case u.settled(): // a companion cannot move
	default:
		u.rename(u.Natural)
		for i := range u.Rows {
			u.Rows[i].DateSource = first.Named.DateSource
		}
	}
	return u, nil
}

// settled reports whether any row has its outcome.
func (u *unit) settled() bool {
	return slices.ContainsFunc(u.Rows, func(r batch.Row) bool { return !r.Moves() })
}

// sortOut hands over what is settled and keeps the units that want to move.
func (p *planner) sortOut(ctx context.Context, u *unit) error {
	allOrNone(u.Rows, stuck)
	if !u.moves() {
		return p.emit(ctx, u)
	}
	if n, ok := u.bearsNumber(); ok && n <= alwaysKept && p.policy == batch.ConflictNumber {
		u.keep()
		return p.emit(ctx, u)
	}
	p.moving++
	return p.want(ctx, p.units, p.wishes, u)
}
