package planning

import (
	"bytes"
	"iter"

	"github.com/reshelf/reshelf/shared/extsort"
)

// cursor steps through a sequence of items.
type cursor struct {
	pull func() (extsort.Item, error, bool)
	stop func()
	item extsort.Item
	err  error
	ok   bool // item is valid
}

// newCursor stands at the first item. Stop it whatever happens.
func newCursor(items iter.Seq2[extsort.Item, error]) *cursor {
	pull, stop := iter.Pull2(items)
	c := &cursor{pull: pull, stop: stop}
	c.next()
	return c
}

// to goes to the first item whose key is not less.
func (c *cursor) to(key []byte) {
	for c.ok && bytes.Compare(c.item.Key, key) < 0 {
		c.next()
	}
}

// at reports whether the cursor stands at an item of that key.
func (c *cursor) at(key []byte) bool { return c.ok && bytes.Equal(c.item.Key, key) }

func (c *cursor) next() {
	c.item, c.err, c.ok = c.pull()
	if c.err != nil {
		c.ok = false
	}
}

// take decodes the items of a key. Keys have to be asked for in ascending order.
func take[T any](c *cursor, key []byte) (out []T, err error) {
	for c.to(key); c.at(key); c.next() {
		v, err := decode[T](c.item.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, c.err
}

// merged yields the items of a few sorted sequences in order of their keys; of equal keys, those of the earlier sequence
// first.
func merged(sources ...iter.Seq2[extsort.Item, error]) iter.Seq2[extsort.Item, error] {
	return func(yield func(extsort.Item, error) bool) {
		cursors := make([]*cursor, 0, len(sources))
		for _, s := range sources {
			c := newCursor(s)
			defer c.stop()
			cursors = append(cursors, c)
		}
		for {
			var least *cursor
			for _, c := range cursors {
				if c.err != nil {
					yield(extsort.Item{}, c.err)
					return
				}
				if c.ok && (least == nil || bytes.Compare(c.item.Key, least.item.Key) < 0) {
					least = c
				}
			}
			if least == nil || !yield(least.item, nil) {
				return
			}
			least.next()
		}
	}
}
