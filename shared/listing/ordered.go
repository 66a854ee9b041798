package listing

import (
	"context"
	"iter"
	"sync"
)

// ordered calls f for each item of in, up to atOnce at a time, and yields the results in the order of the items. The
// first error, of in or f, ends it. No call is left running when it returns.
func ordered[T, R any](ctx context.Context, in iter.Seq2[T, error], atOnce int, f func(context.Context, T) (R, error),
) iter.Seq2[R, error] {
	type result struct {
		value R
		err   error
	}
	return func(yield func(R, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		// One item is at f besides those that wait in the queue.
		queue := make(chan chan result, max(0, atOnce-1))
		running.Go(func() {
			defer close(queue)
			for item, err := range in {
				answer := make(chan result, 1)
				select {
				case queue <- answer:
				case <-ctx.Done():
					return
				}
				if err != nil {
					answer <- result{err: err}
					return
				}
				running.Go(func() {
					v, err := f(ctx, item)
					answer <- result{v, err}
				})
			}
		})
		for answer := range queue {
			r := <-answer
			if !yield(r.value, r.err) || r.err != nil {
				return
			}
		}
		// Only a cancelled context ends the queue without an error in it.
		if err := ctx.Err(); err != nil {
			var none R
			yield(none, err)
		}
	}
}
