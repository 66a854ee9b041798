package listing

import "github.com/reshelf/reshelf/shared/batch"

// bound says how much a segment, or the tail, may hold.
type bound struct {
	objects int
	bytes   int64
}

func (b bound) plus(o bound) bound { return bound{b.objects + o.objects, b.bytes + o.bytes} }

func (b bound) atMost(o bound) bound { return bound{min(b.objects, o.objects), min(b.bytes, o.bytes)} }

// The least that a segment of the tail is cut to: below it, a segment costs more than it spreads.
const (
	minPieceObjects = 8
	minPieceBytes   = 16 << 20
)

// tail holds what was listed and is not in a segment yet.
type tail struct {
	objects []listed
	// bytes is the sum of the objects' weights. An object weighs its size, but no more than is too much for a segment, so
	// that absurd sizes (sparse files) cannot overflow it.
	bytes int64
	// excluded since the last of objects.
	excluded int64
}

// listed is an object with what was excluded between it and the object before.
type listed struct {
	batch.Listed
	weight   int64
	excluded int64
}

// add reports whether f is an object, not only an exclusion. full is what a segment holds, in bytes.
func (t *tail) add(f entry, full int64) bool {
	t.excluded += f.excluded
	if f.Key == "" {
		return false
	}
	o := listed{Listed: f.Listed, weight: min(f.Size, full+1), excluded: t.excluded}
	t.objects = append(t.objects, o)
	t.bytes += o.weight
	t.excluded = 0
	return true
}

func (t *tail) len() int { return len(t.objects) }

func (t *tail) fullerThan(b bound) bool {
	return len(t.objects) > 1 && (len(t.objects) >= b.objects || t.bytes >= b.bytes)
}

// piece divides the tail by parallel.
func (t *tail) piece(parallel int) bound {
	return bound{
		objects: max(minPieceObjects, (len(t.objects)+parallel-1)/parallel),
		bytes:   max(minPieceBytes, t.bytes/int64(parallel)+1),
	}
}

// cut takes the first objects of the tail, up to b but at least one if there is any.
func (t *tail) cut(b bound) batch.Segment {
	var seg batch.Segment
	var bytes int64
	for _, o := range t.objects {
		if n := len(seg.Objects); n > 0 && (n >= b.objects || bytes >= b.bytes || o.weight > b.bytes-bytes) {
			break
		}
		bytes += o.weight
		seg.Objects = append(seg.Objects, o.Listed)
		seg.Excluded += o.excluded
	}
	n := copy(t.objects, t.objects[len(seg.Objects):])
	clear(t.objects[n:]) // the keys may go
	t.objects = t.objects[:n]
	t.bytes -= bytes
	return seg
}
