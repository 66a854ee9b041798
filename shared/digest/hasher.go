package digest

import (
	"context"
	"fmt"
	"hash"
	"io"
)

// maxEmptyReads bounds the reads in a row that return neither bytes nor an error, as bufio does.
const maxEmptyReads = 100

// Hasher is an io.Writer that computes the digests of what is written to it. It is for one goroutine at a time.
//
// The hashes run one after the other: workers already read as many objects at once as they have slots, so more
// goroutines within one object would only compete with those.
type Hasher struct {
	algorithms []Algorithm
	hashes     []hash.Hash
}

// NewHasher returns a Hasher for the algorithms in set.
func NewHasher(set Set) *Hasher {
	h := &Hasher{algorithms: set.Algorithms()}
	for _, a := range h.algorithms {
		h.hashes = append(h.hashes, a.newHash())
	}
	return h
}

// Write adds p to the content. It never fails and keeps no reference to p.
func (h *Hasher) Write(p []byte) (int, error) {
	for _, one := range h.hashes {
		_, _ = one.Write(p) // hash.Hash.Write never returns an error
	}
	return len(p), nil
}

// Digests are the digests of everything written since NewHasher or Reset, in the order of the function [Algorithms].
// The slice is new. Writing may go on afterwards.
func (h *Hasher) Digests() []Digest {
	out := make([]Digest, len(h.hashes))
	for i, one := range h.hashes {
		out[i].algorithm = h.algorithms[i]
		one.Sum(out[i].sum[:0])
	}
	return out
}

// Reset empties the content, so that one Hasher can serve many objects.
func (h *Hasher) Reset() {
	for _, one := range h.hashes {
		one.Reset()
	}
}

// Sum reads r to its end through buf and returns the digests in set of what it read, and the number of bytes.
// Nothing but buf, which must not be empty, is held of the content. After each block it calls progress, unless nil, with
// the number of bytes in that block. Between blocks it looks at ctx and returns its cause when it is done; a Read that
// blocks is for r to end. On an error there are no digests, and the number is of the bytes read before it.
func Sum(ctx context.Context, set Set, r io.Reader, buf []byte, progress func(n int64)) ([]Digest, int64, error) {
	if len(buf) == 0 {
		return nil, 0, io.ErrShortBuffer
	}
	h := NewHasher(set)
	var total int64
	for empty := 0; ; {
		if ctx.Err() != nil {
			return nil, total, context.Cause(ctx)
		}
		n, err := r.Read(buf)
		if n > 0 {
			_, _ = h.Write(buf[:n]) // never fails
			total += int64(n)
			empty = 0
			if progress != nil {
				progress(int64(n))
			}
		}
		switch {
		case err == io.EOF:
			return h.Digests(), total, nil
		case err != nil:
			return nil, total, fmt.Errorf("read after byte %d: %w", total, err)
		case n == 0:
			if empty++; empty >= maxEmptyReads {
				return nil, total, fmt.Errorf("read after byte %d: %w", total, io.ErrNoProgress)
			}
		}
	}
}
