//go:build linux

package filestore_test

import (
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// linked returns a root with links out of it and inside it, and the directory outside.
func linked(t *testing.T) (root, outside string) {
	t.Helper()
	base := t.TempDir()
	root, outside = filepath.Join(base, "root"), filepath.Join(base, "outside")
	writeFiles(t, base, map[string]string{"root/real/a": "a", "root/b": "b", "outside/secret": "secret"})
	for name, target := range map[string]string{
		"out": outside, "up": "..", "in": "real", "file": "b", "outfile": filepath.Join(outside, "secret"), "dangling": "nowhere",
		"real/self": ".",
	} {
		must(t, os.Symlink(target, filepath.Join(root, name)))
	}
	return root, outside
}

func TestListDoesNotFollowLinks(t *testing.T) {
	root, _ := linked(t)
	s := open(t, root, filestore.Options{})
	want := []string{
		"b", "dangling symlink", "file symlink", "in symlink", "out symlink", "outfile symlink", "real/a", "real/self symlink",
		"up symlink",
	}
	if got := entries(t, s, store.ListOptions{}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, prefix := range []string{"out/", "in/", "up/", "out/s", "real/self/"} {
		if got := entries(t, s, store.ListOptions{Prefix: prefix}); len(got) != 0 {
			t.Errorf("prefix %q: got %q", prefix, got)
		}
	}
}

func TestNoMethodFollowsLinks(t *testing.T) {
	root, outside := linked(t)
	s := open(t, root, filestore.Options{Ledger: true})
	before := readFiles(t, filepath.Dir(root))
	b := identity(t, s, "b")
	for _, key := range []archive.Key{
		"out/secret", "out/new", "out/new/new", "up/outside/secret", "up/new", "in/a", "in/new", "real/self/a", "file/x",
		"dangling/x", "out/.", "file", "outfile", "dangling", "out", "in",
	} {
		_, statErr := s.Stat(t.Context(), key)
		_, openErr := s.Open(t.Context(), key, 0, -1, archive.Identity{})
		for op, err := range map[string]error{
			"stat":        statErr,
			"open":        openErr,
			"create":      s.Create(t.Context(), key, strings.NewReader("new")),
			"replace":     s.Replace(t.Context(), key, strings.NewReader("new")),
			"delete":      s.Delete(t.Context(), key, archive.Identity{}),
			"rename to":   s.Rename(t.Context(), store.RenameRequest{From: "b", To: key, Want: b, AssumeSingleWriter: true}),
			"rename from": s.Rename(t.Context(), store.RenameRequest{From: key, To: "moved", Want: b, AssumeSingleWriter: true}),
		} {
			if !errors.Is(err, store.ErrNotRegular) && !errors.Is(err, archive.ErrKey) &&
				!(errors.Is(err, store.ErrExist) && (op == "create" || op == "rename to")) {
				t.Errorf("%s %q: got %v, want %v", op, key, err, store.ErrNotRegular)
			}
		}
		if err := s.Sync(t.Context(), []archive.Key{key + "/x"}); err == nil {
			t.Errorf("sync below %q: no error", key)
		}
	}
	if after := readFiles(t, filepath.Dir(root)); !maps.Equal(before, after) {
		t.Errorf("files were %q, are %q", before, after)
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); err == nil {
		t.Error("something was made outside the root")
	}
}

// A folder that becomes a link after it was opened leads nowhere else.
func TestFolderReplacedByLink(t *testing.T) {
	root, outside := linked(t)
	s := open(t, root, filestore.Options{})
	once(s, "rename: folder made", func() {
		must(t, os.Rename(filepath.Join(root, "real"), filepath.Join(root, "aside")))
		must(t, os.Symlink(outside, filepath.Join(root, "real")))
	})
	err := s.Rename(t.Context(), request(t, s, "b", "real/b"))
	must(t, err)
	if files := readFiles(t, root); files["aside/b"] != "b" {
		t.Errorf("got %q", files)
	}
	if files := readFiles(t, outside); len(files) != 1 {
		t.Errorf("outside the root: %q", files)
	}
}

func TestSpecialFiles(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "a", "later": "content"})
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o644))
	socket, err := net.Listen("unix", filepath.Join(root, "socket"))
	must(t, err)
	defer socket.Close()
	s := open(t, root, filestore.Options{})
	want := []string{"a", "fifo special", "later", "socket special"}
	if got := entries(t, s, store.ListOptions{}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	within(t, func() {
		s.SetStep(func(step string) {
			if step == "open: looked" {
				t.Error("a special file is opened, which a device or the other end of a FIFO would notice")
			}
		})
		for _, key := range []archive.Key{"fifo", "socket"} {
			if _, err := s.Open(t.Context(), key, 0, -1, archive.Identity{}); !errors.Is(err, store.ErrNotRegular) {
				t.Errorf("open %q: got %v, want %v", key, err, store.ErrNotRegular)
			}
			req := store.RenameRequest{From: key, To: "moved"}
			if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrNotRegular) {
				t.Errorf("rename %q: got %v, want %v", key, err, store.ErrNotRegular)
			}
		}
		once(s, "open: looked", func() {
			must(t, os.Remove(filepath.Join(root, "later")))
			must(t, unix.Mkfifo(filepath.Join(root, "later"), 0o644))
		})
		if _, err := s.Open(t.Context(), "later", 0, -1, archive.Identity{}); !errors.Is(err, store.ErrNotRegular) {
			t.Errorf("a FIFO in the last moment: got %v, want %v", err, store.ErrNotRegular)
		}
		once(s, "open: looked", func() {
			must(t, os.Remove(filepath.Join(root, "a")))
			must(t, os.Symlink("/etc/passwd", filepath.Join(root, "a")))
		})
		if _, err := s.Open(t.Context(), "a", 0, -1, archive.Identity{}); !errors.Is(err, store.ErrNotRegular) {
			t.Errorf("a link in the last moment: got %v, want %v", err, store.ErrNotRegular)
		}
	})
}

// within fails the test if do does not end.
func within(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("blocked")
	}
}

func TestRecheckSeesWrites(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "12345"})
	s := open(t, root, filestore.Options{})
	for name, change := range map[string]func(path string) error{
		"appended":    func(path string) error { return os.WriteFile(path, []byte("123456"), 0o644) },
		"overwritten": func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)) },
		"truncated":   func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(filepath.Join(root, "a"), []byte("12345"), 0o644))
			c, err := s.Open(t.Context(), "a", 0, -1, archive.Identity{})
			must(t, err)
			defer c.Close()
			longer, err := s.Open(t.Context(), "a", 0, 10, archive.Identity{})
			must(t, err)
			defer longer.Close()
			must(t, c.Recheck(t.Context()))
			must(t, change(filepath.Join(root, "a")))
			if err := c.Recheck(t.Context()); !errors.Is(err, store.ErrChanged) {
				t.Errorf("got %v, want %v", err, store.ErrChanged)
			}
			for _, content := range []*store.Content{c, longer} {
				if n, _ := content.Read(make([]byte, 10)); n > 5 {
					t.Errorf("read %d bytes, more than the object had", n)
				}
			}
		})
	}
}

func TestRootUnavailable(t *testing.T) {
	for name, lose := range map[string]func(root string) error{
		"removed":    os.RemoveAll,
		"moved":      func(root string) error { return os.Rename(root, root+"-moved") },
		"mountedOff": func(root string) error { return errors.Join(os.Rename(root, root+"-moved"), os.Mkdir(root, 0o755)) },
		"isFile": func(root string) error {
			return errors.Join(os.Rename(root, root+"-moved"), os.WriteFile(root, nil, 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			writeFiles(t, root, map[string]string{"a": "a", "d/b": "b"})
			s := open(t, root, filestore.Options{Ledger: true})
			want := identity(t, s, "a")
			must(t, lose(root))
			before := readFiles(t, filepath.Dir(root))
			_, statErr := s.Stat(t.Context(), "a")
			_, openErr := s.Open(t.Context(), "a", 0, -1, archive.Identity{})
			var listErr error
			for e, err := range s.List(t.Context(), store.ListOptions{}) {
				if err == nil {
					t.Errorf("%q is listed", e.Key)
				}
				listErr = err
			}
			for op, err := range map[string]error{
				"stat": statErr, "open": openErr, "list": listErr,
				"create":  s.Create(t.Context(), "new", strings.NewReader("new")),
				"replace": s.Replace(t.Context(), "a", strings.NewReader("new")),
				"delete":  s.Delete(t.Context(), "a", archive.Identity{}),
				"rename":  s.Rename(t.Context(), store.RenameRequest{From: "a", To: "b", Want: want}),
				"sync":    s.Sync(t.Context(), []archive.Key{"a"}),
			} {
				if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotExist) {
					t.Errorf("%s: got %v, want %v", op, err, store.ErrUnavailable)
				}
			}
			if after := readFiles(t, filepath.Dir(root)); !maps.Equal(before, after) {
				t.Errorf("files were %q, are %q", before, after)
			}
		})
	}
}

// A root that vanishes during a listing must not look like its end.
func TestRootVanishesWhileListing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	writeFiles(t, root, map[string]string{"a": "", "b/c": "", "d": ""})
	s := open(t, root, filestore.Options{})
	var last error
	for _, err := range s.List(t.Context(), store.ListOptions{}) {
		last = err
		if err == nil {
			must(t, os.RemoveAll(root))
		}
	}
	if !errors.Is(last, store.ErrUnavailable) {
		t.Errorf("the listing ended with %v, want %v", last, store.ErrUnavailable)
	}
}

func TestOpenStore(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"file": ""})
	for _, missing := range []string{"no", "no/where", "file", "file/x"} {
		if _, err := filestore.Open(filepath.Join(dir, missing), filestore.Options{}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", missing, err, store.ErrUnavailable)
		}
	}
	if _, err := filestore.Open("relative", filestore.Options{}); !errors.Is(err, archive.ErrRoot) {
		t.Errorf("relative: got %v, want %v", err, archive.ErrRoot)
	}
	if _, err := filestore.Open(filepath.Join(dir, "file", "x"), filestore.Options{Ledger: true}); err == nil {
		t.Error("a ledger below a file: no error")
	}
	p := open(t, dir, filestore.Options{}).Properties()
	if !p.Local || !p.KeepsMTime || p.Root.Path() != dir || p.RenameMethod == "" || p.GuardedRename != (p.Remedy == "") {
		t.Errorf("got %+v", p)
	}
	if files := readFiles(t, dir); len(files) != 1 {
		t.Errorf("opening an archive wrote to it: %q", files)
	}
}

func TestLedgerIsPrivate(t *testing.T) {
	root := filepath.Join(t.TempDir(), "state", "ledger")
	s := open(t, root, filestore.Options{Ledger: true})
	must(t, s.Create(t.Context(), "d/a", strings.NewReader("a")))
	must(t, s.Replace(t.Context(), "d/b", strings.NewReader("b")))
	for name, want := range map[string]os.FileMode{"": 0o700, "d": 0o700, "d/a": 0o600, "d/b": 0o600} {
		info, err := os.Stat(filepath.Join(root, name))
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %o, want %o", name, got, want)
		}
	}
}
