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
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// blockBytes is what a block holds before it is written, in bytes. As many runs as are merged are open at once, each with a
// block; of sorted records larger ones make hardly less.
const blockBytes = 16 << 10

// codec compresses and decompresses blocks, for all runs of a group.
type codec struct {
	zw *zstd.Encoder
	zr *zstd.Decoder
	// packed is a block on its way.
	packed []byte
}

func newCodec() (*codec, error) {
	zw, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(blockBytes),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxBlock))
	return &codec{zw: zw, zr: zr}, err
}

// maxBlock bounds a block, in bytes: a record may come when it is nearly full, and has two lengths.
const maxBlock = blockBytes + MaxRecord + 2*binary.MaxVarintLen64

// maxPacked bounds a block that is compressed: what cannot be compressed gets longer by little.
const maxPacked = maxBlock + maxBlock>>8 + 1<<10

// read reads the next block of a run into buf, or into new memory where that is too small: io.EOF if there is none.
func (c *codec) read(r *bufio.Reader, buf []byte) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return buf, err
	}
	if n > maxPacked {
		return buf, fmt.Errorf("a block of %d bytes", n)
	}
	c.packed = slices.Grow(c.packed[:0], int(n))[:n]
	if _, err := io.ReadFull(r, c.packed); err != nil {
		return buf, unexpected(err)
	}
	return c.zr.DecodeAll(c.packed, buf[:0])
}

// runReader is the stored form of a sorted sequence, made while it is read.
type runReader struct {
	codec *codec
	next  func() (Item, error, bool)
	stop  func()
	block []byte
	buf   bytes.Buffer // compressed
	done  bool
	// records counts those read so far.
	records int64
}

func newRunReader(c *codec, sorted iter.Seq2[Item, error]) *runReader {
	r := &runReader{codec: c}
	r.next, r.stop = iter.Pull2(sorted)
	return r
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
			r.flush()
		case err != nil:
			return 0, err
		default:
			r.add(it)
		}
	}
	return r.buf.Read(p)
}

// Close ends the reader.
func (r *runReader) Close() { r.stop() }

func (r *runReader) add(it Item) {
	r.block = binary.AppendUvarint(r.block, uint64(len(it.Key)))
	r.block = binary.AppendUvarint(r.block, uint64(len(it.Value)))
	r.block = append(append(r.block, it.Key...), it.Value...)
	r.records++
	if len(r.block) >= blockBytes {
		r.flush()
	}
}

// flush compresses what the block holds.
func (r *runReader) flush() {
	if len(r.block) == 0 {
		return
	}
	r.codec.packed = r.codec.zw.EncodeAll(r.block, r.codec.packed[:0])
	r.buf.Write(binary.AppendUvarint(nil, uint64(len(r.codec.packed))))
	r.buf.Write(r.codec.packed)
	r.block = r.block[:0]
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
	codec   *codec
	read    int64
	content *store.Content
	br      *bufio.Reader
	// block holds the records from at on that come after item.
	block []byte
	at    int
	item  Item
	// passing: whoever is given a record is done with it before the next one is read.
	passing bool
}

func (g *Group) openRun(ctx context.Context, of stored, passing bool) (*run, error) {
	c, err := g.store.Open(ctx, of.key, 0, -1, archive.Identity{})
	if err != nil {
		return nil, fmt.Errorf("read sort run: %w", err)
	}
	return &run{stored: of, codec: g.codec, content: c, br: bufio.NewReader(c), passing: passing}, nil
}

func (r *run) close() { r.content.Close() } // only read

// advance reads the next record; false with nil at the end.
func (r *run) advance() (bool, error) {
	it, err := r.readItem()
	if errors.Is(err, io.EOF) {
		if r.read == r.records {
			return false, nil
		}
		err = fmt.Errorf("%d records of %d", r.read, r.records)
	}
	if err != nil {
		return false, fmt.Errorf("read sort run %s: %w", r.key.Text(), err)
	}
	if !r.passing {
		both := append(append(make([]byte, 0, len(it.Key)+len(it.Value)), it.Key...), it.Value...)
		it = Item{Key: both[:len(it.Key):len(it.Key)], Value: both[len(it.Key):]}
	}
	r.item = it
	r.read++
	return true, nil
}

// readItem returns io.EOF where the run ends. The item is part of the block.
func (r *run) readItem() (it Item, err error) {
	if r.at == len(r.block) {
		if r.block, err = r.codec.read(r.br, r.block); err != nil {
			return Item{}, err
		}
		r.at = 0
	}
	key, value := r.length(), r.length()
	if rest := uint64(len(r.block) - r.at); key > rest || value > rest-key {
		return Item{}, fmt.Errorf("a record of %d and %d bytes, of which %d are there", key, value, rest)
	}
	data := r.block[r.at : r.at+int(key+value)]
	r.at += len(data)
	return Item{Key: data[:key:key], Value: data[key:]}, nil
}

// length reads a length; where there is none it is more than can be there.
func (r *run) length() uint64 {
	n, size := binary.Uvarint(r.block[r.at:])
	if size <= 0 {
		return math.MaxUint64
	}
	r.at += size
	return n
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

// merge yields the records of sorted runs in order; passing: each is of use only until the next one.
func (g *Group) merge(ctx context.Context, from []stored, passing bool) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		takes := len(from) * openRunBytes
		g.merging += takes
		defer func() { g.merging -= takes }()
		err := g.makeRoom(ctx, 0)
		var open runs
		defer func() {
			for _, r := range open {
				r.close()
			}
		}()
		if err == nil {
			open, err = g.openRuns(ctx, from, passing)
		}
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
func (g *Group) openRuns(ctx context.Context, from []stored, passing bool) (runs, error) {
	var open runs
	for _, of := range from {
		r, err := g.openRun(ctx, of, passing)
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
