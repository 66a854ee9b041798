package planning_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// distant is an archive that answers after a second, and takes some requests at once.
type distant struct {
	store.Store
	parallel int
	down     bool
}

func (d distant) Properties() store.Properties {
	p := d.Store.Properties()
	p.Parallel = d.parallel
	return p
}

func (d distant) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return archive.Object{}, ctx.Err()
	}
	if d.down {
		return archive.Object{}, store.ErrUnavailable
	}
	return d.Store.Stat(ctx, key)
}

// An undo asks an archive that takes many requests at once about many names at once, and comes to the same as with one after the other.
func TestUndoLooksAtManyNamesAtOnce(t *testing.T) {
	plan := func(t *testing.T, parallel int) (map[archive.Key]string, time.Duration) {
		w := newWorld()
		for i := range 30 {
			w.put(t, []object{{key: archive.Key(fmt.Sprintf("%02d.jpg", i)), day: i%5 + 1}})
		}
		b := renameBatch(idA, "n/{name}{ext}", batch.ConflictStop)
		w.inspect(t, b, nil, nil)
		w.plan(t, b, planning.Options{})
		w.carryOut(t, idA, -1)
		check(t, w.archive.Create(t.Context(), "07.jpg", strings.NewReader("foreign")))
		check(t, w.archive.Delete(t.Context(), "n/08.jpg", archive.Identity{}))
		w.archive = distant{Store: w.archive, parallel: parallel}
		begun := time.Now()
		rows := w.undoing(t, idB, idA, nil).rows
		return outcomes(rows), time.Since(begun)
	}
	synctest.Test(t, func(t *testing.T) {
		want, slow := plan(t, 1)
		got, fast := plan(t, 20)
		if diff := cmp.Diff(want, got); diff != "" || want["n/07.jpg"] != "failed: conflict" || want["n/08.jpg"] != "failed: missing" {
			t.Errorf("undo with many requests at once (-want +got):\n%s", diff)
		}
		if slow != 60*time.Second || fast != 3*time.Second {
			t.Errorf("two names of 30 objects take %s, and %s where 20 are looked at at once", slow, fast)
		}
	})
}

// An archive that does not answer is an error, not objects that are missing, and is not asked about all the others.
func TestUndoWhereTheArchiveDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 30 {
			w.put(t, []object{{key: archive.Key(fmt.Sprintf("%02d.jpg", i))}})
		}
		b := renameBatch(idA, "n/{name}{ext}", batch.ConflictStop)
		w.inspect(t, b, nil, nil)
		w.plan(t, b, planning.Options{})
		w.carryOut(t, idA, -1)
		u := undoBatch(idB, idA)
		check(t, w.led.CreateBatch(t.Context(), u))
		begun := time.Now()
		err := planning.Undo(t.Context(), claim{}, w.led, distant{w.archive, 4, true}, u, 3, over, func(string) {})
		if took := time.Since(begun); !errors.Is(err, store.ErrUnavailable) || took > 2*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		if _, _, err := w.led.Plan(t.Context(), idB); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("a plan was sealed: %v", err)
		}
	})
}
