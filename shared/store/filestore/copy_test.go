//go:build linux

package filestore_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// copying returns a store that copies instead of renaming, with one object, and the request to move it.
func copying(t *testing.T) (s *filestore.Store, root string, req store.RenameRequest) {
	t.Helper()
	root = t.TempDir()
	writeFiles(t, root, map[string]string{"a": strings.Repeat("content ", 50_000)})
	path := filepath.Join(root, "a")
	must(t, unix.Setxattr(path, "user.rating", []byte("5"), 0))
	must(t, os.Chmod(path, 0o440))
	must(t, os.Chtimes(path, time.Unix(1000, 1), time.Unix(1234567890, 123456789)))
	s = open(t, root, filestore.Options{})
	acrossDevices(s)
	req = request(t, s, "a", "d/b")
	req.AssumeSingleWriter = true
	return s, root, req
}

func TestCopyKeepsAttributes(t *testing.T) {
	s, root, req := copying(t)
	must(t, s.Rename(t.Context(), req))
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
	if got := readFiles(t, root); len(got) != 1 || got["d/b"] != strings.Repeat("content ", 50_000) {
		t.Errorf("got %d files", len(got))
	}
	must(t, s.Rename(t.Context(), req)) // known by its mark: the inode is another one
	req.OpID = "other"
	if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("another request: got %v, want %v", err, store.ErrNotExist)
	}
}

func TestCopyNeedsAnOperation(t *testing.T) {
	s, root, req := copying(t)
	req.OpID = ""
	if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, store.ErrUnsupported)
	}
	if got := readFiles(t, root); len(got) != 1 {
		t.Errorf("got %d files", len(got))
	}
}

// Whatever others do in the middle of a copy, no content is lost.
func TestCopyInterference(t *testing.T) {
	content := strings.Repeat("content ", 50_000)
	swap := func(root string) error {
		return errors.Join(os.WriteFile(filepath.Join(root, "tmp"), []byte("NEW"), 0o644),
			os.Rename(filepath.Join(root, "tmp"), filepath.Join(root, "a")))
	}
	for name, test := range map[string]struct {
		step  string
		do    func(root string) error
		err   error
		files map[string]string
	}{
		"swapped before":       {"rename: folder made", swap, store.ErrChanged, map[string]string{"a": "NEW"}},
		"swapped while copied": {"copy: temp made", swap, nil, map[string]string{"a": "NEW", "d/b": content}},
		"target taken": {
			"copy: temp synced", func(root string) error { return os.WriteFile(filepath.Join(root, "d/b"), []byte("foreign"), 0o644) },
			store.ErrExist, map[string]string{"a": content, "d/b": "foreign"},
		},
		"written": {
			"copy: target synced", func(root string) error {
				return errors.Join(os.Chmod(filepath.Join(root, "a"), 0o644), os.WriteFile(filepath.Join(root, "a"), []byte("NEW"), 0o644))
			}, store.ErrChanged, map[string]string{"a": "NEW", "d/b": content},
		},
		"copy replaced": {
			"copy: target synced", func(root string) error {
				return errors.Join(os.Remove(filepath.Join(root, "d/b")), os.WriteFile(filepath.Join(root, "d/b"), []byte("foreign"), 0o644))
			}, store.ErrChanged, map[string]string{"a": content, "d/b": "foreign"},
		},
		"swapped for a look-alike": {
			"copy: target synced", func(root string) error {
				tmp := filepath.Join(root, "tmp")
				return errors.Join(os.WriteFile(tmp, []byte(strings.ToUpper(content)), 0o644),
					os.Chtimes(tmp, time.Time{}, time.Unix(1234567890, 123456789)), os.Rename(tmp, filepath.Join(root, "a")))
			}, nil, map[string]string{"a": strings.ToUpper(content), "d/b": content},
		},
		"source removed": {
			"copy: target synced", func(root string) error { return os.Remove(filepath.Join(root, "a")) },
			nil, map[string]string{"d/b": content},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, root, req := copying(t)
			once(s, test.step, func() { must(t, test.do(root)) })
			if err := s.Rename(t.Context(), req); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if got := readFiles(t, root); !maps.Equal(got, test.files) {
				t.Errorf("got %d files %.200q", len(got), got)
			}
		})
	}
}

// A marked target whose content is not the source's is not taken for an interrupted copy.
func TestCopyDoesNotTrustTheMarkAlone(t *testing.T) {
	s, root, req := copying(t)
	writeFiles(t, root, map[string]string{"d/b": strings.Repeat("CONTENT ", 50_000)})
	must(t, unix.Setxattr(filepath.Join(root, "d/b"), "user.reshelf.op", []byte(req.OpID), 0))
	if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrExist) {
		t.Errorf("got %v, want %v", err, store.ErrExist)
	}
	if got := readFiles(t, root); len(got) != 2 {
		t.Errorf("got %d files", len(got))
	}
}

// The same with a real second device below the root, which also fills up. It needs the right to mount, which a container
// may lack; TestConformance/Copy and the tests above play the device then.
func TestAnotherDevice(t *testing.T) {
	onTwoDevices(t, testAnotherDevice)
}

// onTwoDevices runs test with a root that has the files a and large, and a small device of its own at mount, unless nothing may be
// mounted.
func onTwoDevices(t *testing.T, test func(t *testing.T, root string)) {
	t.Helper()
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "a", "large": strings.Repeat("x", 200_000), "mount/": ""})
	mountable := true
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			mountable = false
			t.Logf("no second device: %v", err)
			return nil
		}
		return errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("tmpfs", filepath.Join(root, "mount"), "tmpfs", 0, "size=64k"))
	}, func() {
		if mountable {
			test(t, root)
		}
	})
}

func testAnotherDevice(t *testing.T, root string) {
	s := open(t, root, filestore.Options{})
	for _, key := range []archive.Key{"a", "large"} {
		req := request(t, s, key, "mount/d/"+key)
		if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrUnsupported) {
			t.Errorf("%s: got %v, want %v", key, err, store.ErrUnsupported)
		}
	}
	req := request(t, s, "large", "mount/large")
	req.AssumeSingleWriter = true
	if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("got %v, want %v", err, store.ErrNoSpace)
	}
	if err := s.Create(t.Context(), "mount/new", strings.NewReader(strings.Repeat("x", 200_000))); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("create: got %v, want %v", err, store.ErrNoSpace)
	}
	req = request(t, s, "a", "mount/d/a")
	req.AssumeSingleWriter = true
	for range 2 {
		must(t, s.Rename(t.Context(), req))
	}
	want := map[string]string{"mount/d/a": "a", "large": strings.Repeat("x", 200_000)}
	if got := readFiles(t, root); !maps.Equal(got, want) {
		t.Errorf("got %d files %.200q", len(got), got)
	}
	if got := entries(t, s, store.ListOptions{}); len(got) != 2 {
		t.Errorf("listed %q", got)
	}
}
