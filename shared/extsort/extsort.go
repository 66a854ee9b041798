// Package extsort sorts more records than fit in memory, in runs on a store.
//
// A Sorter holds records in memory up to a bound. Above it they are written as a sorted run below the sorter's prefix; in
// the end the runs are merged, in several passes where there are more of them than the fan-in. What fits in memory never
// touches the store.
//
// A run is one zstd frame with a checksum (RFC 8878) that holds the records one after the other, each as the length of
// its key and the length of its value (unsigned varints, as in encoding/binary), the key and the value. Runs are scratch:
// they are written with Store.Replace, so whoever repeats a sort that was interrupted needs no cleaning first.
package extsort

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// MaxRecord bounds a record, key and value together, in bytes.
const MaxRecord = 16 << 20

// Defaults of Options.
const (
	DefaultMemory = 8 << 20
	DefaultFanIn  = 32
)

// Options of a Sorter; the zero value works.
type Options struct {
	// Memory is how many bytes of records are held before they are written as a run, their bookkeeping included.
	// Defaults to DefaultMemory. Merging takes about 100 KiB for each run besides, and a record of each.
	Memory int
	// FanIn is how many runs are merged at once, at least 2. Defaults to DefaultFanIn.
	FanIn int
}

// Item is one record. Its bytes must not be changed; they may be kept.
type Item struct {
	Key, Value []byte
}

// compare orders by key, then value. What it calls equal is equal byte for byte, so every sort by it is stable.
func compare(a, b Item) int {
	return cmp.Or(bytes.Compare(a.Key, b.Key), bytes.Compare(a.Value, b.Value))
}

// itemOverhead is what an Item takes besides its bytes: two slice headers, doubled since the slice of items grows by
// doubling.
const itemOverhead = 2 * 48

// Sorter sorts records. It is not safe for concurrent use. A prefix belongs to one sorter at a time.
type Sorter struct {
	store  store.Store
	prefix string
	memory int
	fanIn  int

	held  []Item
	bytes int
	runs  []stored
	made  int
}

// stored is a run on the store.
type stored struct {
	key     archive.Key
	records int64
}

// New returns a sorter that writes its runs to st, to keys below prefix (without a slash at its end).
func New(st store.Store, prefix string, opts Options) *Sorter {
	return &Sorter{
		store:  st,
		prefix: prefix,
		memory: cmp.Or(opts.Memory, DefaultMemory),
		fanIn:  max(2, cmp.Or(opts.FanIn, DefaultFanIn)),
	}
}

// Add takes a copy of a record. Equal records are all kept. It writes a run when the memory is full.
func (s *Sorter) Add(ctx context.Context, key, value []byte) error {
	n := len(key) + len(value)
	if n > MaxRecord {
		return fmt.Errorf("sort %s: a record of %d bytes; at most %d can be sorted", s.prefix, n, MaxRecord)
	}
	if len(s.held) > 0 && s.bytes+n+itemOverhead > s.memory {
		if err := s.spill(ctx); err != nil {
			return err
		}
	}
	data := append(append(make([]byte, 0, n), key...), value...)
	s.held = append(s.held, Item{Key: data[:len(key):len(key)], Value: data[len(key):]})
	s.bytes += n + itemOverhead
	return nil
}

// Sorted yields all records in ascending order of key, then value. It may be ended early and be ranged over again, also
// after more records were added, but not while it is ranged over.
func (s *Sorter) Sorted(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if err := s.prepare(ctx); err != nil {
			yield(Item{}, err)
			return
		}
		records := s.inMemory(ctx)
		if len(s.runs) > 0 {
			records = merge(ctx, s.store, s.runs)
		}
		for it, err := range records {
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

// prepare leaves either everything in memory, sorted, or no more runs than are merged at once.
func (s *Sorter) prepare(ctx context.Context) error {
	if len(s.runs) == 0 {
		slices.SortFunc(s.held, compare)
		return nil
	}
	if err := s.spill(ctx); err != nil {
		return err
	}
	for len(s.runs) > s.fanIn {
		// No more than is needed: the last pass merges a full fan-in.
		n := min(s.fanIn, len(s.runs)-s.fanIn+1)
		old := s.runs[:n]
		if err := s.write(ctx, merge(ctx, s.store, old)); err != nil {
			return err
		}
		if err := remove(ctx, s.store, old); err != nil {
			return err
		}
		s.runs = slices.Clone(s.runs[n:])
	}
	return nil
}

func (s *Sorter) inMemory(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for i, it := range s.held {
			if i%1024 == 0 && ctx.Err() != nil {
				yield(Item{}, ctx.Err())
				return
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

// spill writes what is held as a run.
func (s *Sorter) spill(ctx context.Context) error {
	if len(s.held) == 0 {
		return nil
	}
	slices.SortFunc(s.held, compare)
	if err := s.write(ctx, s.inMemory(ctx)); err != nil {
		return err
	}
	clear(s.held)
	s.held, s.bytes = s.held[:0], 0
	return nil
}

// write makes a run of records that are sorted.
func (s *Sorter) write(ctx context.Context, sorted iter.Seq2[Item, error]) error {
	key := archive.Key(fmt.Sprintf("%s/%010d", s.prefix, s.made))
	s.made++
	r, err := newRunReader(sorted)
	if err != nil {
		return fmt.Errorf("write sort run %s: %w", key.Text(), err)
	}
	defer r.Close()
	if err := s.store.Replace(ctx, key, r); err != nil {
		return fmt.Errorf("write sort run %s: %w", key.Text(), err)
	}
	s.runs = append(s.runs, stored{key, r.records})
	return nil
}

// Remove deletes the sorter's runs and forgets its records. It may be repeated.
func (s *Sorter) Remove(ctx context.Context) error {
	runs := s.runs
	s.held, s.bytes, s.runs = nil, 0, nil
	return remove(ctx, s.store, runs)
}

func remove(ctx context.Context, st store.Store, runs []stored) error {
	var all []error
	for _, r := range runs {
		if err := st.Delete(ctx, r.key, archive.Identity{}); err != nil && !errors.Is(err, store.ErrNotExist) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
