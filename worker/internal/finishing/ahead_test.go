package finishing_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/reshelf/reshelf/worker/internal/finishing"
)

var errEnd = errors.New("end")

// upTo yields 0, 1, … n-1 and then err, if it is one. It notes how many it made.
func upTo(n int, err error, made *int) func(context.Context) iter.Seq2[int, error] {
	return func(context.Context) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			for i := range n {
				*made++
				if !yield(i, nil) {
					return
				}
			}
			if err != nil {
				yield(0, err)
			}
		}
	}
}

func TestAheadYieldsAll(t *testing.T) {
	for _, end := range []error{nil, errEnd} {
		var got []int
		var last error
		made := 0
		for v, err := range finishing.Ahead(t.Context(), upTo(100, end, &made)) {
			if err != nil {
				last = err
				continue
			}
			got = append(got, v)
		}
		if len(got) != 100 || !slices.IsSorted(got) || !errors.Is(last, end) {
			t.Errorf("got %v and %v, want 0 to 99 and %v", got, last, end)
		}
	}
}

func TestAheadIsOneAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		for v, err := range finishing.Ahead(t.Context(), upTo(10, nil, &made)) {
			check(t, err)
			synctest.Wait()
			if want := min(v+2, 10); made != want {
				t.Errorf("at %d: %d were made, want %d", v, made, want)
			}
			if v == 5 {
				break
			}
		}
		if made != 7 {
			t.Errorf("%d were made, want 7", made)
		}
	})
}

// TestAheadEndsWithItsContext has no end but that of its context. A range that ended without an error would be taken for a
// whole one.
func TestAheadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		waiting := func(ctx context.Context) iter.Seq2[int, error] {
			return func(yield func(int, error) bool) {
				for yield(1, nil) {
					<-ctx.Done()
				}
			}
		}
		var last error
		for _, err := range finishing.Ahead(ctx, waiting) {
			last = err
			synctest.Wait()
			cancel()
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("ended with %v, want %v", last, context.Canceled)
		}
		for range finishing.Ahead(t.Context(), waiting) {
			break // ends the context of what is waiting, or this waits forever
		}
	})
}
