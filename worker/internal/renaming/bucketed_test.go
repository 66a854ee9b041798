package renaming_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// bucketed is an archive in memory that renames as a bucket without versions does: it copies, with a mark, where nothing is, and deletes
// what has the ETag that was copied. Objects have no inodes, and times of full seconds.
type bucketed struct {
	store.Store
	// same: all contents have one ETag, so that a deletion that comes late hits whatever is there.
	same     bool
	parallel int
	// equal: what begins with "content of" has one content.
	equal bool

	// versioned: what is deleted stays as a version, and an undo brings it back. listed: identities do not say which one they are
	// of, as those of a listing.
	versioned, listed bool

	mu       sync.Mutex
	marks    map[uint64]string // by inode in memory
	versions map[uint64]string
	hidden   map[archive.Key]version // the newest of names that are free
}

type version struct {
	id, mark string
	raw      []byte
}

func newBucketed(same bool, parallel int) *bucketed {
	return &bucketed{Store: memstore.New(archive.Root{}), same: same, parallel: parallel, marks: map[uint64]string{}, versions: map[uint64]string{}, hidden: map[archive.Key]version{}}
}

func (b *bucketed) Properties() store.Properties {
	return store.Properties{Marks: true, Parks: true, GuardedRename: true, RenameMethod: "copy", Parallel: b.parallel}
}

func (b *bucketed) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if b.equal {
		raw, _ := io.ReadAll(body)
		if bytes.HasPrefix(raw, []byte("content of ")) {
			raw = []byte("duplicate")
		}
		body = bytes.NewReader(raw)
	}
	return b.Store.Create(ctx, key, body)
}

func (b *bucketed) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range b.Store.List(ctx, opts) {
			if err == nil {
				e.Object, err = b.Stat(ctx, e.Key)
			}
			if errors.Is(err, store.ErrNotExist) {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func (b *bucketed) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, _, err := b.read(ctx, key)
	return o, err
}

func (b *bucketed) read(ctx context.Context, key archive.Key) (o archive.Object, raw []byte, err error) {
	if o, err = b.Store.Stat(ctx, key); err != nil {
		return o, nil, err
	}
	c, err := b.Store.Open(ctx, key, 0, -1, archive.Identity{})
	if err != nil {
		return o, nil, err
	}
	raw, err = io.ReadAll(c)
	sum := md5.Sum(raw)
	if b.same {
		sum = [md5.Size]byte{}
	}
	o.Mark = b.marks[o.Inode]
	id := ""
	if b.versioned && !b.listed {
		if b.versions[o.Inode] == "" {
			b.versions[o.Inode] = fmt.Sprintf("v%d", o.Inode)
		}
		id = b.versions[o.Inode]
	}
	o.Identity = archive.Identity{Size: o.Size, MTime: time.Unix(0, o.MTime).Truncate(time.Second).UnixNano(), ETag: hex.EncodeToString(sum[:]), Version: id}
	return o, raw, errors.Join(err, c.Close())
}

func (b *bucketed) Rename(ctx context.Context, req store.RenameRequest) error {
	return b.rename(ctx, req, func(do func() error) error { return do() })
}

// rename takes one step after the other, each of them around.
func (b *bucketed) rename(ctx context.Context, req store.RenameRequest, around func(func() error) error) error {
	look := func(key archive.Key) (o archive.Object, err error) {
		err = around(func() error { o, err = b.Stat(ctx, key); return err })
		return o, err
	}
	src, err := look(req.From)
	dst, dstErr := look(req.To)
	ours := dstErr == nil && (req.OpID != "" && dst.Mark == req.OpID || req.Undoes != nil && dst.Mark != req.Undoes.OpID && req.Undoes.Was.Same(dst.Identity))
	switch {
	case errors.Is(err, store.ErrNotExist) && ours:
		return nil
	case err != nil:
		return err
	case !req.Want.Same(src.Identity) && ours:
		return nil
	case !req.Want.Same(src.Identity):
		return store.ErrChanged
	case dstErr == nil && !ours:
		return store.ErrExist
	case dstErr != nil && !errors.Is(dstErr, store.ErrNotExist):
		return dstErr
	case dstErr != nil:
		back := false
		if err := around(func() (err error) { back, err = b.bringBack(ctx, req); return err }); err != nil {
			return err
		}
		if back {
			break
		}
		if err := around(func() error { return b.copy(ctx, req, src.ETag) }); err != nil {
			return err
		}
	}
	return around(func() error { return b.drop(ctx, req.From, src.ETag) })
}

func (b *bucketed) copy(ctx context.Context, req store.RenameRequest, etag string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	src, raw, err := b.read(ctx, req.From)
	if err != nil {
		return err
	}
	if src.ETag != etag {
		return store.ErrChanged
	}
	if err := b.Create(ctx, req.To, bytes.NewReader(raw)); err != nil {
		return err
	}
	o, err := b.Store.Stat(ctx, req.To)
	b.marks[o.Inode] = req.OpID
	return err
}

// bringBack makes the version that a request undoes the current one, if it is right below a deletion.
func (b *bucketed) bringBack(ctx context.Context, req store.RenameRequest) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.hidden[req.To]
	if !ok || req.Undoes == nil || v.id == "" || v.id != req.Undoes.Was.Version {
		return false, nil
	}
	if err := b.Create(ctx, req.To, bytes.NewReader(v.raw)); err != nil {
		return false, err
	}
	o, err := b.Store.Stat(ctx, req.To)
	b.marks[o.Inode], b.versions[o.Inode] = v.mark, v.id
	delete(b.hidden, req.To)
	return true, err
}

func (b *bucketed) drop(ctx context.Context, key archive.Key, etag string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, _, err := b.read(ctx, key)
	if errors.Is(err, store.ErrNotExist) || err == nil && o.ETag != etag {
		return nil
	}
	return errors.Join(err, b.hide(ctx, key))
}

// Delete is that of somebody else.
func (b *bucketed) Delete(ctx context.Context, key archive.Key, _ archive.Identity) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hide(ctx, key)
}

func (b *bucketed) hide(ctx context.Context, key archive.Key) error {
	o, raw, err := b.read(ctx, key)
	if err != nil {
		return err
	}
	b.hidden[key] = version{b.versions[o.Inode], o.Mark, raw}
	return b.Store.Delete(ctx, key, archive.Identity{})
}

// byWayOf reports whether objects of chains go by way of names in between.
func byWayOf(st store.Store) bool {
	p := st.Properties()
	return p.Parks && (!p.AtomicRename || single(st))
}

// lone is an archive whose batches assume that nobody else writes, although its renames are one step.
type lone struct{ store.Store }

func (l lone) Properties() store.Properties {
	p := l.Store.Properties()
	p.Parks = true // new files keep their numbers, also below overlayfs
	return p
}

// single reports whether batches assume that nobody else writes.
func single(st store.Store) bool {
	switch st := st.(type) {
	case lone:
		return true
	case *hooked:
		return single(st.Store)
	}
	return !st.Properties().GuardedRename
}

// parkedIn gives a row of a chain a name in between, in an archive that needs one.
func parkedIn(st store.Store, r batch.Row) batch.Row {
	if r.Chain != 0 && byWayOf(st) {
		r.Park = "parked-" + archive.Key(strings.ReplaceAll(string(r.From), "/", "-"))
	}
	return r
}
