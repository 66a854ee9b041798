package finishing

import (
	"context"
	"iter"

	"github.com/reshelf/reshelf/worker/internal/panics"
)

// ahead yields what seq yields, and ranges over it in a goroutine of its own: while one value is used, the next is made,
// and no more than that. An error ends it, without a value. The goroutine's context ends with the range, which waits for it;
// seq must not touch what the range's body changes.
func ahead[T any](ctx context.Context, seq func(context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		values, ended := make(chan T), make(chan error, 1)
		go func() {
			defer close(values)
			ended <- handOver(ctx, seq(ctx), values)
		}()
		defer func() {
			cancel()
			for range values { // until it is closed
			}
		}()
		for v := range values {
			if !yield(v, nil) {
				return
			}
		}
		if err := <-ended; err != nil {
			var none T
			yield(none, err)
		}
	}
}

func handOver[T any](ctx context.Context, seq iter.Seq2[T, error], to chan<- T) (err error) {
	defer panics.Catch(&err)
	for v, err := range seq {
		if err != nil {
			return err
		}
		select {
		case to <- v:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
