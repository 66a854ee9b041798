package renaming_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// dull is a card whose clock stands still, so that objects of one size have one identity.
type dull struct{ *card }

func (d dull) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range d.card.List(ctx, opts) {
			e.MTime = 1
			if !yield(e, err) {
				return
			}
		}
	}
}

func (d dull) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	o, err := d.card.Stat(ctx, key)
	o.MTime = 1
	return o, err
}

func (d dull) Rename(ctx context.Context, req store.RenameRequest) error {
	src, err := d.Stat(ctx, req.From)
	if errors.Is(err, store.ErrNotExist) {
		if dst, err := d.Stat(ctx, req.To); err == nil && req.Want.Same(dst.Identity) {
			return nil
		}
	}
	switch {
	case err != nil:
		return err
	case !req.Want.Same(src.Identity):
		return store.ErrChanged
	}
	if src, err = d.Store.Stat(ctx, req.From); err != nil {
		return err
	}
	req.Want = src.Identity
	return d.card.Rename(ctx, req)
}

// An execution dies, and somebody gives another object of the same size and time one of the names. The records say which is which.
func TestFoldedTwins(t *testing.T) {
	for _, links := range []bool{false, true} {
		for renames := int64(1); renames <= 3; renames++ {
			for _, name := range []archive.Key{"A.JPG", "A.jpg", "B.XMP", "A.XMP"} {
				for _, cancelled := range []bool{false, true} {
					t.Run(fmt.Sprintf("%t %d %s %t", links, renames, name, cancelled), func(t *testing.T) {
						w := folded(t, dull{newCard(links)}, "A.JPG -> A.jpg @ A.JPG", "A.XMP -> B.XMP @ A.JPG")
						w.dead(renames, true)
						if err := w.execute(claim{}); err == nil {
							t.Fatal("it did not die")
						}
						w.alive()
						foreign := map[archive.Key]string{}
						if w.archive.Create(t.Context(), name, strings.NewReader("CONTENT OF A.XMP")) == nil {
							foreign[name] = "CONTENT OF A.XMP"
						}
						check(t, w.execute(claim{cancelled: cancelled}))
						w.checkWorld(t, foreign)
						for key := range foreign {
							check(t, w.archive.Delete(t.Context(), key, archive.Identity{}))
						}
						check(t, w.planUndo(t).execute(claim{}))
						wantContents(t, w.archive.Store, "A.JPG", "A.XMP")
					})
				}
			}
		}
	}
}

// Somebody does so at the last moment, in front of any of the renames.
func TestFoldedTwinsAtTheLastMoment(t *testing.T) {
	for _, links := range []bool{false, true} {
		for at := int64(1); at <= 4; at++ {
			for _, name := range []archive.Key{"A.JPG", "A.jpg", "B.XMP", "A.XMP"} {
				t.Run(fmt.Sprintf("%t %d %s", links, at, name), func(t *testing.T) {
					w := folded(t, dull{newCard(links)}, "A.JPG -> A.jpg @ A.JPG", "A.XMP -> B.XMP @ A.JPG")
					var renames atomic.Int64
					foreign := map[archive.Key]string{}
					w.archive.before = func(op string, _ archive.Key) error {
						if op == "rename" && renames.Add(1) == at && w.archive.Store.Create(t.Context(), name, strings.NewReader("CONTENT OF A.XMP")) == nil {
							foreign[name] = "CONTENT OF A.XMP"
						}
						return nil
					}
					check(t, w.execute(claim{}))
					w.alive()
					w.checkWorld(t, foreign)
				})
			}
		}
	}
}
