// Package digest holds content hashes as comparable values, and computes many of them in one read.
package digest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is wrapped by every error about the text or the bytes of an algorithm, a set or a digest.
var ErrInvalid = errors.New("invalid digest")

// maxSize is the size of the longest sum, SHA-512's.
const maxSize = 64

// Digest is one hash of one content, comparable; the zero Digest is none.
type Digest struct {
	algorithm Algorithm
	sum       [maxSize]byte
}

// New returns the digest with these sum bytes, of which there must be a.Size().
func New(a Algorithm, sum []byte) (Digest, error) {
	if !a.valid() {
		return Digest{}, fmt.Errorf("%w: no algorithm number %d", ErrInvalid, a)
	}
	if len(sum) != a.Size() {
		return Digest{}, fmt.Errorf("%w: %d bytes of %s; it has %d", ErrInvalid, len(sum), a, a.Size())
	}
	d := Digest{algorithm: a}
	copy(d.sum[:], sum)
	return d, nil
}

// Parse reads the form of [Digest.String], "sha256:" and 64 hexadecimal digits. Both cases of letters are read.
func Parse(s string) (Digest, error) {
	name, digits, ok := strings.Cut(s, ":")
	if !ok {
		return Digest{}, fmt.Errorf("%w %q: want algorithm:hex", ErrInvalid, s)
	}
	a, err := ParseAlgorithm(name)
	if err != nil {
		return Digest{}, err
	}
	sum, err := hex.DecodeString(digits)
	if err != nil {
		return Digest{}, fmt.Errorf("%w %q: %w", ErrInvalid, s, err)
	}
	return New(a, sum)
}

// Algorithm is the hash function, 0 for the zero Digest.
func (d Digest) Algorithm() Algorithm { return d.algorithm }

// IsZero reports whether d is the zero Digest.
func (d Digest) IsZero() bool { return d.algorithm == 0 }

// Hex is the sum in lower-case hexadecimal, as sha256sum, b3sum, xxhsum and crc32 print it: the CRCs as the big-endian
// bytes of the 32-bit value, the XXH3 hashes in their canonical, big-endian form. It is "" for the zero Digest.
func (d Digest) Hex() string { return hex.EncodeToString(d.sum[:d.algorithm.Size()]) }

// Equal is ==, for what compares by a method.
func (d Digest) Equal(other Digest) bool { return d == other }

// String is the algorithm's name, a colon and Hex; "" for the zero Digest.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return d.algorithm.String() + ":" + d.Hex()
}

// MarshalText implements encoding.TextMarshaler with String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler with Parse; the empty text is the zero Digest.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	p, err := Parse(string(text))
	*d = p
	return err
}
