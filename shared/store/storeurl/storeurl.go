// Package storeurl opens a store by the scheme of its root.
package storeurl

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/s3store"
)

// Opener opens stores. What the stores of one process share, connections above all, belongs to it. It is safe for concurrent
// use. Close it when all that it opened is closed.
type Opener struct {
	settings string
	clients  *s3store.Clients
}

// New returns an opener. settings is the path of the stores file, "" for none (see s3store.Stores); it is read when the first
// bucket is opened.
func New(settings string) *Opener {
	return &Opener{settings: settings, clients: s3store.NewClients(s3store.ClientOptions{Stores: settings})}
}

// Settings is the path of the stores file, "" for none.
func (o *Opener) Settings() string { return o.settings }

// Close closes idle connections.
func (o *Opener) Close() { o.clients.Close() }

// Slowed says which servers ask for fewer calls at the moment, by their address; empty while none does.
func (o *Opener) Slowed() map[string]string { return o.clients.Slowed() }

// Options for Open; the zero value opens an archive to be read.
type Options struct {
	// Ledger: the root is Reshelf's own. It is created if it is missing (a bucket never is), and objects in it may be replaced
	// and deleted.
	Ledger bool
	// Renames: objects of the archive will be renamed. Where what its server can do is not known, it is tried out, on scratch
	// objects that are removed again.
	Renames bool
	// Kept is the ledger's store, in which is kept what was found out; nil: nowhere.
	Kept store.Store
}

// Open opens the store at root. An archive that is missing, or whose server does not accept the credentials, is
// store.ErrUnavailable; a scheme that cannot be opened is store.ErrUnsupported. Close the store after use.
func (o *Opener) Open(ctx context.Context, root archive.Root, opts Options) (store.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	switch root.Scheme() {
	case archive.SchemeFile:
		s, err := filestore.Open(root.Path(), filestore.Options{Ledger: opts.Ledger})
		if err != nil {
			return nil, err // not s, which would be a store that is not nil
		}
		return s, nil
	case archive.SchemeS3:
		s, err := o.clients.Open(ctx, root, s3store.Options{Ledger: opts.Ledger, Renames: opts.Renames, Probes: probes(opts.Kept)})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, fmt.Errorf("open %q: %w: no such kind of store; want file or s3", root, store.ErrUnsupported)
}

// Examine finds out anew what the server of a bucket can do, and keeps it in kept unless that is nil. Roots of other schemes
// have no traits.
func (o *Opener) Examine(ctx context.Context, root archive.Root, kept store.Store) ([]s3store.Trait, error) {
	if root.Scheme() != archive.SchemeS3 {
		return nil, nil
	}
	s, err := o.clients.Open(ctx, root, s3store.Options{Renames: true, Fresh: true, Probes: probes(kept)})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Capabilities().Traits(), nil
}

func probes(st store.Store) s3store.Probes {
	if st == nil {
		return nil
	}
	return kept{st}
}

// kept keeps what was found out about servers in the ledger, as stores/NAME.json.
type kept struct{ store store.Store }

// maxKept bounds what is read, in bytes.
const maxKept = 1 << 20

func (k kept) key(name string) archive.Key { return archive.Key("stores/" + name + ".json") }

// Load implements s3store.Probes.
func (k kept) Load(ctx context.Context, name string) ([]byte, error) {
	c, err := k.store.Open(ctx, k.key(name), 0, maxKept, archive.Identity{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(c)
}

// Save implements s3store.Probes.
func (k kept) Save(ctx context.Context, name string, text []byte) error {
	return k.store.Replace(ctx, k.key(name), bytes.NewReader(text))
}
