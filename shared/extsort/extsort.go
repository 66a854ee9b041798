// Package extsort sorts more records than fit in memory, in runs on a store.
//
// The sorters of a Group hold records in memory up to a bound, which is that of all of them together. Above it the one that
// holds most writes what it has as a sorted run below its prefix; in the end the runs of a sorter are merged, in several
// passes where there are more of them than the fan-in. What fits in memory never touches the store, but what is ranged over
// there takes no more than a quarter of it where a group has several sorters, so that there is room for those that are added to.
//
// A run is blocks, each a zstd frame with a checksum (RFC 8878) behind its length. A block holds records one after the other,
// each as the length of its key, the length of its value, the key and the value. Lengths are unsigned varints, as in
// encoding/binary. Runs are scratch:
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

// Options of a Group, or of a Sorter that is alone; the zero value works.
type Options struct {
	// Memory is how many bytes the records that are held take, with their bookkeeping, and the runs that are merged.
	// Defaults to DefaultMemory. Half of it is left to records however many runs are merged, of each of which a record
	// comes on top.
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

// openRunBytes is what merging takes for each run: a block, and what is read ahead.
const openRunBytes = 24 << 10

// Group is sorters that share their memory. A group with its sorters is for one goroutine at a time.
type Group struct {
	store  store.Store
	memory int
	fanIn  int

	made    int       // sorters
	sorters []*Sorter // those that hold records
	held    int       // bytes, of all sorters
	pinned  int       // of held: records that are ranged over, which stay in memory
	merging int       // bytes that open runs take

	codec *codec // made when it is first needed
}

// NewGroup returns a group whose sorters write their runs to st.
func NewGroup(st store.Store, opts Options) *Group {
	return &Group{store: st, memory: cmp.Or(opts.Memory, DefaultMemory), fanIn: max(2, cmp.Or(opts.FanIn, DefaultFanIn))}
}

// Sorter returns a sorter that writes its runs to keys below prefix (without a slash at its end).
func (g *Group) Sorter(prefix string) *Sorter {
	g.made++
	return &Sorter{group: g, prefix: prefix}
}

// pinnable is how many bytes may be ranged over in memory.
func (g *Group) pinnable() int {
	if g.made == 1 {
		return g.memory
	}
	return g.memory / 4
}

// makeRoom lets those that hold most write runs, until there is room for n more bytes or nothing can be written.
func (g *Group) makeRoom(ctx context.Context, n int) error {
	for g.held+n > g.memory-min(g.merging, g.memory/2) {
		most := g.largest()
		if most == nil {
			return nil
		}
		if err := most.spill(ctx); err != nil {
			return err
		}
	}
	return nil
}

// largest is the sorter that holds most of what can be written, nil if there is none.
func (g *Group) largest() *Sorter {
	var most *Sorter
	for _, s := range g.sorters {
		if s.pins == 0 && (most == nil || s.bytes > most.bytes) {
			most = s
		}
	}
	return most
}

// Sorter sorts records. A prefix belongs to one sorter at a time.
type Sorter struct {
	group  *Group
	prefix string

	held  []Item
	bytes int
	pins  int // how often held is ranged over just now
	runs  []stored
	made  int
}

// stored is a run on the store.
type stored struct {
	key     archive.Key
	records int64
}

// New returns a sorter that is alone, and writes its runs to st, to keys below prefix (without a slash at its end).
func New(st store.Store, prefix string, opts Options) *Sorter {
	return NewGroup(st, opts).Sorter(prefix)
}

// Add takes a copy of a record. Equal records are all kept. Sorters of the group write runs when the memory is full.
func (s *Sorter) Add(ctx context.Context, key, value []byte) error {
	n := len(key) + len(value)
	if n > MaxRecord {
		return fmt.Errorf("sort %s: a record of %d bytes; at most %d can be sorted", s.prefix, n, MaxRecord)
	}
	if err := s.group.makeRoom(ctx, n+itemOverhead); err != nil {
		return err
	}
	data := append(append(make([]byte, 0, n), key...), value...)
	s.hold(Item{Key: data[:len(key):len(key)], Value: data[len(key):]}, n+itemOverhead)
	return nil
}

func (s *Sorter) hold(it Item, n int) {
	if len(s.held) == 0 {
		s.group.sorters = append(s.group.sorters, s)
	}
	s.held = append(s.held, it)
	s.bytes += n
	s.group.held += n
}

// release forgets the records that are held.
func (s *Sorter) release() {
	if len(s.held) > 0 {
		s.group.sorters = slices.DeleteFunc(s.group.sorters, func(o *Sorter) bool { return o == s })
	}
	s.group.held -= s.bytes
	s.held, s.bytes = nil, 0
}

// Sorted yields all records in ascending order of key, then value. It may be ended early and be ranged over again, also
// after more records were added, but not while it is ranged over.
func (s *Sorter) Sorted(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if err := s.prepare(ctx); err != nil {
			yield(Item{}, err)
			return
		}
		records := s.pinned(ctx)
		if len(s.runs) > 0 {
			records = s.group.merge(ctx, s.runs, false)
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
	if len(s.runs) == 0 && (s.pins > 0 || s.group.pinned+s.bytes <= s.group.pinnable()) {
		slices.SortFunc(s.held, compare)
		return nil
	}
	if err := s.spill(ctx); err != nil {
		return err
	}
	fanIn := s.group.fanIn
	for len(s.runs) > fanIn {
		// No more than is needed: the last pass merges a full fan-in.
		n := min(fanIn, len(s.runs)-fanIn+1)
		old := s.runs[:n]
		if err := s.write(ctx, s.group.merge(ctx, old, true)); err != nil {
			return err
		}
		s.runs = slices.Clone(s.runs[n:])
		if err := remove(ctx, s.group.store, old); err != nil {
			return err
		}
	}
	return nil
}

// pinned yields what is held, and keeps it in memory meanwhile.
func (s *Sorter) pinned(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		bytes := s.bytes
		s.pins++
		s.group.pinned += bytes
		defer func() {
			s.pins--
			s.group.pinned -= bytes
		}()
		s.inMemory(ctx)(yield)
	}
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
	s.release()
	return nil
}

// write makes a run of records that are sorted.
func (s *Sorter) write(ctx context.Context, sorted iter.Seq2[Item, error]) error {
	key := archive.Key(fmt.Sprintf("%s/%010d", s.prefix, s.made))
	s.made++
	if s.group.codec == nil {
		c, err := newCodec()
		if err != nil {
			return fmt.Errorf("write sort run %s: %w", key.Text(), err)
		}
		s.group.codec = c
	}
	r := newRunReader(s.group.codec, sorted)
	defer r.Close()
	if err := s.group.store.Replace(ctx, key, r); err != nil {
		return fmt.Errorf("write sort run %s: %w", key.Text(), err)
	}
	s.runs = append(s.runs, stored{key, r.records})
	return nil
}

// Remove deletes the sorter's runs and forgets its records. It may be repeated.
func (s *Sorter) Remove(ctx context.Context) error {
	runs := s.runs
	s.runs = nil
	s.release()
	return remove(ctx, s.group.store, runs)
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
