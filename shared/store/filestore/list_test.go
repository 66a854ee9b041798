//go:build linux

package filestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

func TestListUnreadable(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{
		"a/x": "", "a-b": "", "a.b/y": "", "b": "", "closed/sub/x": "", "names/x": "", "names/y/z": "",
	})
	for dir, mode := range map[string]os.FileMode{"a": 0o000, "closed": 0o300, "names": 0o400} {
		path := filepath.Join(root, dir)
		must(t, os.Chmod(path, mode))
		t.Cleanup(func() { must(t, os.Chmod(path, 0o755)) })
	}
	s := open(t, root, filestore.Options{})
	onThread(t, withoutPrivilege, func() {
		// In byte order: the directory "a" is reported at its own key, not where its contents would be.
		want := []string{"a unreadable", "a-b", "a.b/y", "b", "closed unreadable", "names unreadable"}
		if got := entries(t, s, store.ListOptions{}); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for i, after := range []archive.Key{"a", "a-b", "a.b/y", "b", "closed", "names"} { // as one listing after another
			if got := entries(t, s, store.ListOptions{After: after}); !slices.Equal(got, want[i+1:]) {
				t.Errorf("after %q: got %q, want %q", after, got, want[i+1:])
			}
		}
		for e, err := range s.List(t.Context(), store.ListOptions{Prefix: "closed"}) {
			if err != nil || !errors.Is(e.Err, store.ErrPermission) || !strings.Contains(e.Err.Error(), "closed") {
				t.Errorf("got %+v, %v, want one that says %v", e, err, store.ErrPermission)
			}
		}
		// Nothing may be left out in silence where no entry can tell of it.
		for _, opts := range []store.ListOptions{{After: "a/x"}, {Prefix: "a/"}, {Prefix: "closed/sub/"}} {
			var last error
			for _, err := range s.List(t.Context(), opts) {
				last = err
			}
			if !errors.Is(last, store.ErrPermission) {
				t.Errorf("%+v: the listing ended with %v, want %v", opts, last, store.ErrPermission)
			}
		}
	})
}

func TestPermission(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"fixed/a": "a", "hidden/a": "a", "free": "free"})
	s := open(t, root, filestore.Options{Ledger: true})
	a, hidden, free := identity(t, s, "fixed/a"), identity(t, s, "hidden/a"), identity(t, s, "free")
	for dir, mode := range map[string]os.FileMode{"fixed": 0o555, "hidden": 0o000, "fixed/a": 0o000} {
		path := filepath.Join(root, dir)
		must(t, os.Chmod(path, mode))
		t.Cleanup(func() { must(t, os.Chmod(path, 0o755)) })
	}
	onThread(t, withoutPrivilege, func() {
		_, statErr := s.Stat(t.Context(), "hidden/a")
		_, openErr := s.Open(t.Context(), "fixed/a", 0, -1, archive.Identity{})
		for op, err := range map[string]error{
			"stat": statErr, "open": openErr,
			"create":                 s.Create(t.Context(), "fixed/b", strings.NewReader("")),
			"create in a new folder": s.Create(t.Context(), "fixed/b/c", strings.NewReader("")),
			"replace":                s.Replace(t.Context(), "fixed/a", strings.NewReader("")),
			"delete":                 s.Delete(t.Context(), "fixed/a", a),
			"rename from":            s.Rename(t.Context(), store.RenameRequest{From: "fixed/a", To: "b", Want: a}),
			"rename from hidden":     s.Rename(t.Context(), store.RenameRequest{From: "hidden/a", To: "b", Want: hidden}),
			"rename to":              s.Rename(t.Context(), store.RenameRequest{From: "free", To: "fixed/b", Want: free}),
			"rename to hidden":       s.Rename(t.Context(), store.RenameRequest{From: "free", To: "hidden/b", Want: free}),
		} {
			if !errors.Is(err, store.ErrPermission) {
				t.Errorf("%s: got %v, want %v", op, err, store.ErrPermission)
			}
		}
	})
	for name, mode := range map[string]os.FileMode{"fixed": 0o755, "hidden": 0o755, "fixed/a": 0o644} {
		must(t, os.Chmod(filepath.Join(root, name), mode))
	}
	want := map[string]string{"fixed/a": "a", "hidden/a": "a", "free": "free"}
	if got := readFiles(t, root); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A large directory is sorted in runs on disk, of which nothing is left, and large ones above it do not add up in memory.
func TestListSpills(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	root := t.TempDir()
	var want []string
	for _, dir := range []string{"", "n50/", "n50/n50/"} {
		for i := range 300 {
			if name := fmt.Sprintf("%sn%d", dir, i); i != 50 || dir == "n50/n50/" {
				writeFiles(t, root, map[string]string{name: ""})
				want = append(want, name)
			}
		}
	}
	slices.Sort(want)
	s := open(t, root, filestore.Options{})
	s.SpillAbove(20)
	n := 0
	for e, err := range s.List(t.Context(), store.ListOptions{}) {
		must(t, err)
		if string(e.Key) != want[n] {
			t.Fatalf("entry %d is %q, want %q", n, e.Key, want[n])
		}
		if n++; n == 450 {
			if size := unlinkedBytes(t, tmp); size < 1000 {
				t.Errorf("%d bytes are spilled, want some for each of 3 directories", size)
			}
			if litter, err := os.ReadDir(tmp); err != nil || len(litter) != 0 {
				t.Errorf("names in TMPDIR: %v, %v", litter, err)
			}
		}
	}
	if n != len(want) {
		t.Errorf("got %d entries, want %d", n, len(want))
	}
	if size := unlinkedBytes(t, tmp); size != 0 {
		t.Errorf("%d bytes are still spilled", size)
	}
}

// Small directories that lie inside each other do not add up in memory, and what was spilled is given back when its
// directory ends.
func TestListSpillIsAStack(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	root := t.TempDir()
	dir := ""
	for range 10 { // each with 15 files that are listed after what is in it
		for i := range 15 {
			writeFiles(t, root, map[string]string{fmt.Sprintf("%sz%d", dir, i): ""})
		}
		dir += "d/"
	}
	writeFiles(t, root, map[string]string{dir + "deepest": ""})
	for i := range 10 {
		for j := range 30 {
			writeFiles(t, root, map[string]string{fmt.Sprintf("e%d/z%02d", i, j): ""})
		}
	}
	s := open(t, root, filestore.Options{})
	s.SpillAbove(20)
	sizes := make(map[string]int64)
	for e, err := range s.List(t.Context(), store.ListOptions{}) {
		must(t, err)
		sizes[string(e.Key)] = unlinkedBytes(t, tmp)
	}
	if root, deepest := sizes["z9"], sizes[dir+"deepest"]; deepest < 3*root {
		t.Errorf("%d bytes were spilled in the root and only %d below 10 directories of 15 files that wait", root, deepest)
	}
	if first, last := sizes["e0/z00"], sizes["e9/z29"]; first == 0 || first != last {
		t.Errorf("%d bytes were spilled in the first directory, %d in the last", first, last)
	}
}

// unlinkedBytes adds up this process's open files that were in dir and have no name any more.
func unlinkedBytes(t *testing.T, dir string) (size int64) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		path := "/proc/self/fd/" + fd.Name()
		if target, err := os.Readlink(path); err == nil && strings.HasPrefix(target, dir) && strings.HasSuffix(target, " (deleted)") {
			info, err := os.Stat(path)
			must(t, err)
			size += info.Size()
		}
	}
	return size
}

func TestListWithoutSpace(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "", "b": "", "c": ""})
	s := open(t, root, filestore.Options{})
	s.SpillAbove(2)
	var last error
	for _, err := range s.List(t.Context(), store.ListOptions{}) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "TMPDIR") || errors.Is(last, store.ErrNotExist) {
		t.Errorf("got %v, want an error about TMPDIR that is not about the archive", last)
	}
}

// Descriptors do not add up with depth, and whatever lies deeper than a key can say is reported.
func TestListDeep(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, filestore.Options{})
	dir, err := os.OpenRoot(root)
	must(t, err)
	depth := 0
	for key := ""; len(key) <= archive.MaxKeyBytes; depth++ { // one by one: the path is longer than PATH_MAX
		must(t, dir.WriteFile("file", nil, 0o644))
		must(t, dir.Mkdir("directory", 0o755))
		next, err := dir.OpenRoot("directory")
		must(t, err)
		must(t, dir.Close())
		dir, key = next, key+"directory/"
	}
	must(t, dir.Close())
	before, most, files := openFiles(t), 0, 0
	var unreadable []store.Entry
	for e, err := range s.List(t.Context(), store.ListOptions{}) {
		must(t, err)
		most = max(most, openFiles(t)-before)
		if e.Kind == store.Unreadable {
			unreadable = append(unreadable, e)
			continue
		}
		files++
	}
	if most > 3 {
		t.Errorf("%d files are open at once in %d directories", most, depth)
	}
	if len(unreadable) != 1 || !errors.Is(unreadable[0].Err, archive.ErrKey) {
		t.Errorf("got %+v, want one directory that is too deep", unreadable)
	}
	if want := archive.MaxKeyBytes / len("directory/"); files < want {
		t.Errorf("got %d files, want at least %d", files, want)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

// Directories come and go while they are listed.
func TestListDirectoriesChange(t *testing.T) {
	for name, change := range map[string]func(root string) error{
		"removed": func(root string) error { return os.RemoveAll(filepath.Join(root, "b")) },
		"replaced": func(root string) error {
			return errors.Join(os.RemoveAll(filepath.Join(root, "b")), os.Symlink("/etc", filepath.Join(root, "b")))
		},
		"isFile": func(root string) error {
			return errors.Join(os.RemoveAll(filepath.Join(root, "b")), os.WriteFile(filepath.Join(root, "b"), nil, 0o644))
		},
		"parent": func(root string) error { return os.Rename(filepath.Join(root, "b"), filepath.Join(root, "elsewhere")) },
	} {
		for _, at := range []string{"a", "b/c/d", "b/e"} {
			t.Run(name+" at "+strings.ReplaceAll(at, "/", "-"), func(t *testing.T) {
				root := t.TempDir()
				writeFiles(t, root, map[string]string{"a": "", "b/c/d": "", "b/e": "", "b/f/g": "", "b/h": "", "z": ""})
				s := open(t, root, filestore.Options{})
				var got []string
				for e, err := range s.List(t.Context(), store.ListOptions{}) {
					must(t, err)
					got = append(got, string(e.Key))
					if string(e.Key) == at {
						must(t, change(root))
					}
				}
				if !slices.IsSorted(got) || got[0] != "a" || got[len(got)-1] != "z" {
					t.Errorf("got %q", got)
				}
			})
		}
	}
}

func TestHardLinksAreObjects(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "same"})
	must(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "b")))
	s := open(t, root, filestore.Options{})
	if got := entries(t, s, store.ListOptions{}); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
}

func FuzzParseDirent(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08name\x00"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08gone\x00"))
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x08name\x00"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		name, _, size, err := filestore.ParseDirent(buf)
		if err == nil && (size < 20 || size > len(buf) || strings.ContainsAny(name, "/\x00")) {
			t.Errorf("got name %q of %d bytes from %d", name, size, len(buf))
		}
	})
}

func TestParseDirent(t *testing.T) {
	buf := []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08name\x00junk")
	name, kind, size, err := filestore.ParseDirent(buf)
	if name != "name" || kind != unix.DT_REG || size != 24 || err != nil {
		t.Errorf("got %q, %d, %d, %v", name, kind, size, err)
	}
	for n := range 24 {
		if _, _, _, err := filestore.ParseDirent(buf[:n]); err == nil {
			t.Errorf("%d bytes: no error", n)
		}
	}
}

func TestClassify(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.ENOENT: store.ErrNotExist, unix.EEXIST: store.ErrExist, unix.EACCES: store.ErrPermission, unix.EPERM: store.ErrPermission,
		unix.EROFS: store.ErrPermission, unix.ENOSPC: store.ErrNoSpace, unix.EDQUOT: store.ErrNoSpace, unix.ELOOP: store.ErrNotRegular,
		unix.ENOTCONN: store.ErrUnavailable, unix.EIO: unix.EIO,
	} {
		err := filestore.Classify(&os.PathError{Op: "open", Path: "hostile\x1b", Err: errno})
		if !errors.Is(err, want) || strings.Contains(err.Error(), "hostile") {
			t.Errorf("%v: got %q, want %q without the path", errno, err, want)
		}
	}
}
