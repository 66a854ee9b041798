package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

// Preview inspects a few objects at once, without a batch. ExifTool is started only if level asks for it.
func Preview(ctx context.Context, stores *storeurl.Opener, program string, root archive.Root, keys []archive.Key, level batch.Level, digests digest.Set) iter.Seq2[batch.Record, error] {
	return func(yield func(batch.Record, error) bool) {
		err := preview(ctx, stores, program, root, keys, level, digests, yield)
		if err != nil && !errors.Is(err, errEnough) {
			yield(batch.Record{}, err)
		}
	}
}

// errEnough: the consumer wants no more.
var errEnough = errors.New("enough")

func preview(ctx context.Context, stores *storeurl.Opener, program string, root archive.Root, keys []archive.Key, level batch.Level, digests digest.Set, yield func(batch.Record, error) bool) (err error) {
	st, err := stores.Open(ctx, root, storeurl.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	pool, remove, err := privatePool(program, folders(root))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	inspector := inspecting.New(pool, inspecting.Options{Scratch: pool.Spool()})
	b := batch.Batch{Archive: root, Level: level, Digests: digests}
	for _, key := range keys {
		r := batch.Record{Object: archive.Object{Key: key}, Outcome: batch.Failed}
		object, err := st.Stat(ctx, key)
		if err != nil {
			r.Reason, r.Message = batch.ReasonMissing, err.Error()
		} else if r, err = inspector.Inspect(ctx, st, b, batch.Listed{Object: object}, func(int64) {}); err != nil {
			return err
		}
		if !yield(r, nil) {
			return errEnough
		}
	}
	return nil
}

// privatePool is a pool of one process, which may read the folders, with a scratch folder of its own, and what ends both.
func privatePool(program string, folders []string) (*exiftool.Pool, func() error, error) {
	scratch, err := os.MkdirTemp("", "reshelf-")
	if err != nil {
		return nil, nil, fmt.Errorf("scratch folder: %w", err)
	}
	pool, err := exiftool.NewPool(exiftool.Options{Processes: 1, Binary: program, Scratch: scratch, Read: folders})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(scratch))
	}
	return pool, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return errors.Join(pool.Close(ctx), os.RemoveAll(scratch))
	}, nil
}
