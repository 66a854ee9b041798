// Package editing takes in a plan that a person has edited: it checks each row against the plan that was edited, and stores what
// the person wants as the manifest of the batch that is to plan it anew.
package editing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/report"
)

// ErrRow is wrapped by the errors about a row that the plan does not have, has only once, or cannot give a name.
var ErrRow = errors.New("the edited plan does not fit the plan")

// Counts say how an edited plan differs from the one that was edited.
type Counts struct {
	// Rows are all rows of the plan. Of these, Renamed have another name now, and LeftOut had one and have none.
	Rows, Renamed, LeftOut int64
}

// Store reads an edited plan, in any form that report.ReadPlan reads, and stores it as the manifest of batch id, which was not
// submitted yet: the rows that it has, with their new names in the column batch.ColumnTo. Rows may be in any order, and may be
// missing; none may be there twice, or be of an object that the plan of base does not have. Errors wrap report.ErrPlan or ErrRow
// where the file is to blame, and name the first line that is.
//
// It streams: both plans are sorted by key below the batch, whatever their size. Where it fails it may leave objects there.
func Store(ctx context.Context, led *ledger.Ledger, id batch.ID, base batch.Plan, csv io.Reader) (Counts, error) {
	e := &edit{led: led, id: id}
	defer e.remove(ctx)
	rows, names, err := e.sort(ctx, base, csv)
	if err != nil {
		return Counts{}, err
	}
	if err := e.match(ctx, rows, names, func(pair) error { return nil }); err != nil {
		return Counts{}, err
	}
	e.counts = Counts{}
	_, err = listing.Spool(ctx, led, id, e.wanted(ctx, rows, names))
	return e.counts, err
}

// edit is one reading of an edited plan.
type edit struct {
	led     *ledger.Ledger
	id      batch.ID
	sorters []*extsort.Sorter
	counts  Counts
}

// removeWithin bounds the removal of scratch.
const removeWithin = time.Minute

func (e *edit) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	for _, s := range e.sorters {
		_ = s.Remove(ctx)
	}
}

func (e *edit) sorter(name string) *extsort.Sorter {
	s := extsort.New(e.led.Store(), string(ledger.Key(e.id, "edit", name)), extsort.Options{})
	e.sorters = append(e.sorters, s)
	return s
}

// written is what the file says of an object, and where.
type written struct {
	Line int         `json:"l"`
	To   archive.Key `json:"t,omitempty"`
}

// sort sorts the rows of the plan and of the file by key.
func (e *edit) sort(ctx context.Context, base batch.Plan, csv io.Reader) (rows, names *extsort.Sorter, err error) {
	rows, names = e.sorter("rows"), e.sorter("names")
	for n, err := range report.ReadPlan(csv) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, nil, err
		}
		raw, err := json.Marshal(written{n.Line, n.To})
		if err == nil {
			err = names.Add(ctx, []byte(n.From), raw)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
	}
	for r, err := range e.led.Rows(ctx, base) {
		if err == nil {
			err = rows.Add(ctx, []byte(r.From), []byte(r.To))
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return rows, names, nil
}

// pair is a row of the plan with what the file says of it, nil if nothing.
type pair struct {
	key, to archive.Key
	said    *written
}

// match calls each with every row of the plan, in order of key. It is ErrRow, after all were looked at, if a row of the file has
// no counterpart; the error names the first one that stands in the file.
func (e *edit) match(ctx context.Context, rows, names *extsort.Sorter, each func(pair) error) error {
	said := newCursor(names.Sorted(ctx))
	defer said.stop()
	var wrong misfits
	for row, err := range rows.Sorted(ctx) {
		if err != nil {
			return err
		}
		p := pair{key: archive.Key(row.Key), to: archive.Key(row.Value)}
		for said.ok && said.key <= p.key {
			wrong.meet(&p, said.key, said.written)
			said.next()
		}
		if said.err != nil {
			return said.err
		}
		wrong.check(p)
		if err := each(p); err != nil {
			return err
		}
	}
	for said.ok {
		wrong.meet(&pair{}, said.key, said.written)
		said.next()
	}
	return errors.Join(said.err, wrong.err())
}

// cursor steps through what the file says, in order of key.
type cursor struct {
	pull func() (extsort.Item, error, bool)
	stop func()
	key  archive.Key
	written
	err error
	ok  bool // key and written are valid
}

// newCursor stands at the first. Stop it whatever happens.
func newCursor(items iter.Seq2[extsort.Item, error]) *cursor {
	c := &cursor{}
	c.pull, c.stop = iter.Pull2(items)
	c.next()
	return c
}

func (c *cursor) next() {
	var item extsort.Item
	if item, c.err, c.ok = c.pull(); !c.ok || c.err != nil {
		c.ok = false
		return
	}
	c.key, c.written = archive.Key(item.Key), written{}
	if err := json.Unmarshal(item.Value, &c.written); err != nil {
		c.err, c.ok = fmt.Errorf("read what was sorted: %w", err), false
	}
}

// misfits are the rows of the file that do not fit.
type misfits struct {
	n    int64
	line int // the first one's
	text string
}

func (m *misfits) add(line int, key archive.Key, what string) {
	if m.n++; m.n == 1 || line < m.line {
		m.line, m.text = line, fmt.Sprintf(`column "from": %s: %s`, key.Text(), what)
	}
}

// meet adds what the file says of an object to the row of the plan, if it is the object's and has nothing yet.
func (m *misfits) meet(p *pair, key archive.Key, w written) {
	switch {
	case key != p.key:
		m.add(w.Line, key, "the plan has no such row")
	case p.said != nil:
		m.add(max(w.Line, p.said.Line), key, fmt.Sprintf("the row is there twice, also in line %d", min(w.Line, p.said.Line)))
	default:
		p.said = &w
	}
}

// check adds a row that gives a name to an object whose key nothing can act on.
func (m *misfits) check(p pair) {
	if _, err := archive.ParseKey(string(p.key)); err != nil && p.said != nil && p.said.To != "" {
		m.add(p.said.Line, p.key, "the object cannot be renamed: "+err.Error())
	}
}

func (m *misfits) err() error {
	if m.n == 0 {
		return nil
	}
	more := ""
	if m.n > 1 {
		more = fmt.Sprintf(" (and %d more such lines)", m.n-1)
	}
	return fmt.Errorf("%w: line %d, %s%s; want rows of this batch's plan, each at most once, with its from as it was", ErrRow, m.line, m.text, more)
}

// wanted yields what the file says of rows that can be renamed, and counts.
func (e *edit) wanted(ctx context.Context, rows, names *extsort.Sorter) iter.Seq2[listing.Named, error] {
	return func(yield func(listing.Named, error) bool) {
		stopped := errors.New("stopped")
		err := e.match(ctx, rows, names, func(p pair) error {
			e.count(p)
			if _, err := archive.ParseKey(string(p.key)); err != nil || p.said == nil {
				return nil
			}
			n := listing.Named{Key: p.key}
			if p.said.To != "" {
				n.Columns = map[string]string{batch.ColumnTo: p.said.To.Text()}
			}
			if !yield(n, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(listing.Named{}, err)
		}
	}
}

func (e *edit) count(p pair) {
	e.counts.Rows++
	switch {
	case p.said == nil || p.said.To == "":
		if p.to != "" && p.to != p.key {
			e.counts.LeftOut++
		}
	case p.said.To != p.to:
		e.counts.Renamed++
	}
}
