// Package storeurl opens a store by the scheme of its root.
package storeurl

import (
	"context"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// Options for Open.
type Options struct {
	// Ledger: the root is Reshelf's own. It is created if it is missing, and objects in it may be replaced and deleted.
	Ledger bool
}

// Open opens the store at root. An archive that is missing is store.ErrUnavailable; a scheme that cannot be opened is
// store.ErrUnsupported. Close the store after use.
func Open(ctx context.Context, root archive.Root, opts Options) (store.Store, error) {
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
		return nil, fmt.Errorf("open %s: %w: S3 comes with the next release; use a directory for now", root, store.ErrUnsupported)
	}
	return nil, fmt.Errorf("open %q: %w: no such kind of store; want file or s3", root, store.ErrUnsupported)
}
