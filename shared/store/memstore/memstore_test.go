package memstore_test

import (
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/shared/store/storetest"
)

func TestConformance(t *testing.T) {
	root, err := archive.FileRoot("/memory")
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(*testing.T) store.Store { return memstore.New(root) }, storetest.Options{InMemory: true})
}

func TestConformanceFolding(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memstore.NewFolding(archive.Root{}, naming.Fold) }, storetest.Options{InMemory: true})
}
