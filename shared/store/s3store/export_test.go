package s3store

import (
	"context"
	"iter"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// ErrStop ends a protocol half way, as a crash does.
var ErrStop = errStop

// SetStep has step called between the steps of a protocol.
func (s *Store) SetStep(step func(name string) error) { s.step = step }

// SetIdle sets how long a connection may bring nothing.
func (s *Store) SetIdle(d time.Duration) { s.idle = d }

// SetCapabilities has the store believe c.
func (s *Store) SetCapabilities(c Capabilities) { s.can = c }

// Pace is what slows a process down.
type Pace = pace

// Wait, Learn and State call the methods of the same names.
var (
	Wait  = (*pace).wait
	Learn = (*pace).learn
	State = (*pace).state
)

// ParseStores and Sendable call the functions of the same names.
var (
	ParseStores = parseStores
	Sendable    = sendable
)

// Inside answers for keys in turn whether they lie in a folder that is left out.
func Inside(skip func(archive.Key, bool) bool) func(archive.Key) bool {
	p := pruned{skip: skip}
	return p.inside
}

// Merge makes entries of names as a server lists them; there says which objects exist.
func Merge(names iter.Seq[string], there func(string) bool, yield func(store.Entry)) error {
	l := lister{store: &Store{}, yield: func(e store.Entry, err error) bool { yield(e); return err == nil }}
	l.exists = func(_ context.Context, key archive.Key) (bool, error) { return there(string(key)), nil }
	for name := range names {
		if err := l.take(context.Background(), minio.ObjectInfo{Key: name, Size: 1}); err != nil {
			return err
		}
	}
	l.end(context.Background(), nil)
	return nil
}
