//go:build linux

package filestore_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// cloning makes s believe that its file system clones contents.
func cloning(s *filestore.Store) {
	s.SetClone(func(dst, src int) error {
		buf := make([]byte, 1<<20)
		for at := int64(0); ; {
			n, err := unix.Pread(src, buf, at)
			if n == 0 || err != nil {
				return err
			}
			if _, err := unix.Pwrite(dst, buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
	})
}

var copiedContent = strings.Repeat("content ", 50_000)

// copyable returns a store with one object, and the request to copy it.
func copyable(t *testing.T) (s *filestore.Store, root string, req store.CopyRequest) {
	t.Helper()
	root = t.TempDir()
	writeFiles(t, root, map[string]string{"a": copiedContent})
	path := filepath.Join(root, "a")
	must(t, unix.Setxattr(path, "user.rating", []byte("5"), 0))
	must(t, os.Chmod(path, 0o440))
	must(t, os.Chtimes(path, time.Unix(1000, 1), time.Unix(1234567890, 123456789)))
	s = open(t, root, filestore.Options{})
	return s, root, store.CopyRequest{From: "a", To: "d/b", Want: identity(t, s, "a"), OpID: "op-1"}
}

func TestCopiesKeepAttributes(t *testing.T) {
	for name, prepare := range map[string]func(*filestore.Store){"Copied": func(*filestore.Store) {}, "Cloned": cloning} {
		t.Run(name, func(t *testing.T) {
			s, root, req := copyable(t)
			prepare(s)
			must(t, s.Copy(t.Context(), req))
			path := filepath.Join(root, "d/b")
			info, err := os.Stat(path)
			must(t, err)
			if got, want := info.ModTime(), time.Unix(1234567890, 123456789); !got.Equal(want) {
				t.Errorf("modified %v, want %v", got, want)
			}
			if got := info.Mode().Perm(); got != 0o440 {
				t.Errorf("mode %o, want 440", got)
			}
			value := make([]byte, 10)
			n, err := unix.Getxattr(path, "user.rating", value)
			if err != nil || string(value[:n]) != "5" {
				t.Errorf("attribute %q, %v, want 5", value[:max(n, 0)], err)
			}
			want := map[string]string{"a": copiedContent, "d/b": copiedContent}
			if got := readFiles(t, root); !maps.Equal(got, want) {
				t.Errorf("got %d files", len(got))
			}
		})
	}
}

// Of a clone the whole content is told, and it is read where there is a digest to compare.
func TestClonesAreCompared(t *testing.T) {
	s, _, req := copyable(t)
	cloning(s)
	var told int64
	req.During = func(n int64) error { told += n; return nil }
	must(t, s.Copy(t.Context(), req))
	if told != req.Want.Size {
		t.Errorf("told %d bytes, want %d", told, req.Want.Size)
	}
	h := digest.NewHasher(digest.Set(0).With(digest.MD5))
	_, _ = io.WriteString(h, copiedContent)
	for _, d := range h.Digests() {
		req.To, req.Digest = "right", d
		must(t, s.Copy(t.Context(), req))
	}
	s.SetClone(func(dst, _ int) error {
		_, err := unix.Write(dst, []byte(strings.ToUpper(copiedContent)))
		return err
	})
	req.To = "wrong"
	if err := s.Copy(t.Context(), req); !errors.Is(err, store.ErrChanged) {
		t.Errorf("a clone of other content: got %v, want %v", err, store.ErrChanged)
	}
	if got := entries(t, s, store.ListOptions{}); !slices.Equal(got, []string{"a", "d/b", "right"}) {
		t.Errorf("got %q", got)
	}
}

// Whatever others do in the middle, nothing of theirs is changed, and no copy of something else is made.
func TestCopiesInterference(t *testing.T) {
	at := func(root, name string) string { return filepath.Join(root, name) }
	write := func(name, content string) func(string) error {
		return func(root string) error {
			_ = os.Chmod(at(root, name), 0o644)
			return os.WriteFile(at(root, name), []byte(content), 0o644)
		}
	}
	swap := func(root string) error {
		return errors.Join(os.WriteFile(at(root, "tmp"), []byte("NEW"), 0o644), os.Rename(at(root, "tmp"), at(root, "a")))
	}
	remove := func(name string) func(string) error {
		return func(root string) error { return os.Remove(at(root, name)) }
	}
	type files = map[string]string
	both := files{"a": copiedContent, "d/b": copiedContent}
	for name, test := range map[string]struct {
		step      string
		do        func(root string) error
		err       error // of a copy
		files     files
		linkErr   error // of a hard link
		linkFiles files
		// namedLinkFiles, if set, are what is there where a link was made under a temporary name first.
		namedLinkFiles files
	}{
		"swapped early":      {"copy: source pinned", swap, store.ErrChanged, files{"a": "NEW"}, store.ErrChanged, files{"a": "NEW"}, nil},
		"swapped":            {"copy: folder made", swap, store.ErrChanged, files{"a": "NEW"}, store.ErrChanged, files{"a": "NEW"}, nil},
		"swapped late":       {"copy: temp synced", swap, nil, files{"a": "NEW", "d/b": copiedContent}, store.ErrChanged, files{"a": "NEW"}, files{"a": "NEW", "d/b": copiedContent}},
		"written":            {"copy: temp synced", write("a", "NEW"), store.ErrChanged, files{"a": "NEW"}, store.ErrChanged, files{"a": "NEW"}, nil},
		"target taken":       {"copy: temp synced", write("d/b", "foreign"), store.ErrExist, files{"a": copiedContent, "d/b": "foreign"}, store.ErrExist, files{"a": copiedContent, "d/b": "foreign"}, nil},
		"target alike":       {"copy: temp synced", write("d/b", copiedContent), store.ErrExist, both, store.ErrExist, both, nil},
		"folder gone":        {"copy: folder made", remove("d"), nil, both, nil, both, nil},
		"source gone":        {"copy: folder made", remove("a"), store.ErrNotExist, files{}, store.ErrNotExist, files{}, nil},
		"source gone late":   {"copy: temp synced", remove("a"), nil, files{"d/b": copiedContent}, store.ErrNotExist, files{}, files{"d/b": copiedContent}},
		"folder is a file":   {"copy: source pinned", write("d", "foreign"), store.ErrExist, files{"a": copiedContent, "d": "foreign"}, store.ErrExist, files{"a": copiedContent, "d": "foreign"}, nil},
		"target then source": {"copy: published", swap, nil, files{"a": "NEW", "d/b": copiedContent}, nil, files{"a": "NEW", "d/b": copiedContent}, nil},
	} {
		for _, kind := range []string{"copy", "named copy", "link", "named link"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				s, root, req := copyable(t)
				req.Link = strings.HasSuffix(kind, "link")
				want, wantFiles := test.err, test.files
				if req.Link {
					want, wantFiles = test.linkErr, test.linkFiles
				}
				if strings.HasPrefix(kind, "named") {
					s.NameCopies()
					if test.namedLinkFiles != nil && req.Link {
						want, wantFiles = nil, test.namedLinkFiles
					}
				}
				once(s, test.step, func() { must(t, test.do(root)) })
				if err := s.Copy(t.Context(), req); !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if got := readFiles(t, root); !maps.Equal(got, wantFiles) {
					t.Errorf("got %d files %.300q", len(got), got)
				}
			})
		}
	}
}

// Without a mark, as on a file system that keeps none, only the same content, size and time prove a copy. A mark proves
// nothing of a file that was written to since.
func TestCopiesAreProven(t *testing.T) {
	then := time.Unix(1234567890, 123456789)
	for name, test := range map[string]struct {
		content string
		time    time.Time
		mark    string
		gone    bool // the original
		want    bool
	}{
		"alike":                    {copiedContent, then, "", false, true},
		"marked":                   {copiedContent, then, "op-1", false, true},
		"marked, original gone":    {copiedContent, then, "op-1", true, true},
		"alike, original gone":     {copiedContent, then, "", true, false},
		"of another request":       {copiedContent, then, "op-2", false, true},
		"same, gone":               {copiedContent, then, "op-2", true, false},
		"other content":            {strings.ToUpper(copiedContent), then, "", false, false},
		"other time":               {copiedContent, then.Add(1), "", false, false},
		"marked, other time":       {copiedContent, then.Add(1), "op-1", false, false},
		"marked, other size":       {copiedContent + "!", then, "op-1", false, false},
		"marked by another, other": {strings.ToUpper(copiedContent), then, "op-2", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, root, req := copyable(t)
			writeFiles(t, root, map[string]string{"d/b": test.content})
			path := filepath.Join(root, "d/b")
			if test.mark != "" {
				must(t, unix.Setxattr(path, "user.reshelf.op", []byte(test.mark), 0))
			}
			must(t, os.Chtimes(path, then, test.time))
			if test.gone {
				must(t, os.Remove(filepath.Join(root, "a")))
			}
			before := readFiles(t, root)
			if got, err := s.Copied(t.Context(), req); got != test.want || err != nil {
				t.Errorf("copied: %t (%v), want %t", got, err, test.want)
			}
			if err := s.Copy(t.Context(), req); (err == nil) != test.want {
				t.Errorf("copy: %v, want success: %t", err, test.want)
			}
			if got := readFiles(t, root); !maps.Equal(got, before) {
				t.Errorf("got %d files", len(got))
			}
		})
	}
}

// What has another file behind its name is no hard link, nor is one name of the source itself.
func TestLinksAreProven(t *testing.T) {
	s, root, req := copyable(t)
	req.Link, req.To = true, "b"
	writeFiles(t, root, map[string]string{"b": copiedContent})
	must(t, os.Chtimes(filepath.Join(root, "b"), time.Time{}, time.Unix(1234567890, 123456789)))
	if err := s.Copy(t.Context(), req); !errors.Is(err, store.ErrExist) {
		t.Errorf("got %v, want %v", err, store.ErrExist)
	}
	must(t, os.Remove(filepath.Join(root, "b")))
	must(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "b")))
	must(t, s.Copy(t.Context(), req)) // whoever made it
	must(t, os.Remove(filepath.Join(root, "a")))
	must(t, s.Copy(t.Context(), req))
	if got := entries(t, s, store.ListOptions{}); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q", got)
	}
}

// Where a hard link cannot be made, the error says what to do.
func TestLinkErrors(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		unix.EMLINK: "--copy", unix.EXDEV: "another device", unix.EPERM: "may not write to", unix.EOPNOTSUPP: "knows no hard links", unix.ENOSYS: "--copy",
	} {
		s, root, req := copyable(t)
		req.Link = true
		s.SetLinkat(func(int, string, int, string, int) error { return errno })
		err := s.Copy(t.Context(), req)
		if !errors.Is(err, store.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %v with %q", errno, err, store.ErrUnsupported, want)
		}
		if got := readFiles(t, root); len(got) != 1 {
			t.Errorf("%v: got %d files", errno, len(got))
		}
	}
}

// A file system that takes RENAME_NOREPLACE and ignores it is never trusted with a copy.
func TestCopiesOnUnguardedFileSystems(t *testing.T) {
	for n := range 4 {
		s, root, req := copyable(t)
		link := n%2 == 1
		req.Link = link
		s.Unguard()
		if n > 1 {
			s.NameCopies()
		}
		s.SetRenameat2(func(olddir int, oldname string, newdir int, newname string, _ uint) error {
			return unix.Renameat(olddir, oldname, newdir, newname)
		})
		once(s, "copy: temp synced", func() { writeFiles(t, root, map[string]string{"d/b": "foreign"}) })
		if err := s.Copy(t.Context(), req); !errors.Is(err, store.ErrExist) {
			t.Errorf("link %t: got %v, want %v", link, err, store.ErrExist)
		}
		if got := readFiles(t, root); len(got) != 2 || got["d/b"] != "foreign" {
			t.Errorf("link %t: got %d files, %.20q", link, len(got), got["d/b"])
		}
		req.To = "e/b"
		must(t, s.Copy(t.Context(), req))
		if got := read(t, s, "e/b"); got != copiedContent {
			t.Errorf("link %t: got %.20q", link, got)
		}
		s.SetLinkat(func(int, string, int, string, int) error { return unix.EOPNOTSUPP })
		req.To = "f/b"
		if err := s.Copy(t.Context(), req); !errors.Is(err, store.ErrUnsupported) {
			t.Errorf("link %t, without links: got %v, want %v", link, err, store.ErrUnsupported)
		}
	}
}

// A full device makes no copy, and what was begun goes. It needs the right to mount, which a container may lack.
func TestCopiesOnAnotherDevice(t *testing.T) {
	onTwoDevices(t, testCopiesOnAnotherDevice)
}

func testCopiesOnAnotherDevice(t *testing.T, root string) {
	s := open(t, root, filestore.Options{})
	req := func(from, to archive.Key, link bool) store.CopyRequest {
		return store.CopyRequest{From: from, To: to, Want: identity(t, s, from), OpID: "op-1", Link: link}
	}
	if err := s.Copy(t.Context(), req("large", "mount/large", false)); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("got %v, want %v", err, store.ErrNoSpace)
	}
	if err := s.Copy(t.Context(), req("a", "mount/a", true)); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("link: got %v, want %v", err, store.ErrUnsupported)
	}
	for range 2 {
		must(t, s.Copy(t.Context(), req("a", "mount/d/a", false)))
	}
	want := map[string]string{"a": "a", "mount/d/a": "a", "large": strings.Repeat("x", 200_000)}
	if got := readFiles(t, root); !maps.Equal(got, want) {
		t.Errorf("got %d files %.200q", len(got), got)
	}
}
