package extsort_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// forgetful fails to delete, once.
type forgetful struct {
	store.Store
	failed bool
}

var errForgot = errors.New("forgot")

func (f *forgetful) Delete(ctx context.Context, key archive.Key, want archive.Identity) error {
	if !f.failed {
		f.failed = true
		return errForgot
	}
	return f.Store.Delete(ctx, key, want)
}

// A run that could not be deleted when it was merged does not come twice.
func TestSortedAfterADeletionFailed(t *testing.T) {
	st := &forgetful{Store: memstore.New(archive.Root{})}
	s := extsort.New(st, "sort", extsort.Options{Memory: 1, FanIn: 2})
	for i := range 5 {
		if err := s.Add(t.Context(), fmt.Append(nil, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range s.Sorted(t.Context()) {
		if err != nil {
			t.Log(err)
		}
	}
	if got := len(collect(t, s)); got != 5 {
		t.Errorf("%d records, want 5", got)
	}
}

// Sorters of a group yield what was added to them, in order, whichever of them are ranged over and added to at the same time; what
// they yield stays as it is.
func TestGroupInterleaved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		st := memstore.New(archive.Root{})
		g := extsort.NewGroup(st, extsort.Options{Memory: rapid.SampledFrom([]int{1, 500, 2000, 10_000, 100_000}).Draw(t, "memory"), FanIn: rapid.IntRange(2, 4).Draw(t, "fanIn")})
		const n = 4
		type open struct {
			of   int
			next func() (extsort.Item, error, bool)
			stop func()
			at   int
		}
		var sorters [n]*extsort.Sorter
		var added [n]map[string]int
		var ranged [n]int
		for i := range n {
			added[i] = map[string]int{}
		}
		var opened []*open
		type kept struct {
			it   extsort.Item
			text string
		}
		var all []kept
		total := func(i int) (sum int) {
			for _, k := range added[i] {
				sum += k
			}
			return sum
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			i := rapid.IntRange(0, n-1).Draw(t, "sorter")
			if sorters[i] == nil {
				sorters[i] = g.Sorter(fmt.Sprintf("s/%d", i))
			}
			switch op := rapid.IntRange(0, 9).Draw(t, "op"); {
			case op < 5:
				if ranged[i] > 0 {
					continue
				}
				for range rapid.IntRange(1, 30).Draw(t, "records") {
					key := fmt.Sprintf("%04d", rapid.IntRange(0, 9999).Draw(t, "key"))
					if rapid.IntRange(0, 20).Draw(t, "long") == 0 {
						key += string(make([]byte, 9000))
					}
					if err := sorters[i].Add(ctx, []byte(key), []byte("v")); err != nil {
						t.Fatal(err)
					}
					added[i][key]++
				}
			case op < 7:
				next, stop := iter.Pull2(sorters[i].Sorted(ctx))
				opened = append(opened, &open{i, next, stop, 0})
				ranged[i]++
			default:
				if len(opened) == 0 {
					continue
				}
				o := opened[rapid.IntRange(0, len(opened)-1).Draw(t, "which")]
				before := ""
				for range rapid.IntRange(1, 100).Draw(t, "reads") {
					it, err, ok := o.next()
					if err != nil {
						t.Fatal(err)
					}
					if !ok {
						if o.at != total(o.of) {
							t.Fatalf("%d records of %d", o.at, total(o.of))
						}
						break
					}
					o.at++
					if string(it.Key) < before {
						t.Fatalf("%q after %q", it.Key, before)
					}
					before = string(it.Key)
					if added[o.of][before] == 0 {
						t.Fatalf("%q was not added", before)
					}
					all = append(all, kept{it, string(it.Key) + "|" + string(it.Value)})
				}
				if rapid.Bool().Draw(t, "stop") {
					o.stop()
					ranged[o.of]--
					for k, other := range opened {
						if other == o {
							opened = append(opened[:k], opened[k+1:]...)
							break
						}
					}
				}
			}
		}
		for _, o := range opened {
			o.stop()
		}
		for _, k := range all {
			if string(k.it.Key)+"|"+string(k.it.Value) != k.text {
				t.Fatal("an item has changed")
			}
		}
		for i, s := range sorters {
			if s == nil {
				continue
			}
			got, last := 0, ""
			for it, err := range s.Sorted(ctx) {
				if err != nil {
					t.Fatal(err)
				}
				if got++; string(it.Key) < last {
					t.Fatal("out of order")
				}
				last = string(it.Key)
			}
			if got != total(i) {
				t.Fatalf("%d records of %d", got, total(i))
			}
		}
	})
}
