package planning

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/listing"
)

// choice says which rows of an undone plan were chosen: all, those whose new names a filter takes, or of these those that
// the undo's manifest names. The zero choice is all. Rows have to be asked for from the last to the first.
type choice struct {
	filter *listing.Filter
	named  *rowCursor // nil without a manifest
	// strangers are keys of the manifest that no row has.
	strangers *extsort.Sorter
}

// choose finds the rows that the manifest names: the plan is sorted by rows, the manifest by keys, so the new names are
// sorted by key and joined with the manifest, and what they have in common is sorted by rows again.
func (u *undoer) choose(ctx context.Context, undone batch.Plan) (choice, error) {
	var c choice
	if !u.batch.Chooses() {
		return c, nil
	}
	var err error
	if c.filter, err = listing.Compile(u.batch.Filter); err != nil || !u.batch.Manifest {
		return c, err
	}
	names, rows := u.sorter("names"), u.sorter("chosen")
	c.strangers = u.sorter("strangers")
	for r, err := range u.led.Rows(ctx, undone) {
		if err == nil {
			err = u.tick(ctx)
		}
		if err == nil && r.Moves() {
			err = names.Add(ctx, []byte(r.To), fromLast(r.N))
			if err == nil && r.Park != "" { // it may have been left there
				err = names.Add(ctx, []byte(r.Park), fromLast(r.N))
			}
		}
		if err != nil {
			return c, err
		}
	}
	there := newCursor(names.Sorted(ctx))
	defer there.stop()
	for o, err := range listing.Spooled(ctx, u.led, u.batch.ID) {
		if err == nil {
			err = u.tick(ctx)
		}
		if err != nil {
			return c, err
		}
		key := o.Key
		for there.ok && bytes.Compare(there.item.Key, []byte(key)) < 0 {
			there.next()
		}
		if there.ok && string(there.item.Key) == string(key) {
			err = rows.Add(ctx, there.item.Value, nil)
		} else if there.err == nil {
			err = c.strangers.Add(ctx, []byte(key), nil)
		}
		if err != nil || there.err != nil {
			return c, errors.Join(err, there.err)
		}
	}
	there.stop()
	if err := names.Remove(ctx); err != nil {
		return c, err
	}
	c.named = newRowCursor(rows.Sorted(ctx))
	return c, nil
}

func (c *choice) close() { c.named.close() }

// noneFrom reports whether row first, and all after it that were not asked for yet, were certainly not chosen.
func (c *choice) noneFrom(first int64) (bool, error) {
	if c.named == nil {
		return false, nil
	}
	n, ok := c.named.row()
	return !ok || n < first, c.named.err
}

func (c *choice) has(r batch.Row) (bool, error) {
	named := true
	if c.named != nil {
		var err error
		if _, named, err = c.named.at(r.N); err != nil {
			return false, err
		}
	}
	return named && (c.filter == nil || c.filter.Takes(r.To)), nil
}

// eachStranger calls each with the keys that were chosen in vain.
func (c *choice) eachStranger(ctx context.Context, each func(archive.Key) error) error {
	if c.strangers == nil {
		return nil
	}
	for it, err := range c.strangers.Sorted(ctx) {
		if err == nil {
			err = each(archive.Key(it.Key))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stranger is the row of a key that was chosen in vain.
func stranger(key archive.Key) batch.Row {
	r := batch.Row{From: key}
	settle(&r, batch.Failed, batch.ReasonNotInBatch,
		"the batch gave no object this name, so there is nothing to take back; give the name that an object got, or --include for all in a folder")
	return r
}

// fromLast is a row's number as bytes that sort the last row first.
func fromLast(n int64) []byte { return binary.BigEndian.AppendUint64(nil, ^uint64(n)) }

// rowCursor steps through items whose keys are fromLast.
type rowCursor struct{ *cursor }

func newRowCursor(items iter.Seq2[extsort.Item, error]) *rowCursor {
	return &rowCursor{newCursor(items)}
}

// row is the row that the cursor stands at.
func (c *rowCursor) row() (int64, bool) {
	if !c.ok {
		return 0, false
	}
	return int64(^binary.BigEndian.Uint64(c.item.Key)), true
}

// close frees the cursor, which may be nil.
func (c *rowCursor) close() {
	if c != nil {
		c.stop()
	}
}

// at goes to row n, and returns the value there, and false if there is none. The nil rowCursor has no rows.
func (c *rowCursor) at(n int64) ([]byte, bool, error) {
	if c == nil {
		return nil, false, nil
	}
	for {
		here, ok := c.row()
		if !ok || here <= n {
			return c.item.Value, ok && here == n, c.err
		}
		c.next()
	}
}

// added counts the objects that move although they were not chosen.
type added struct {
	n     int64
	first []string
}

func (a *added) add(key archive.Key) {
	if a.n++; len(a.first) < examples {
		a.first = append(a.first, key.Text())
	}
}

// note says which they are; nothing where there are none.
func (a *added) note() []string {
	if a.n == 0 {
		return nil
	}
	belong := "they belong"
	if a.n == 1 {
		belong = "it belongs"
	}
	text := fmt.Sprintf("%s not chosen, but moved too, since %s to what was: %s", objects(a.n), belong, strings.Join(a.first, ", "))
	if more := a.n - int64(len(a.first)); more > 0 {
		text += fmt.Sprintf(" and %s more", humanize.Comma(more))
	}
	return []string{text}
}
