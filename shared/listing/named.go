package listing

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// statsAtOnce bounds how many objects of a manifest are looked up at once.
const statsAtOnce = 32

// manifest looks up the objects that the batch's manifest names strictly after l.last.
func (l *lister) manifest(ctx context.Context) found {
	objects := spooled(ctx, l.ledger.Store(), l.batch.ID, l.last)
	return ordered(ctx, objects, statsAtOnce, func(ctx context.Context, named Named) (entry, error) {
		key := named.Key
		if l.filter.excludes(key) {
			return entry{excluded: 1}, nil
		}
		o, err := l.store.Stat(ctx, key)
		if err == nil {
			o.Key = key
			return entry{Listed: batch.Listed{Object: o}}, nil
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrUnavailable) {
			return entry{}, err
		}
		return entry{Listed: describeFault(key, err)}, nil
	})
}

// describeFault says what is to become of an object that could not be looked up.
func describeFault(key archive.Key, err error) batch.Listed {
	l := batch.Listed{Object: archive.Object{Key: key}, Outcome: batch.Failed, Detail: detail(err)}
	switch {
	case errors.Is(err, store.ErrNotExist):
		l.Problem = batch.ReasonMissing
		l.Detail = "the manifest names it, but it is not in the archive"
	case errors.Is(err, store.ErrNotRegular):
		l.Outcome, l.Problem = batch.Skipped, batch.ReasonSpecial
	case errors.Is(err, store.ErrPermission):
		l.Problem = batch.ReasonUnreadable
	default:
		l.Problem = batch.ReasonIO
	}
	return l
}

// confirmMissing looks whether there is anything in the archive before a segment says that objects are missing: a disk
// that is not mounted leaves an empty folder behind, and an empty archive is never a list of missing objects.
func (l *lister) confirmMissing(ctx context.Context, seg batch.Segment) error {
	missing := func(o batch.Listed) bool { return o.Problem == batch.ReasonMissing }
	i := slices.IndexFunc(seg.Objects, missing)
	if i < 0 {
		return nil
	}
	visible := Filter{all: l.filter.all}
	for e, err := range l.store.List(ctx, store.ListOptions{Skip: visible.Skip}) {
		if err != nil {
			return err
		}
		return check(e, "")
	}
	return fmt.Errorf("%w: it is empty, but the manifest names %s in it; check that it is mounted",
		store.ErrUnavailable, seg.Objects[i].Key.Text())
}
