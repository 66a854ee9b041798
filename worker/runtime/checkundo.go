package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// UndoCheck is what CheckUndo found.
type UndoCheck struct {
	// Plan is the one that the undo would have if it were made now. Its rows are not kept.
	Plan batch.Plan
	// Busy says what may be moving objects meanwhile, a line each; escaped text.
	Busy []string
}

// CheckUndo makes the plan of an undo, as a worker would, without making the batch: it reads the ledger and the archive, and
// writes to a temporary folder, which it removes; only a bucket of which the ledger does not know what it can do is tried out, as
// for any rename. named are the objects of the batch's manifest, if it has one. It does not wait for
// executions that may still move something, but says which they are.
func CheckUndo(ctx context.Context, stores *storeurl.Opener, led *ledger.Ledger, b batch.Batch, named iter.Seq2[listing.Named, error]) (c UndoCheck, err error) {
	dir, err := os.MkdirTemp("", "reshelf-check-")
	if err != nil {
		return c, fmt.Errorf("temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root, err := archive.FileRoot(dir)
	if err != nil {
		return c, err
	}
	scratch, err := stores.Open(ctx, root, storeurl.Options{Ledger: true})
	if err != nil {
		return c, err
	}
	defer scratch.Close()
	over := aside{Store: led.Store(), scratch: scratch, prefix: string(ledger.Key(b.ID, ""))}
	st, err := stores.Open(ctx, b.Archive, storeurl.Options{Renames: true, Kept: over})
	if err != nil {
		return c, err
	}
	defer st.Close()
	copied := ledger.New(over)
	if b.Manifest {
		if _, err := listing.Spool(ctx, copied, b.ID, named); err != nil {
			return c, err
		}
	}
	ended := func(_ context.Context, e ledger.Execution) (bool, error) {
		gone, err := flow.Gone(e.Process)
		if err == nil && !gone {
			c.Busy = append(c.Busy, fmt.Sprintf("worker %s (process %d on %s) may still be renaming segment %d of batch %s",
				archive.EscapeText(e.Process.Worker), e.Process.PID, archive.EscapeText(e.Process.Host), e.Segment, e.Batch))
		}
		return true, err
	}
	if err := planning.Undo(ctx, unclaimed(func() error { return context.Cause(ctx) }), copied, st, b, 1, ended, func(string) {}); err != nil {
		return c, err
	}
	c.Plan, _, err = copied.Plan(ctx, b.ID)
	return c, err
}

// unclaimed is the hold of work that nobody else can have. It says why the work is to end.
type unclaimed func() error

func (u unclaimed) Held() error        { return u() }
func (unclaimed) Cancelled() bool      { return false }
func (unclaimed) Advance(int64, int64) {}

// aside is a store that is only read: what is written goes to scratch, and is read from there. Of what was written, only
// keys with a prefix can be listed, and of the store below only others.
type aside struct {
	store.Store
	scratch store.Store
	prefix  string
}

func (a aside) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	if strings.HasPrefix(opts.Prefix, a.prefix) {
		return a.scratch.List(ctx, opts)
	}
	return a.Store.List(ctx, opts)
}

func (a aside) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	o, err := a.scratch.Stat(ctx, key)
	if errors.Is(err, store.ErrNotExist) {
		return a.Store.Stat(ctx, key)
	}
	return o, err
}

func (a aside) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	c, err := a.scratch.Open(ctx, key, offset, length, want)
	if errors.Is(err, store.ErrNotExist) {
		return a.Store.Open(ctx, key, offset, length, want)
	}
	return c, err
}

func (a aside) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	return a.scratch.Create(ctx, key, body)
}

func (a aside) Replace(ctx context.Context, key archive.Key, body io.Reader) error {
	return a.scratch.Replace(ctx, key, body)
}

func (a aside) Delete(ctx context.Context, key archive.Key, want archive.Identity) error {
	return a.scratch.Delete(ctx, key, want)
}

func (a aside) Rename(context.Context, store.RenameRequest) error {
	return fmt.Errorf("rename in a ledger that is only read: %w", store.ErrUnsupported)
}

func (a aside) Exchange(context.Context, store.ExchangeRequest) error {
	return fmt.Errorf("exchange in a ledger that is only read: %w", store.ErrUnsupported)
}
