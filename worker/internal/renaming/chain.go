package renaming

import (
	"context"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
)

// chain is what is known of the rows of a chain that were carried out.
type chain struct {
	// inode holds those of all objects that move in the chain.
	inode map[uint64]bool
	// taken are the names that objects of the chain have and others get, where a rename is not one step; nil where it is.
	taken map[string]bool
	// stay holds the records of the objects that have kept their names, by these. Names are compared folded; no plan gives two
	// names that are equal so.
	stay map[string]batch.Record
}

func (m *mover) newChain(rows []batch.Row) chain {
	c := chain{inode: map[uint64]bool{}, stay: map[string]batch.Record{}}
	if !m.chains {
		c.taken = map[string]bool{}
	}
	for _, r := range rows {
		if r.Chain != 0 && r.Moves() {
			c.inode[r.Want.Inode] = true
			if c.taken != nil {
				c.taken[naming.Fold(r.From)] = true
			}
		}
	}
	return c
}

// blocks is why rows are not to be tried: their names have not been left. Should one be free for a moment, a worker that wakes up may
// have taken its object away just now, and is about to bring it back.
func (c chain) blocks(rows []batch.Row) *reason {
	for _, r := range rows {
		if r.Chain == 0 || !r.Moves() {
			continue
		}
		if to := naming.Fold(r.To); c.taken[to] && to != naming.Fold(r.From) {
			return &reason{batch.Failed, batch.ReasonUnsupported, "objects can get the names that others leave only where a rename is one step; do it again, one after another"}
		}
		before, ok := c.stay[naming.Fold(r.To)]
		if !ok {
			continue
		}
		return &reason{batch.Failed, batch.ReasonConflict, fmt.Sprintf("%s has not left the name %s: %s", before.Key.Text(), r.To.Text(), before.Message)}
	}
	return nil
}

// settleChained makes the records of rows true where the objects of a chain stand at one another's names, and remembers which have kept
// theirs.
func (m *mover) settleChained(ctx context.Context, c *chain, rows []batch.Row, records []batch.Record) error {
	for i, r := range rows {
		if !r.Moves() || records[i].Outcome == batch.Done {
			continue
		}
		s := &step{row: r, record: &records[i]}
		if records[i].Reason == batch.ReasonChanged && records[i].To == "" {
			if err := m.foundElsewhere(ctx, c, s); err != nil {
				return err
			}
		}
		if records[i].To == "" && records[i].Reason != batch.ReasonMissing {
			c.stay[naming.Fold(r.From)] = records[i]
		}
	}
	return nil
}

// settleCircle remembers the names of a circle that was not carried out as a whole: nobody gets any of them.
func (c *chain) settleCircle(rows []batch.Row, records []batch.Record) {
	stays := false
	for i, r := range rows {
		stays = stays || r.Moves() && records[i].To != r.To
	}
	for i, r := range rows {
		if stays && r.Moves() {
			c.stay[naming.Fold(r.From)] = records[i]
		}
	}
}

// foundElsewhere settles a row at whose old name something else is: its object may have been renamed and have changed since, and what is
// there may be one of the chain that came after it.
func (m *mover) foundElsewhere(ctx context.Context, c *chain, s *step) error {
	w, err := store.Locate(ctx, m.archive, m.request(s.row))
	if err != nil {
		return err
	}
	source, target := w.Source.Object, w.Target.Object
	switch {
	case target.Inode != 0 && target.Inode == s.row.Want.Inode && source.Inode != target.Inode:
		s.done(target.Identity)
		s.record.Outcome, s.record.Reason = batch.Failed, batch.ReasonChanged
		s.record.Message = "it was renamed, and has changed since the plan was made"
	case source.Inode != s.row.Want.Inode && c.inode[source.Inode] && source.Identity != (archive.Identity{}):
		s.staysFor(store.Missing)
	}
	return nil
}
