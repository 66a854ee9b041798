package finishing

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/report"
)

// contentAlgorithm is the digest by which contents are called equal: the first cryptographic one that the batch computes,
// 0 if there is none.
func contentAlgorithm(b batch.Batch) digest.Algorithm {
	for _, a := range b.Digests.Algorithms() {
		if a.Cryptographic() {
			return a
		}
	}
	return 0
}

// addContent notes the content of an object for the search for duplicates. Records sort by digest, size, then key.
func (f *finish) addContent(ctx context.Context, contents *extsort.Sorter, fin final) error {
	d, ok := report.Digest(fin.Record, contentAlgorithm(f.batch))
	if !ok {
		return nil
	}
	if fin.Size == 0 {
		f.tally.empty()
		return nil
	}
	key := binary.BigEndian.AppendUint64([]byte(d.Hex()), uint64(fin.Size))
	return contents.Add(ctx, append(key, report.CurrentKey(fin.Record)...), nil)
}

// writeDuplicates writes all groups of objects with equal contents.
func (f *finish) writeDuplicates(ctx context.Context, contents *extsort.Sorter) error {
	a := contentAlgorithm(f.batch)
	if a == 0 {
		return nil
	}
	out, err := create(ctx, f, report.DuplicatesName, report.NewDuplicateWriter)
	if err != nil {
		return err
	}
	g := group{prefix: 2*a.Size() + 8}
	defer g.close()
	n := 0
	for item, err := range contents.Sorted(ctx) {
		if err != nil {
			return err
		}
		if n++; n%aliveEvery == 0 {
			if err := f.alive(ctx); err != nil {
				return err
			}
			f.hold.Advance(aliveEvery, 0)
		}
		if !g.takes(item.Key) {
			if err := f.writeGroup(out.to, a, &g); err != nil {
				return err
			}
			g.reset()
		}
		if err := g.add(item.Key); err != nil {
			return err
		}
	}
	if err := f.writeGroup(out.to, a, &g); err != nil {
		return err
	}
	return out.finish(f)
}

// writeGroup writes the objects of a group, if there is more than one, and counts them.
func (f *finish) writeGroup(w *report.DuplicateWriter, a digest.Algorithm, g *group) error {
	if g.n < 2 {
		return nil
	}
	d, err := digest.Parse(a.String() + ":" + string(g.content[:2*a.Size()]))
	if err != nil {
		return err
	}
	dup := report.Duplicate{Of: g.n, Digest: d, Size: int64(binary.BigEndian.Uint64(g.content[2*a.Size():]))}
	dup.Group = f.tally.group(g.n, dup.Size)
	for key, err := range g.keys() {
		if err != nil {
			return fmt.Errorf("duplicates: %w", err)
		}
		dup.Number++
		dup.Key = key
		if err := w.Add(dup); err != nil {
			return err
		}
	}
	return nil
}

// groupMemory is the number of a group's keys that are held in memory; the rest waits in a file until the group is
// counted.
const groupMemory = 1024

// group collects the objects of one content.
type group struct {
	prefix  int    // length of digest and size in a record's key
	content []byte // digest and size
	n       int64
	held    []archive.Key
	file    *os.File // unlinked; the keys after those held
	buf     *bufio.Writer
}

func (g *group) takes(record []byte) bool { return string(g.content) == string(record[:g.prefix]) }

func (g *group) add(record []byte) error {
	g.n++
	g.content = record[:g.prefix]
	key := record[g.prefix:]
	if len(g.held) < groupMemory {
		g.held = append(g.held, archive.Key(key))
		return nil
	}
	if g.file == nil {
		if err := g.spill(); err != nil {
			return fmt.Errorf("duplicates: %w", err)
		}
	}
	_, err := g.buf.Write(append(binary.AppendUvarint(nil, uint64(len(key))), key...))
	return err
}

func (g *group) spill() error {
	file, err := os.CreateTemp("", "reshelf-duplicates-")
	if err != nil {
		return err
	}
	g.file, g.buf = file, bufio.NewWriter(file)
	return os.Remove(file.Name())
}

// keys yields the keys of all objects, in order.
func (g *group) keys() iter.Seq2[archive.Key, error] {
	return func(yield func(archive.Key, error) bool) {
		for _, key := range g.held {
			if !yield(key, nil) {
				return
			}
		}
		if g.file == nil {
			return
		}
		if err := errors.Join(g.buf.Flush(), rewind(g.file)); err != nil {
			yield("", err)
			return
		}
		r := bufio.NewReader(g.file)
		for range g.n - int64(len(g.held)) {
			key, err := readKey(r)
			if !yield(key, err) || err != nil {
				return
			}
		}
	}
}

func rewind(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return err
}

func readKey(r *bufio.Reader) (archive.Key, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return "", err
	}
	if n > archive.MaxKeyBytes {
		return "", fmt.Errorf("a key of %d bytes", n)
	}
	key := make([]byte, n)
	_, err = io.ReadFull(r, key)
	return archive.Key(key), err
}

// reset forgets the group.
func (g *group) reset() {
	g.close()
	*g = group{prefix: g.prefix, held: g.held[:0]}
}

func (g *group) close() {
	if g.file != nil {
		g.file.Close()
	}
}
