package storetest

import (
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
)

// folders checks that RemoveFolder takes away nothing but folders in which nothing is.
func (s suite) folders(t *testing.T) {
	s.run(t, "Kept", func(f fixture) {
		f.create("a/b/c", "d")
		for _, key := range []archive.Key{"a", "a/b", "a/b/c", "d", "none", "none/either", "d/e"} {
			if removed, err := f.RemoveFolder(f.Context(), key); removed || err != nil {
				f.Errorf("RemoveFolder(%s): got %t, %v, want false", key, removed, err)
			}
		}
		f.wantKeys("a/b/c", "d")
		f.wantContent("a/b/c", "a/b/c")
	})
	s.run(t, "Left", func(f fixture) {
		f.create("a/b/c")
		if err := f.Rename(f.Context(), f.request("a/b/c", "c")); err != nil {
			f.Fatal(err)
		}
		for _, key := range []archive.Key{"a", "a/b", "a"} {
			removed, err := f.RemoveFolder(f.Context(), key)
			if err != nil {
				f.Errorf("RemoveFolder(%s): got %t, %v", key, removed, err)
			}
		}
		if f.Properties().Local {
			f.create("a") // nothing is in its way
			if err := f.Rename(f.Context(), f.request("a", "a2")); err != nil {
				f.Fatal(err)
			}
		}
		if err := f.Rename(f.Context(), f.request("c", "a/b/d")); err != nil {
			f.Errorf("rename into it: %v", err)
		}
		f.wantContent("a/b/d", "a/b/c")
	})
}
