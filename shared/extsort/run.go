package extsort

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/klauspost/compress/zstd"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// window is zstd's, in bytes. What an open run takes is about six times that, and as many runs as are merged are open at once.
// Of sorted records a larger window makes hardly less.
const window = 16 << 10

// runReader is the stored form of a sorted sequence, made while it is read.
type runReader struct {
	next func() (Item, error, bool)
	stop func()
	zw   *zstd.Encoder
	buf  bytes.Buffer
	done bool
	// records counts those read so far.
	records int64
}

func newRunReader(sorted iter.Seq2[Item, error]) (*runReader, error) {
	r := &runReader{}
	zw, err := zstd.NewWriter(&r.buf, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	r.zw = zw
	r.next, r.stop = iter.Pull2(sorted)
	return r, nil
}

// Read implements io.Reader.
func (r *runReader) Read(p []byte) (int, error) {
	for r.buf.Len() == 0 {
		if r.done {
			return 0, io.EOF
		}
		it, err, ok := r.next()
		switch {
		case !ok:
			r.done = true
			err = r.zw.Close()
		case err == nil:
			err = writeItem(r.zw, it)
			r.records++
		}
		if err != nil {
			return 0, err
		}
	}
	return r.buf.Read(p)
}

// Close frees the reader.
func (r *runReader) Close() { r.stop() }

func writeItem(w io.Writer, it Item) error {
	head := binary.AppendUvarint(nil, uint64(len(it.Key)))
	head = binary.AppendUvarint(head, uint64(len(it.Value)))
	for _, p := range [][]byte{head, it.Key, it.Value} {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// readItem returns io.EOF where the run ends.
func readItem(r *bufio.Reader) (Item, error) {
	key, err := binary.ReadUvarint(r)
	if err != nil {
		return Item{}, err
	}
	value, err := binary.ReadUvarint(r)
	if err != nil {
		return Item{}, unexpected(err)
	}
	if key > MaxRecord || value > MaxRecord-key {
		return Item{}, fmt.Errorf("a record of %d and %d bytes", key, value)
	}
	data := make([]byte, key+value)
	if _, err := io.ReadFull(r, data); err != nil {
		return Item{}, unexpected(err)
	}
	return Item{Key: data[:key:key], Value: data[key:]}, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// run is an open run with its next record.
type run struct {
	stored
	read    int64
	content *store.Content
	zr      *zstd.Decoder
	br      *bufio.Reader
	item    Item
}

func openRun(ctx context.Context, st store.Store, of stored) (*run, error) {
	c, err := st.Open(ctx, of.key, 0, -1, archive.Identity{})
	if err != nil {
		return nil, fmt.Errorf("read sort run: %w", err)
	}
	zr, err := zstd.NewReader(c, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read sort run %s: %w", of.key.Text(), err), c.Close())
	}
	return &run{stored: of, content: c, zr: zr, br: bufio.NewReader(zr)}, nil
}

// advance reads the next record; false with nil at the end.
func (r *run) advance() (bool, error) {
	it, err := readItem(r.br)
	if errors.Is(err, io.EOF) {
		if r.read == r.records {
			return false, nil
		}
		err = fmt.Errorf("%d records of %d", r.read, r.records)
	}
	if err != nil {
		return false, fmt.Errorf("read sort run %s: %w", r.key.Text(), err)
	}
	r.item = it
	r.read++
	return true, nil
}

func (r *run) close() {
	r.zr.Close()
	r.content.Close() // only read
}

// runs is a heap of open runs, the one with the least record on top.
type runs []*run

func (h runs) Len() int           { return len(h) }
func (h runs) Less(i, j int) bool { return compare(h[i].item, h[j].item) < 0 }
func (h runs) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runs) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runs) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

func (h runs) close() {
	for _, r := range h {
		r.close()
	}
}

// merge yields the records of sorted runs in order.
func merge(ctx context.Context, st store.Store, from []stored) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		open, err := openRuns(ctx, st, from)
		defer func() { open.close() }()
		for err == nil && len(open) > 0 {
			if err = ctx.Err(); err != nil {
				break
			}
			if !yield(open[0].item, nil) {
				return
			}
			var more bool
			more, err = open[0].advance()
			if err == nil && more {
				heap.Fix(&open, 0)
			} else if err == nil {
				heap.Pop(&open).(*run).close()
			}
		}
		if err != nil {
			yield(Item{}, err)
		}
	}
}

// openRuns returns what is open also where it fails.
func openRuns(ctx context.Context, st store.Store, from []stored) (runs, error) {
	var open runs
	for _, of := range from {
		r, err := openRun(ctx, st, of)
		if err != nil {
			return open, err
		}
		more, err := r.advance()
		if err != nil || !more {
			r.close()
		} else {
			open = append(open, r)
		}
		if err != nil {
			return open, err
		}
	}
	heap.Init(&open)
	return open, nil
}
