//go:build linux

package filestore

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// item is a place in the order of a directory. A directory has two: at its name it is read, so that it can be reported
// under that key where it is unreadable; at name + "/" what it holds is listed. Names between the two ("a-b" and "a.b"
// come between "a" and "a/") are listed while it waits.
type item struct {
	name string // with a slash at its end where a directory is entered
	dir  bool   // read this directory
}

func (it item) enters() bool { return strings.HasSuffix(it.name, "/") }

// items are sorted items. After the last one, next reports false.
type items interface {
	next() (item, bool, error)
}

// sorter puts the items of one directory in order. It holds at most limit of them; more become sorted runs in the spill.
type sorter struct {
	spill *spill
	limit int
	held  []item
	runs  []run
}

func (s *sorter) add(it item) error {
	s.held = append(s.held, it)
	if len(s.held) < s.limit {
		return nil
	}
	return s.flush()
}

func (s *sorter) sort() {
	slices.SortFunc(s.held, func(a, b item) int { return strings.Compare(a.name, b.name) })
}

// flush writes the held items as a run.
func (s *sorter) flush() error {
	if len(s.held) == 0 {
		return nil
	}
	s.sort()
	r, err := s.spill.write(s.held)
	if err != nil {
		return err
	}
	s.runs = append(s.runs, r)
	s.held = s.held[:0]
	return nil
}

// sorted ends the sorting. It returns what is kept in memory, at most keep items, or else reads the runs.
func (s *sorter) sorted(keep int) (items, int, error) {
	if len(s.runs) == 0 && len(s.held) <= keep {
		s.sort()
		kept := slices.Clip(slices.Clone(s.held))
		return &memoryItems{kept}, len(kept), nil
	}
	if err := s.flush(); err != nil {
		return nil, 0, err
	}
	m, err := newMerge(s.spill, s.runs)
	return m, 0, err
}

type memoryItems struct{ rest []item }

func (m *memoryItems) next() (item, bool, error) {
	if len(m.rest) == 0 {
		return item{}, false, nil
	}
	it := m.rest[0]
	m.rest = m.rest[1:]
	return it, true, nil
}

// spill is the temporary file of one listing, made when it is first needed. Directories are left in the reverse of the order
// in which they were read, so the file is a stack: release gives back all that was written since mark.
type spill struct {
	file *os.File
	end  int64
}

// run is a part of the spill.
type run struct {
	at, size int64 // in bytes
	items    int
}

func (s *spill) mark() int64 { return s.end }

func (s *spill) release(mark int64) error {
	if s.end == mark {
		return nil
	}
	s.end = mark
	return s.failed(s.file.Truncate(mark))
}

func (s *spill) close() {
	if s.file != nil {
		_ = s.file.Close() // it has no name any more
	}
}

func (s *spill) failed(err error) error {
	if err == nil {
		return nil
	}
	return spillError{fmt.Errorf("sort a large directory in %s: %w; is there space? TMPDIR chooses another place", os.TempDir(), err)}
}

// spillError is about the directory for temporary files, not about the store.
type spillError struct{ error }

// write appends the items: for each a byte that is 1 for dir, the length of the name as uvarint, and the name.
func (s *spill) write(list []item) (run, error) {
	if s.file == nil {
		f, err := os.CreateTemp("", "reshelf-list-*")
		if err != nil {
			return run{}, s.failed(err)
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil { // now, so that a kill leaves nothing
			return run{}, s.failed(err)
		}
	}
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.end), 64<<10)
	r := run{at: s.end, items: len(list)}
	var head []byte
	for _, it := range list {
		head = append(head[:0], 0)
		if it.dir {
			head[0] = 1
		}
		head = binary.AppendUvarint(head, uint64(len(it.name)))
		_, _ = w.Write(head) // Flush reports the first error
		_, _ = w.WriteString(it.name)
		r.size += int64(len(head) + len(it.name))
	}
	if err := w.Flush(); err != nil {
		return run{}, s.failed(err)
	}
	s.end += r.size
	return r, nil
}

// runReader reads a run; item is the one it stands at.
type runReader struct {
	item
	buf  *bufio.Reader
	left int // items after this one
}

// advance goes to the next item; there must be one left.
func (r *runReader) advance() error {
	r.left--
	kind, err := r.buf.ReadByte()
	if err != nil {
		return err
	}
	n, err := binary.ReadUvarint(r.buf)
	if err != nil {
		return err
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(r.buf, name); err != nil {
		return err
	}
	r.item = item{string(name), kind == 1}
	return nil
}

// merge reads runs in order.
type merge struct {
	spill *spill
	runs  runHeap
}

// runBufferBytes is small, since a directory of 100 million entries has 1,000 runs.
const runBufferBytes = 4 << 10

func newMerge(s *spill, runs []run) (*merge, error) {
	m := &merge{spill: s}
	for _, r := range runs {
		section := io.NewSectionReader(s.file, r.at, r.size)
		rr := &runReader{buf: bufio.NewReaderSize(section, runBufferBytes), left: r.items}
		if err := rr.advance(); err != nil {
			return nil, s.failed(err)
		}
		m.runs = append(m.runs, rr)
	}
	heap.Init(&m.runs)
	return m, nil
}

func (m *merge) next() (item, bool, error) {
	if len(m.runs) == 0 {
		return item{}, false, nil
	}
	first := m.runs[0]
	it := first.item
	if first.left == 0 {
		heap.Pop(&m.runs)
		return it, true, nil
	}
	if err := first.advance(); err != nil {
		return item{}, false, m.spill.failed(err)
	}
	heap.Fix(&m.runs, 0)
	return it, true, nil
}

// runHeap implements heap.Interface.
type runHeap []*runReader

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return h[i].name < h[j].name }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*runReader)) }

func (h *runHeap) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	*h = (*h)[:last]
	return r
}
