package planning

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/listing"
)

// gatherColumns sorts what the manifest says of objects like the objects themselves, if the template asks for it. Much of it may be
// about objects that a filter leaves out.
func (p *planner) gatherColumns(ctx context.Context) error {
	if !p.readsColumns() || !p.batch.Manifest {
		return nil
	}
	p.columns = p.sorter("columns")
	for o, err := range listing.Spooled(ctx, p.led, p.batch.ID) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err != nil {
			return err
		}
		if len(o.Columns) == 0 {
			continue
		}
		raw, err := json.Marshal(o.Columns)
		if err != nil {
			return fmt.Errorf("columns of %s: %w", o.Key.Text(), err)
		}
		if err := p.columns.Add(ctx, p.groupItem(o.Key), raw); err != nil {
			return err
		}
	}
	return nil
}

// besideCursor steps through what is known of objects besides their records.
type besideCursor struct{ *cursor }

// beside starts at the first of sorted items, whose keys are groupItems; sorted may be nil. Stop it.
func beside(ctx context.Context, sorted *extsort.Sorter) besideCursor {
	if sorted == nil {
		return besideCursor{&cursor{stop: func() {}}}
	}
	return besideCursor{newCursor(sorted.Sorted(ctx))}
}

// of is what is known of the object of a groupItem, nil if nothing. Objects have to be asked for in ascending order.
func (c besideCursor) of(item []byte) ([]byte, error) {
	for c.ok && bytes.Compare(c.item.Key, item) < 0 {
		c.next()
	}
	if c.err != nil || !c.ok || !bytes.Equal(c.item.Key, item) {
		return nil, c.err
	}
	return c.item.Value, nil
}

// lookUp adds what is known besides the record of an object, whose groupItem is item.
func (c *candidate) lookUp(item []byte, columns, originals besideCursor) error {
	said, err := columns.of(item)
	if err == nil && said != nil {
		c.Columns, err = decode[map[string]string](said)
	}
	if err != nil {
		return err
	}
	original, err := originals.of(item)
	c.Original = string(original)
	return err
}
