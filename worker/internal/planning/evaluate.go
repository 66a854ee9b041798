package planning

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
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
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

// candidate is an object before it is known what it belongs to, with what its name, or that of the object that it is the
// sidecar of, is made of. It is small, whatever the object's tags are.
type candidate struct {
	Row     batch.Row       `json:"r"`
	Facts   metadata.Facts  `json:"f,omitzero"`
	Tags    metadata.Tags   `json:"t,omitempty"`
	Digests []digest.Digest `json:"d,omitempty"`
	// Columns are what the manifest says of it, and Original is its first name; neighbourhoods looks them up.
	Columns  map[string]string `json:"-"`
	Original string            `json:"-"`
	// Mute says why an object that should be an XMP sidecar says nothing.
	Mute string `json:"m,omitempty"`
	// Follows: it could not be inspected, which settled the Row, but as a sidecar it moves with its object.
	Follows bool `json:"o,omitempty"`
}

// evaluate turns the records of the inspect step into rows that are settled and units that want to move.
func (p *planner) evaluate(ctx context.Context) error {
	members := p.sorter("members")
	if err := p.gather(ctx, members); err != nil {
		return err
	}
	if err := p.gatherColumns(ctx); err != nil {
		return err
	}
	if err := p.gatherOriginals(ctx, members); err != nil {
		return err
	}
	numbers, stop := func() (int64, error) { return 0, nil }, func() {}
	if counters(p.template) > 0 {
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
		if err := p.noteContent(ctx, r); err != nil {
			return err
		}
		c := p.candidate(r)
		if _, err := archive.ParseKey(string(r.Key)); err != nil { // it has no name that others could follow
			if err := p.emitRow(ctx, place(r.Key), c.Row); err != nil {
				return err
			}
			continue
		}
		if err := addJSON(ctx, members, p.groupItem(r.Key), c); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) groupItem(key archive.Key) []byte {
	return []byte(p.groups.Key(key) + "\x00" + string(key))
}

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

// candidate settles an object that nothing can rename, and keeps of any other what names are made of.
func (p *planner) candidate(r batch.Record) candidate {
	c := candidate{Row: batch.Row{From: r.Key, Want: r.Identity}}
	library, managed := listing.ManagedLibrary(r.Key)
	switch {
	case managed:
		settle(&c.Row, batch.Skipped, batch.ReasonLibrary,
			fmt.Sprintf("it is in %s, which another program manages; rename it there", archive.EscapeText(library)))
	case r.Outcome != batch.Done:
		settle(&c.Row, r.Outcome, batch.ReasonNotDone, fmt.Sprintf("it was not inspected: %s", why(r)))
		c.Mute, c.Follows = c.Row.Message, naming.IsXMP(r.Key) && isOfContent(r.Reason)
	default:
		p.know(&c, r)
	}
	return c
}

func why(r batch.Record) string {
	if r.Message == "" {
		return string(r.Reason)
	}
	return string(r.Reason) + ", " + r.Message
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
	n := neighbourhood{arranger: to, groups: p.groups, limit: p.opts.Rows, near: map[archive.Key]*candidate{}}
	columns, originals := beside(ctx, p.columns), beside(ctx, p.originals)
	defer columns.stop()
	defer originals.stop()
	for it, err := range members.Sorted(ctx) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err != nil {
			return err
		}
		c, err := decode[candidate](it.Value)
		if err == nil {
			err = c.lookUp(it.Key, columns, originals)
		}
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
	groups  *naming.Groups
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
	if key := n.groups.Key(c.Row.From); key != n.key {
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
	for _, of := range n.groups.Arrange(keys) {
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
	return p.emitRow(ctx, place(c.Row.From), c.Row)
}

// number numbers the principals that can be named by capture time, then key, from 1, in each scope of the template's counters.
// The result is in the order of neighbourhoods, an object's numbers in that of scopesOf.
func (p *planner) number(ctx context.Context, members *extsort.Sorter) (*extsort.Sorter, error) {
	order, numbers := p.sorter("order"), p.sorter("numbers")
	err := p.neighbourhoods(ctx, members, arranger{unit: func(near map[archive.Key]*candidate, of naming.Unit) error {
		k := p.known(near, of)
		if !k.principal.Row.Moves() {
			return nil
		}
		v := k.values(p.template)
		for i, scope := range scopesOf(p.template, v) {
			in := inScope(i, scope)
			if err := order.Add(ctx, append(in, p.template.Captured(v)+"\x00"+string(v.Key)...), append(in, v.Key...)); err != nil {
				return err
			}
		}
		return nil
	}, crowd: func(*candidate) error { return nil }})
	if err != nil {
		return nil, err
	}
	var n uint64
	var last []byte
	for it, err := range order.Sorted(ctx) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err != nil {
			return nil, err
		}
		in, key := it.Value[:scopeBytes], archive.Key(it.Value[scopeBytes:])
		if !bytes.Equal(in, last) {
			n, last = 0, bytes.Clone(in)
		}
		n++
		counter := append(append(p.groupItem(key), 0), in[:1]...)
		if err := numbers.Add(ctx, counter, binary.BigEndian.AppendUint64(nil, n)); err != nil {
			return nil, err
		}
	}
	return numbers, order.Remove(ctx)
}

// scopeBytes is the length of inScope: a counter's number and a hash of the scope, whose order does not matter.
const scopeBytes = 1 + sha256.Size

// inScope begins the sort keys of a counter's scope. A template has fewer counters than a byte has values (naming.MaxCounters).
func inScope(counter int, scope string) []byte {
	sum := sha256.Sum256([]byte(scope))
	return append([]byte{byte(counter)}, sum[:]...)[:scopeBytes:scopeBytes]
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
	k := p.known(near, of)
	principal := k.principal.Row
	if principal.Moves() {
		k.numbers = make([]int64, counters(p.template))
		for i := range k.numbers {
			var err error
			if k.numbers[i], err = next(); err != nil {
				return nil, err
			}
		}
	}
	u := &unit{Captured: p.template.Captured(k.values(p.template)), Rows: []batch.Row{principal}, Tails: of.Tails, Notes: map[int]string{}}
	for i, key := range of.Companions {
		row, note := near[key].asCompanion()
		u.Rows = append(u.Rows, row)
		u.note(i+1, note)
	}
	if !principal.Moves() {
		return u, nil
	}
	if p.needs().Tags {
		u.note(0, k.note())
	}
	named, err := p.template.Name(k.values(p.template))
	switch {
	case errors.Is(err, naming.ErrNoValue):
		settle(&u.Rows[0], batch.Failed, batch.ReasonNoValue, err.Error())
	case err != nil:
		settle(&u.Rows[0], batch.Failed, batch.ReasonBadName, err.Error())
	case u.settled(): // a companion cannot move
	default:
		u.Natural, u.Ext = named.Key, p.groups.Ext(principal.From, named.Key)
		u.rename(u.Natural, p.props)
		u.Second = p.secondName(k)
		for i := range u.Rows {
			u.Rows[i].DateSource, u.Rows[i].Changed = named.DateSource, named.Changed
			if named.Sidecar {
				u.Rows[i].Sidecar = k.sidecar.Row.From
			}
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
