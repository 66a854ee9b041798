package storetest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// properties checks that a store is what it says it is. What properties say of contents, listings and renames is checked there.
func (s suite) properties(t *testing.T) {
	s.run(t, "Fixed", func(f fixture) {
		before := f.Properties()
		f.create("a", "b/c")
		if err := f.Rename(f.Context(), f.request("a", "d")); err != nil {
			f.Error(err)
		}
		if after := f.Properties(); after != before {
			f.Errorf("before %+v, afterwards %+v", before, after)
		}
		if before.RenameMethod == "" || before.GuardedRename == (before.Remedy != "") && !before.GuardedRename {
			f.Errorf("renames are guarded: %t, by %q, remedy %q", before.GuardedRename, before.RenameMethod, before.Remedy)
		}
	})
	s.run(t, "FoldsCase", func(f fixture) {
		for _, two := range [][2]archive.Key{{"case", "CASE"}, {"caf\u00e9", "cafe\u0301"}} {
			f.create(two[0])
			err := f.Create(f.Context(), two[1], strings.NewReader("x"))
			if f.Properties().FoldsCase {
				continue // one of the two pairs is enough for that
			}
			if err != nil {
				f.Errorf("create %q beside %q: %v", two[1], two[0], err)
			}
			f.wantContent(two[0], string(two[0]))
		}
	})
	s.run(t, "Takes", func(f fixture) {
		p := f.Properties()
		if p.MaxKey > 0 {
			f.create(archive.Key(strings.Repeat("long/", p.MaxKey/5-1) + strings.Repeat("e", 5+p.MaxKey%5)))
			for _, key := range []archive.Key{archive.Key(strings.Repeat("long/", p.MaxKey/5) + strings.Repeat("e", 1+p.MaxKey%5))} {
				if !errors.Is(p.Takes(key), store.ErrUnsupported) {
					f.Errorf("it takes a key of %d bytes; its bound is %d", len(key), p.MaxKey)
				}
				f.wantError("create", f.Create(f.Context(), key, strings.NewReader("x")), store.ErrUnsupported, key)
			}
		}
	})
	s.run(t, "Marks", func(f fixture) {
		f.create("a")
		req := f.request("a", "b")
		if err := f.Rename(f.Context(), req); err != nil {
			f.Fatal(err)
		}
		obj, err := f.Stat(f.Context(), "b")
		if err != nil {
			f.Fatal(err)
		}
		if got := obj.Mark == req.OpID; got != f.Properties().Marks {
			f.Errorf("the target bears %q; marks: %t", obj.Mark, f.Properties().Marks)
		}
	})
	s.run(t, "Checksums", func(f fixture) {
		f.create("a")
		for _, other := range others(f.identity("a")) {
			_, _, err := f.Checksums(f.Context(), "a", other)
			f.wantError("checksums", err, store.ErrChanged, "a")
		}
		if _, obj, err := f.Checksums(f.Context(), "a", f.identity("a")); err != nil || obj.Key != "a" || !obj.Same(f.identity("a")) {
			f.Errorf("checksums of %+v: %v", obj, err)
		}
		_, _, err := f.Checksums(f.Context(), "b", archive.Identity{})
		f.wantError("checksums", err, store.ErrNotExist, "b")
	})
}

// LargeVariable asks for the tests of large objects, which take minutes.
const LargeVariable = "RESHELF_LARGE"

// large is larger than the largest object that S3 copies with one call.
const large = 6 << 30

func (s suite) largeObjects(t *testing.T) {
	if s.opts.InMemory || os.Getenv(LargeVariable) == "" {
		return
	}
	s.run(t, "SixGiB", func(f fixture) {
		if err := f.Create(f.Context(), "a", io.LimitReader(zeros{}, large)); err != nil {
			f.Fatal(err)
		}
		if err := f.Rename(f.Context(), f.request("a", "b/c")); err != nil {
			f.Fatal(err)
		}
		if got := f.identity("b/c"); got.Size != large {
			f.Errorf("got %d bytes, want %d", got.Size, int64(large))
		}
		if got := f.read("b/c", large-3, -1); got != "\x00\x00\x00" {
			f.Errorf("it ends with %q", got)
		}
		f.wantKeys("b/c")
		if err := f.Create(f.Context(), "b/c", io.LimitReader(zeros{}, large)); !errors.Is(err, store.ErrExist) {
			f.Error(fmt.Errorf("create again: %w", err))
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
