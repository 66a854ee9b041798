package storetest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

func (s suite) stat(t *testing.T) {
	s.run(t, "Object", func(f fixture) {
		f.createContent("a/b", "12345")
		f.createContent("empty", "")
		for key, size := range map[archive.Key]int64{"a/b": 5, "empty": 0} {
			obj, err := f.Stat(f.Context(), key)
			if err != nil {
				f.Fatal(err)
			}
			if obj.Key != key || obj.Size != size || (obj.MTime == 0 && obj.ETag == "") {
				f.Errorf("got %+v, want %q of %d bytes with a time or an ETag", obj, key, size)
			}
		}
	})
	s.run(t, "Missing", func(f fixture) {
		f.create("a", "d/e")
		for _, key := range []archive.Key{"b", "a/b", "a/b/c", "d/f", "x/y/z", archive.Key(strings.Repeat("n", 300))} {
			_, err := f.Stat(f.Context(), key)
			f.wantError("stat", err, store.ErrNotExist, key)
			_, err = f.Open(f.Context(), key, 0, -1, archive.Identity{})
			f.wantError("open", err, store.ErrNotExist, key)
		}
	})
	s.run(t, "Folder", func(f fixture) {
		f.create("d/e/f")
		for _, key := range []archive.Key{"d", "d/e"} {
			_, statErr := f.Stat(f.Context(), key)
			_, openErr := f.Open(f.Context(), key, 0, -1, archive.Identity{})
			for _, err := range []error{statErr, openErr} {
				// A store without folders cannot tell.
				if !errors.Is(err, store.ErrNotRegular) && !errors.Is(err, store.ErrNotExist) {
					f.Errorf("%q: got %v, want %v", key, err, store.ErrNotRegular)
				}
			}
		}
	})
}

func (s suite) openContents(t *testing.T) {
	s.run(t, "Ranges", func(f fixture) {
		content := patterned(100_000)
		f.createContent("a", content)
		f.createContent("empty", "")
		for _, r := range [][2]int64{{0, -1}, {0, 0}, {0, 1}, {0, 100_000}, {0, 100_001}, {99_999, -1}, {99_999, 5}, {5, 70_000}} {
			end := int64(len(content))
			if r[1] >= 0 {
				end = min(end, r[0]+r[1])
			}
			if got, want := f.read("a", r[0], r[1]), content[r[0]:end]; got != want {
				f.Errorf("%d bytes from %d: got %d bytes %q, want %d bytes %q", r[1], r[0], len(got), shorten(got), len(want), shorten(want))
			}
		}
		for _, r := range [][2]int64{{100_000, -1}, {100_000, 1}, {200_000, -1}, {1 << 60, 1 << 60}} {
			if got := f.read("a", r[0], r[1]); got != "" {
				f.Errorf("%d bytes from %d: got %q past the end", r[1], r[0], shorten(got))
			}
		}
		if got := f.read("empty", 0, -1); got != "" {
			f.Errorf("the empty object holds %q", got)
		}
		for _, r := range [][2]int64{{-1, 1}, {0, -2}} {
			if c, err := f.Open(f.Context(), "a", r[0], r[1], archive.Identity{}); err == nil {
				_ = c.Close()
				f.Errorf("%d bytes from %d: no error", r[1], r[0])
			}
		}
	})
	s.run(t, "Want", func(f fixture) {
		f.createContent("a", "12345")
		want := f.identity("a")
		c, err := f.Open(f.Context(), "a", 0, -1, want)
		if err != nil {
			f.Fatal(err)
		}
		defer c.Close()
		if c.Object.Key != "a" || !c.Object.Same(want) {
			f.Errorf("got %+v, want %+v", c.Object, want)
		}
		if local := f.Properties().Local; (c.File != nil) != local {
			f.Errorf("a local file: %t, want %t", c.File != nil, local)
		}
		for _, other := range others(want) {
			_, err := f.Open(f.Context(), "a", 0, -1, other)
			f.wantError(fmt.Sprintf("open as %+v", other), err, store.ErrChanged, "a")
		}
	})
	s.run(t, "Readers", func(f fixture) {
		content := patterned(300_000)
		f.createContent("a", content)
		errs := together(8, func(int) error {
			c, err := f.Open(f.Context(), "a", 0, -1, archive.Identity{})
			if err != nil {
				return err
			}
			defer c.Close()
			got, err := io.ReadAll(c)
			if string(got) != content {
				return errors.Join(err, errors.New("other content"))
			}
			return err
		})
		if err := errors.Join(errs...); err != nil {
			f.Error(err)
		}
	})
}

// others are identities that differ from id in one field that it knows.
func others(id archive.Identity) []archive.Identity {
	size := id
	size.Size++
	list := []archive.Identity{size}
	if id.ETag != "" {
		etag := id
		etag.ETag += "x"
		return append(list, etag)
	}
	if id.MTime != 0 {
		mtime := id
		mtime.MTime++
		list = append(list, mtime)
	}
	if id.Inode != 0 {
		inode := id
		inode.Inode++
		list = append(list, inode)
	}
	return list
}

func (s suite) create(t *testing.T) {
	s.run(t, "Contents", func(f fixture) {
		large := patterned(3 << 20)
		for key, content := range map[archive.Key]string{"a": "a", "b/c/d": "", "b/c/e": large} {
			f.createContent(key, content)
			f.wantContent(key, content)
		}
		f.wantKeys("a", "b/c/d", "b/c/e")
	})
	s.run(t, "Taken", func(f fixture) {
		f.createContent("a", "old")
		f.createContent("d/e", "old")
		taken := []archive.Key{"a", "d/e"}
		if f.Properties().Folders {
			taken = append(taken, "a/b", "a/b/c", "d", "d/e/f")
		}
		for _, key := range taken {
			f.wantError("create", f.Create(f.Context(), key, strings.NewReader("new")), store.ErrExist, key)
		}
		f.wantKeys("a", "d/e")
		f.wantContent("a", "old")
		f.wantContent("d/e", "old")
	})
	s.run(t, "BrokenBody", func(f fixture) {
		broken := errors.New("broken")
		body := io.MultiReader(strings.NewReader(patterned(100_000)), readerFunc(func([]byte) (int, error) { return 0, broken }))
		f.wantError("create", f.Create(f.Context(), "d/a", body), broken, "d/a")
		f.wantKeys()
		f.createContent("d/a", "whole")
		f.wantContent("d/a", "whole")
	})
	s.run(t, "Race", func(f fixture) {
		for round := range 10 {
			key := archive.Key(fmt.Sprintf("race/%d/a", round))
			errs := together(16, func(i int) error {
				return f.Create(f.Context(), key, strings.NewReader(strings.Repeat(fmt.Sprint(i, ","), 1000)))
			})
			f.wantContent(key, strings.Repeat(fmt.Sprint(f.winner(errs, store.ErrExist), ","), 1000))
		}
	})
}

func (s suite) replace(t *testing.T) {
	if s.opts.Archive {
		s.run(t, "Refused", func(f fixture) {
			f.createContent("a", "old")
			f.wantError("replace", f.Replace(f.Context(), "a", strings.NewReader("new")), store.ErrUnsupported, "a")
			f.wantContent("a", "old")
		})
		return
	}
	s.run(t, "NewAndOld", func(f fixture) {
		for _, content := range []string{"first", "", patterned(100_000), "last"} {
			if err := f.Replace(f.Context(), "d/a", strings.NewReader(content)); err != nil {
				f.Fatal(err)
			}
			f.wantContent("d/a", content)
		}
		f.wantKeys("d/a")
	})
	s.run(t, "OtherIdentity", func(f fixture) {
		f.createContent("a", "old")
		old := f.identity("a")
		if err := f.Replace(f.Context(), "a", strings.NewReader("new")); err != nil {
			f.Fatal(err)
		}
		if now := f.identity("a"); now.Same(old) {
			f.Errorf("replaced by other content, %+v is the same as %+v", now, old)
		}
	})
	s.run(t, "BrokenBody", func(f fixture) {
		f.createContent("a", "old")
		broken := errors.New("broken")
		body := io.MultiReader(strings.NewReader("half"), readerFunc(func([]byte) (int, error) { return 0, broken }))
		f.wantError("replace", f.Replace(f.Context(), "a", body), broken, "a")
		f.wantContent("a", "old")
		f.wantKeys("a")
	})
	s.run(t, "Folder", func(f fixture) {
		if !f.Properties().Folders {
			return
		}
		f.create("a", "d/e")
		for _, key := range []archive.Key{"d", "a/b"} {
			if err := f.Replace(f.Context(), key, strings.NewReader("new")); err == nil {
				f.Errorf("%q was replaced although that hides an object", key)
			}
		}
		f.wantKeys("a", "d/e")
	})
	s.run(t, "Atomic", fixture.replaceAtomic)
}

// replaceAtomic reads while another goroutine replaces: every reader gets one whole content.
func (f fixture) replaceAtomic() {
	contents := []string{strings.Repeat("a", 200_000), strings.Repeat("b", 100_000), "c"}
	f.createContent("a", contents[0])
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				c, err := f.Open(f.Context(), "a", 0, -1, archive.Identity{})
				if err != nil {
					f.Error(err)
					return
				}
				got, err := io.ReadAll(c)
				_ = c.Close()
				if f.opts.TornReaders && errors.Is(err, store.ErrChanged) {
					continue
				}
				if err != nil || !slices.Contains(contents, string(got)) {
					f.Errorf("read %d bytes %q, %v", len(got), shorten(string(got)), err)
					return
				}
			}
		})
	}
	for i := range 60 {
		if err := f.Replace(f.Context(), "a", strings.NewReader(contents[i%3])); err != nil {
			f.Error(err)
		}
	}
	close(done)
	readers.Wait()
}

func (s suite) remove(t *testing.T) {
	if s.opts.Archive {
		s.run(t, "Refused", func(f fixture) {
			f.create("a")
			f.wantError("delete", f.Delete(f.Context(), "a", f.identity("a")), store.ErrUnsupported, "a")
			f.wantKeys("a")
		})
		return
	}
	s.run(t, "Guarded", func(f fixture) {
		f.create("a", "b", "d/e")
		for _, other := range others(f.identity("a")) {
			f.wantError("delete", f.Delete(f.Context(), "a", other), store.ErrChanged, "a")
		}
		f.wantKeys("a", "b", "d/e")
		if err := f.Delete(f.Context(), "a", f.identity("a")); err != nil {
			f.Error(err)
		}
		if err := f.Delete(f.Context(), "b", archive.Identity{}); err != nil {
			f.Error(err)
		}
		f.wantKeys("d/e")
		for _, key := range []archive.Key{"a", "b", "c", "x/y"} {
			f.wantError("delete", f.Delete(f.Context(), key, archive.Identity{}), store.ErrNotExist, key)
		}
		if err := f.Delete(f.Context(), "d", archive.Identity{}); err == nil { // of a store without folders it does not exist
			f.Error("a folder was deleted")
		}
		f.wantKeys("d/e")
	})
}
