package naming

import (
	"iter"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
)

// xmp is the extension of XMP sidecars.
const xmp = ".xmp"

// IsXMP reports whether a key is that of an XMP sidecar.
func IsXMP(k archive.Key) bool { return strings.EqualFold(k.Ext(), xmp) }

// Described is an object with one of the XMP sidecars that describe it.
type Described struct{ Object, Sidecar archive.Key }

// Sidecars yields each XMP sidecar with the object that it describes, as [Groups.Arrange] finds
// them, for keys that come in strictly ascending order. Its own order is by no key: a pair comes once everything that could
// be described instead has gone by, and of one object the whole name ("a.jpg.xmp") comes before the stem.
//
// Memory does not grow with the number of keys: what is held are keys of which the present one is a continuation.
func (g *Groups) Sidecars(keys iter.Seq2[archive.Key, error]) iter.Seq2[Described, error] {
	return func(yield func(Described, error) bool) {
		s := newSidecars(g)
		for k, err := range keys {
			if err != nil {
				yield(Described{}, err)
				return
			}
			for _, d := range s.next(k) {
				if !yield(d, nil) {
					return
				}
			}
		}
		for _, d := range s.leave("") {
			if !yield(d, nil) {
				return
			}
		}
	}
}

// sidecars holds the names and stems that keys to come can still belong to, shortest first. Each begins the next one, so
// there are at most as many as a key has bytes.
type sidecars struct {
	groups *Groups
	// whole and stem are what sidecars can be of, spelled with the whole name and with the stem.
	whole, stem owners
	open        []opened
}

func newSidecars(g *Groups) sidecars {
	nothing := owners{some: true}
	s := sidecars{groups: g, whole: nothing, stem: nothing}
	if r, ok := g.firstOf(true, xmp); ok {
		s.whole = r.of
	}
	if r, ok := g.firstOf(false, xmp); ok {
		s.stem = r.of
	}
	return s
}

// opened is the beginning of keys to come: the key of an object, a stem with the dot behind it, or both.
type opened struct {
	begin string
	isKey bool
	// of a stem: the object that its sidecars belong to, "" if there is none yet, and these sidecars
	best    archive.Key
	pending []archive.Key
}

// next takes a key and returns what is known by it.
func (s *sidecars) next(k archive.Key) []Described {
	found := s.leave(k)
	ext := strings.ToLower(k.Ext())
	role := s.groups.roles[ext]
	switch {
	case role == RoleSidecar && ext == xmp:
		if at, ok := s.find(stem(k)); ok && s.open[at].isKey {
			return append(found, Described{Object: archive.Key(stem(k)), Sidecar: k})
		}
		o := s.at(stem(k) + ".")
		o.pending = append(o.pending, k)
	case role == RoleSidecar:
	default:
		if s.stem.has(ext, role) {
			s.offer(k, role)
		}
		if s.whole.has(ext, role) {
			s.at(string(k)).isKey = true
		}
	}
	return found
}

// offer makes k the owner of its stem unless a better one is known.
func (s *sidecars) offer(k archive.Key, role Role) {
	o := s.at(stem(k) + ".")
	if o.best == "" || role < s.groups.role(o.best.Ext()) {
		o.best = k
	}
}

// leave closes everything that k does not continue, and returns the sidecars whose object is known by it.
func (s *sidecars) leave(k archive.Key) (found []Described) {
	for len(s.open) > 0 {
		last := s.open[len(s.open)-1]
		if k != "" && strings.HasPrefix(string(k), last.begin) {
			return found
		}
		s.open = s.open[:len(s.open)-1]
		for _, p := range last.pending {
			if last.best != "" {
				found = append(found, Described{Object: last.best, Sidecar: p})
			}
		}
	}
	return found
}

// find is where begin, with which the present key begins, is open or would be.
func (s *sidecars) find(begin string) (at int, ok bool) {
	return slices.BinarySearchFunc(s.open, len(begin), func(o opened, n int) int { return len(o.begin) - n })
}

// at opens begin, with which the present key begins, and returns it.
func (s *sidecars) at(begin string) *opened {
	at, ok := s.find(begin)
	if !ok {
		s.open = slices.Insert(s.open, at, opened{begin: begin})
	}
	return &s.open[at]
}
