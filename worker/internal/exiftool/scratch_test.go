package exiftool_test

import (
	"sync"
	"testing"

	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// Pools that start and end at once in one folder do not take each other's for one left behind.
func TestScratchShared(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				p, err := exiftool.NewPool(exiftool.Options{Processes: 1, Scratch: dir})
				if err != nil {
					t.Error(err)
					continue
				}
				if err := p.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
