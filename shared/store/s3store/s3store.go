// Package s3store is a store.Store in an S3-compatible bucket.
//
// # What can be relied on
//
// S3 has no rename, and most servers ignore If-None-Match where an object is copied, and overwrite (notes in
// docs/stores.md). So a rename is: copy in parts, under a mark of the request, with a completion that the server refuses if
// the target exists (If-None-Match, RFC 9110 section 13.1.2); verify the copy; delete the source only if it is still the one
// that was copied (If-Match), or in a versioned bucket, where a deletion destroys nothing. Which of these a server really
// does is found by trying them out (Probe), never by its name. Where it does not, renames are refused.
//
// An answer that was lost is not an answer: after every doubt the store looks whether the target bears the mark of the
// request. A target is never deleted, not even one that does not look right.
//
// # Keys
//
// Keys are stored as they are, below the prefix of the root; they must be UTF-8 and fit into 1,024 bytes with the prefix.
// Objects of zero bytes whose key ends with a slash are the folders that consoles make: they are not listed. Other objects
// whose key cannot be addressed ("a//b") are listed as store.Unaddressable.
package s3store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// Options of Clients.Open; the zero value opens an archive for reading.
type Options struct {
	// Ledger: the bucket, or its prefix, is Reshelf's own: Replace and Delete work.
	Ledger bool
	// Renames: objects will be renamed. Open then finds out what the server can do, at most once for each endpoint and
	// bucket: what was found is kept in Probes, if that is not nil.
	Renames bool
	Probes  Probes
	// Fresh: what is kept in Probes is not believed, but found out again.
	Fresh bool
}

// Limits of S3, from Amazon's "Object key naming guidelines" and "Multipart upload limits".
const (
	maxKey      = 1024      // bytes of a key
	maxPart     = 512 << 20 // of a copy in parts: what servers copy within seconds
	onePart     = 1 << 30   // up to here a copy has one part
	maxPartSize = 5 << 30
	fewParts    = 256 // of a copy: S3 takes 10,000, a Versity Gateway on ext4 some 400
	pageSize    = 1000
)

// parallel is how many objects of a segment are worked on at once: above 16, two cores gain nothing and latencies grow.
const parallel = 16

// Store is a bucket, or a prefix of one. It implements store.Store.
type Store struct {
	*endpoint
	root    archive.Root
	bucket  string
	prefix  string // "" or with a slash at its end
	options Options
	can     Capabilities
	patient time.Duration // how long a store that does not answer is waited for
	idle    time.Duration // how long a connection may bring nothing

	answered atomic.Int64 // when a call last succeeded that only a bucket that is there can answer

	large int                     // after how many names a listing is divided; 0 for the default
	step  func(name string) error // called between the steps of a protocol; nil but in tests
}

var _ store.Store = (*Store)(nil)

// Open opens the bucket and prefix of root. It makes one signed call that tells refused credentials from a missing bucket,
// since some servers answer 404 to unknown credentials. A bucket that is missing is store.ErrUnavailable, and so are
// credentials that are refused; nothing is written, unless Options.Renames asks for what is not known yet.
func (c *Clients) Open(ctx context.Context, root archive.Root, o Options) (*Store, error) {
	if root.Scheme() != archive.SchemeS3 {
		return nil, fmt.Errorf("open %s: %w: it is not an s3 archive", root, store.ErrUnsupported)
	}
	e, err := c.endpoint(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	s := &Store{endpoint: e, root: root, bucket: root.Bucket(), options: o, patient: c.options.Patience, idle: idleFor}
	if root.Path() != "" {
		s.prefix = root.Path() + "/"
	}
	if err := s.check(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	if o.Renames {
		if s.can, err = s.capabilities(ctx); err != nil {
			return nil, fmt.Errorf("open %s: find out what the server can do: %w", root, err)
		}
	}
	return s, nil
}

// Properties implements store.Store. Without Options.Renames no rename is guarded.
func (s *Store) Properties() store.Properties {
	p := store.Properties{
		Root: s.root, Marks: true, Parks: s.can.V != 0 && !s.can.MarkersBlock, MaxKey: maxKey - len(s.prefix), UTF8: true, Parallel: parallel,
		GuardedRename: s.can.guarded(), GuardedCopy: s.can.guardsCopies(), RenameMethod: s.can.method(), Remedy: s.can.remedy(),
		FoldsCase: s.can.FoldsCase, Folders: s.can.folders(), Versioned: s.can.Versioned, Locked: s.can.Locked,
	}
	return p
}

// Close implements store.Store. The connections belong to Clients.
func (s *Store) Close() error { return nil }

// RemoveFolder implements store.Store: a bucket has no folders.
func (s *Store) RemoveFolder(ctx context.Context, key archive.Key) (bool, error) {
	if err := s.enter(ctx, key); err != nil {
		return false, failed("remove folder", key, err)
	}
	return false, nil
}

// Sync implements store.Store: S3 answers when an object is durable.
func (s *Store) Sync(ctx context.Context, keys []archive.Key) error {
	if err := s.enter(ctx, keys...); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// enter starts every operation.
func (s *Store) enter(ctx context.Context, keys ...archive.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := archive.ParseKey(string(key)); err != nil {
			return err
		}
	}
	return nil
}

// takes reports whether a key can be one of this bucket.
func (s *Store) takes(key archive.Key) error {
	return store.Properties{MaxKey: maxKey - len(s.prefix), UTF8: true}.Takes(key)
}

// name is the name of a key in the bucket.
func (s *Store) name(key archive.Key) string { return s.prefix + string(key) }

// key is the key of a name in the bucket, which starts with the prefix.
func (s *Store) key(name string) archive.Key { return archive.Key(strings.TrimPrefix(name, s.prefix)) }

// failed adds what was done, and to what.
func failed(op string, key archive.Key, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, key.Text(), err)
}

// at marks a step of a protocol, for tests that crash or interfere there.
func (s *Store) at(name string) error {
	if s.step == nil {
		return nil
	}
	return s.step(name)
}

// refuseUnlessLedger is for what nobody may do to an archive.
func (s *Store) refuseUnlessLedger() error {
	if s.options.Ledger {
		return nil
	}
	return fmt.Errorf("%w: it was opened as an archive", store.ErrUnsupported)
}

// errNothing: an answer says that it worked, and is empty where it must not be.
var errNothing = errors.New("the server said yes, and gave nothing back")
