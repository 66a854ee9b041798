package finishing

import (
	"context"
	"encoding/binary"
	"iter"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
)

// sortSidecars sorts the XMP sidecars of the batch by the objects that they describe. The sorter is empty for an undo, which
// lists nothing.
func (f *finish) sortSidecars(ctx context.Context) (*extsort.Sorter, error) {
	sidecars := extsort.New(f.led.Store(), f.scratch("sidecars"), f.sort)
	if f.batch.Kind.Derived() {
		return sidecars, nil
	}
	groups, err := f.batch.Renaming.ParseGroups()
	if err != nil {
		return nil, err
	}
	var n uint64
	for d, err := range groups.Sidecars(f.keys(ctx)) {
		if err != nil {
			return nil, err
		}
		n++ // keeps the order in which the sidecars of one object come
		value := append(binary.BigEndian.AppendUint64(nil, n), d.Sidecar...)
		if err := sidecars.Add(ctx, []byte(d.Object), value); err != nil {
			return nil, err
		}
	}
	return sidecars, nil
}

// keys yields the keys of all listed objects that can be addressed, in ascending order.
func (f *finish) keys(ctx context.Context) iter.Seq2[archive.Key, error] {
	return func(yield func(archive.Key, error) bool) {
		total, err := f.listed(ctx)
		for n := 0; err == nil && n < total; n++ {
			if err = f.alive(ctx); err != nil {
				break
			}
			var seg batch.Segment
			if seg, err = f.segment(ctx, n); err != nil {
				break
			}
			for _, o := range seg.Objects {
				if _, bad := archive.ParseKey(string(o.Key)); bad == nil && !yield(o.Key, nil) {
					return
				}
			}
			f.hold.Advance(int64(len(seg.Objects)), 0)
		}
		if err != nil {
			yield("", err)
		}
	}
}

// described names in each record the sidecars of its object. Both come in ascending order of the object's key, and every
// object that has sidecars has a record.
func described(records iter.Seq2[batch.Record, error], sidecars iter.Seq2[extsort.Item, error]) iter.Seq2[batch.Record, error] {
	return func(yield func(batch.Record, error) bool) {
		next, stop := iter.Pull2(sidecars)
		defer stop()
		item, err, more := next()
		for r, readErr := range records {
			r.Sidecars = nil
			for readErr == nil && err == nil && more && string(item.Key) == string(r.Key) {
				r.Sidecars = append(r.Sidecars, archive.Key(item.Value[8:]))
				item, err, more = next()
			}
			if readErr == nil {
				readErr = err
			}
			if !yield(r, readErr) || readErr != nil {
				return
			}
		}
	}
}
