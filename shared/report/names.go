package report

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/reshelf/reshelf/shared/archive"
)

// NamesName is the file that says in which segments of a plan a name occurs. It is there where rows were carried out, or
// tried. It starts with 12 bytes, namesMagic and the version; then follow entries of 12 bytes in ascending order: the name's
// NameHash and the number of the segment, both big-endian. A name has an entry for each row that was carried out and has
// it as its old or its new name, and for each that was tried in vain and has it as its old name. Equal entries occur once
// or more often. Different names may have one hash, so the rows have to be looked at.
const NamesName = "names.idx"

const (
	namesMagic   = "RSHNAMES"
	namesVersion = 1
	namesHead    = 12
	// NameEntry is the size of an entry, in bytes.
	NameEntry = 12
)

// ErrNames is wrapped by the errors about the content of a file of names.
var ErrNames = errors.New("invalid index of names")

// NameHash is the first 8 bytes of the key's SHA-256.
func NameHash(key archive.Key) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:])
}

// NameEntryOf is the entry of a name in a segment.
func NameEntryOf(key archive.Key, segment int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, NameHash(key)), uint32(segment))
}

// NameWriter writes a file of names.
type NameWriter struct {
	w    *bufio.Writer
	rows int64
}

// NewNameWriter starts a file on w. Close it.
func NewNameWriter(w io.Writer) (*NameWriter, error) {
	bw := bufio.NewWriter(w)
	_, err := bw.Write(binary.BigEndian.AppendUint32([]byte(namesMagic), namesVersion))
	return &NameWriter{w: bw}, err
}

// Add writes an entry. They must come in ascending order.
func (w *NameWriter) Add(entry []byte) error {
	w.rows++
	_, err := w.w.Write(entry)
	return err
}

// Rows is the number of entries added.
func (w *NameWriter) Rows() int64 { return w.rows }

// Close ends the file. It does not close the underlying writer.
func (w *NameWriter) Close() error { return w.w.Flush() }

// namesWindow is how many entries are read at once.
const namesWindow = 2048

// guesses is how often the place of a hash is guessed from its value before the rest is halved.
const guesses = 4

// FindName returns the segments in which a name may occur, in ascending order. size is that of the file, and read reads n
// bytes of it from an offset. Of a file of any size a few windows of 24 KiB are read: hashes are spread evenly, so their
// place can be guessed.
func FindName(ctx context.Context, size int64, read func(ctx context.Context, offset, n int64) ([]byte, error), key archive.Key) ([]int, error) {
	f := &nameFile{entries: (size - namesHead) / NameEntry, read: read}
	head, err := read(ctx, 0, namesHead)
	switch {
	case err != nil:
		return nil, err
	case !bytes.HasPrefix(head, []byte(namesMagic)) || len(head) != namesHead || (size-namesHead)%NameEntry != 0:
		return nil, fmt.Errorf("%w: it does not begin as one, or is cut off", ErrNames)
	case binary.BigEndian.Uint32(head[len(namesMagic):]) != namesVersion:
		return nil, fmt.Errorf("%w: version %d; this program knows %d", ErrNames, binary.BigEndian.Uint32(head[len(namesMagic):]), namesVersion)
	}
	hash := NameHash(key)
	at, err := f.first(ctx, hash)
	if err != nil {
		return nil, err
	}
	return f.segments(ctx, at, hash)
}

type nameFile struct {
	entries int64
	read    func(ctx context.Context, offset, n int64) ([]byte, error)
}

// window reads up to namesWindow entries from entry at.
func (f *nameFile) window(ctx context.Context, at int64) ([]byte, error) {
	n := min(namesWindow, f.entries-at) * NameEntry
	raw, err := f.read(ctx, namesHead+at*NameEntry, n)
	if err == nil && int64(len(raw)) != n {
		err = fmt.Errorf("%w: it is shorter than it should be", ErrNames)
	}
	return raw, err
}

func hashAt(window []byte, i int) uint64 { return binary.BigEndian.Uint64(window[i*NameEntry:]) }

// first is the first entry whose hash is not less than hash.
func (f *nameFile) first(ctx context.Context, hash uint64) (int64, error) {
	low, high := int64(0), f.entries // it is in [low, high]
	for n := 0; low < high; n++ {
		at := low + (high-low)/2
		if guess, _ := bits.Mul64(hash, uint64(f.entries)); n < guesses {
			at = int64(guess) - namesWindow/2
		}
		at = max(low, min(at, high-1))
		if high-low <= namesWindow {
			at = low
		}
		window, err := f.window(ctx, at)
		if err != nil {
			return 0, err
		}
		last := len(window)/NameEntry - 1
		switch {
		case hashAt(window, 0) >= hash:
			high = at
		case hashAt(window, last) < hash:
			low = at + int64(last) + 1
		default:
			i := 1
			for hashAt(window, i) < hash {
				i++
			}
			return at + int64(i), nil
		}
	}
	return low, nil
}

// segments are those of the entries from at that have the hash.
func (f *nameFile) segments(ctx context.Context, at int64, hash uint64) ([]int, error) {
	var out []int
	for at < f.entries {
		window, err := f.window(ctx, at)
		if err != nil {
			return nil, err
		}
		for i := range len(window) / NameEntry {
			if hashAt(window, i) != hash {
				return out, nil
			}
			segment := int(binary.BigEndian.Uint32(window[i*NameEntry+8:]))
			if len(out) == 0 || out[len(out)-1] != segment {
				out = append(out, segment)
			}
			at++
		}
	}
	return out, nil
}
