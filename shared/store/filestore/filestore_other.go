//go:build !linux

package filestore

import (
	"fmt"
	"runtime"

	"github.com/reshelf/reshelf/shared/store"
)

// Options for Open.
type Options struct {
	// Ledger: see the Linux version.
	Ledger bool
}

// Store cannot be had on this platform.
type Store struct{ store.Store }

// Open fails: renames that never replace are built for Linux only.
func Open(dir string, _ Options) (*Store, error) {
	return nil, fmt.Errorf("open %q: %w: local archives need Linux, not %s; run Reshelf in a Linux container or machine",
		dir, store.ErrUnsupported, runtime.GOOS)
}
