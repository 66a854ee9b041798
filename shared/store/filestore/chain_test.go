//go:build linux

package filestore_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// stopped is a process that is stopped in the middle of a rename.
type stopped struct {
	reached, wake, over chan struct{}
}

// stopIn begins a rename in a process of its own, which is stopped at a step, if it comes there.
func stopIn(t *testing.T, root string, req store.RenameRequest, step string) *stopped {
	s, err := filestore.Open(root, filestore.Options{})
	must(t, err)
	p := &stopped{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	once := false
	s.SetStep(func(at string) {
		if at == step && !once {
			once = true
			close(p.reached)
			<-p.wake
		}
	})
	go func() {
		defer close(p.over)
		defer s.Close()
		_ = s.Rename(t.Context(), req)
	}()
	select {
	case <-p.reached:
	case <-p.over:
	}
	return p
}

func (p *stopped) goOn() {
	close(p.wake)
	<-p.over
}

// Workers are stopped at any step of any row of a chain, one begins where the other was stopped, and they wake in any order when the
// last one has done the whole chain, or some rows of it. In the end all is where it belongs.
func TestStoppedInChain(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		root, err := os.MkdirTemp(dir, "")
		must(t, err)
		n := rapid.IntRange(2, 5).Draw(rt, "rows")
		want := map[string]string{}
		for i := range n {
			must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), []byte(fmt.Sprint("content ", i)), 0o644))
			want[fmt.Sprint(i+1)] = fmt.Sprint("content ", i)
		}
		s, err := filestore.Open(root, filestore.Options{})
		must(t, err)
		defer s.Close()
		var rows []store.RenameRequest
		for i := n - 1; i >= 0; i-- {
			from := archive.Key(fmt.Sprint(i))
			rows = append(rows, store.RenameRequest{From: from, To: archive.Key(fmt.Sprint(i + 1)), Want: identity(t, s, from), OpID: fmt.Sprint("op", i)})
		}
		steps := []string{"rename: source pinned", "rename: folder made", "rename: renamed", "rename: mismatch seen"}
		var all []*stopped
		for range rapid.IntRange(1, 4).Draw(rt, "workers") {
			at := rapid.IntRange(0, n-1).Draw(rt, "row")
			for _, r := range rows[:at] {
				_ = s.Rename(t.Context(), r)
			}
			all = append(all, stopIn(t, root, rows[at], rapid.SampledFrom(steps).Draw(rt, "step")))
		}
		done := rapid.IntRange(0, n).Draw(rt, "rows before they wake")
		for i, r := range rows {
			if i == done {
				for _, p := range rapid.Permutation(all).Draw(rt, "wake") {
					p.goOn()
				}
				all = nil
			}
			if err := s.Rename(t.Context(), r); err != nil {
				rt.Errorf("row %s: %v", r.From, err)
			}
		}
		for _, p := range all {
			p.goOn()
		}
		if got := readFiles(t, root); !maps.Equal(got, want) {
			rt.Errorf("got files %q, want %q", got, want)
		}
	})
}
