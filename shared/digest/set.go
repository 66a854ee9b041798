package digest

import (
	"fmt"
	"math/bits"
	"strings"
)

// Set is a set of algorithms, comparable; the zero Set is empty. It is stored as text.
type Set uint16

const allSet Set = 1<<(lastAlgorithm+1) - 1<<CRC32

// DefaultSet is what is computed unless the user says otherwise: SHA256 to prove equality, CRC32 since older catalogues
// in this field are keyed by it.
func DefaultSet() Set { return Set(0).With(SHA256).With(CRC32) }

// ParseSet reads names separated by commas, in any order and either case of letters. "none" and the empty string are
// the empty set, "all" is every algorithm.
func ParseSet(s string) (Set, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "none":
		return 0, nil
	case "all":
		return allSet, nil
	}
	var set Set
	for name := range strings.SplitSeq(s, ",") {
		a, err := ParseAlgorithm(strings.TrimSpace(name))
		if err != nil {
			return 0, err
		}
		set = set.With(a)
	}
	return set, nil
}

// With is s and a. Unknown algorithms are not added.
func (s Set) With(a Algorithm) Set {
	if !a.valid() {
		return s
	}
	return s | 1<<a
}

// Has reports whether a is in s.
func (s Set) Has(a Algorithm) bool { return a.valid() && s&(1<<a) != 0 }

// Proof is the first cryptographic algorithm in s, and false if there is none.
func (s Set) Proof() (Algorithm, bool) {
	for _, a := range s.Algorithms() {
		if a.Cryptographic() {
			return a, true
		}
	}
	return 0, false
}

// Len is the number of algorithms in s.
func (s Set) Len() int { return bits.OnesCount16(uint16(s & allSet)) }

// Algorithms are the algorithms in s, in the order of the function [Algorithms].
func (s Set) Algorithms() []Algorithm {
	in := make([]Algorithm, 0, s.Len())
	for a := CRC32; a <= lastAlgorithm; a++ {
		if s.Has(a) {
			in = append(in, a)
		}
	}
	return in
}

// String is the form that ParseSet reads: the names in the order of Algorithms, separated by commas; "" if s is empty.
func (s Set) String() string {
	names := make([]string, 0, s.Len())
	for _, a := range s.Algorithms() {
		names = append(names, a.String())
	}
	return strings.Join(names, ",")
}

// MarshalText implements encoding.TextMarshaler with String.
func (s Set) MarshalText() ([]byte, error) {
	if s&^allSet != 0 {
		return nil, fmt.Errorf("%w: set %#x holds unknown algorithms", ErrInvalid, uint16(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler with ParseSet.
func (s *Set) UnmarshalText(text []byte) error {
	p, err := ParseSet(string(text))
	*s = p
	return err
}
