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

// Whatever others do in the middle of a rename, no content is lost and the outcome is told truthfully.
func TestRenameInterference(t *testing.T) {
	swap := func(root string) error { // as programs save a file: write beside it, then rename over it
		return errors.Join(os.WriteFile(filepath.Join(root, "tmp"), []byte("NEW"), 0o644),
			os.Rename(filepath.Join(root, "tmp"), filepath.Join(root, "a")))
	}
	write := func(name, content string) func(string) error {
		return func(root string) error { return os.WriteFile(filepath.Join(root, name), []byte(content), 0o644) }
	}
	for name, test := range map[string]struct {
		step  string
		do    func(root string) error
		also  func(root string) error // at the step "rename: mismatch seen"
		err   error
		files map[string]string
	}{
		"swapped before": {
			step: "rename: source pinned", do: swap, err: store.ErrChanged, files: map[string]string{"a": "NEW"},
		},
		"swapped at the last moment": {
			step: "rename: folder made", do: swap, err: store.ErrChanged, files: map[string]string{"a": "NEW"},
		},
		"swapped, and the name taken again": {
			step: "rename: folder made", do: swap, also: write("a", "NEWER"), err: store.ErrChanged,
			files: map[string]string{"a": "NEWER", "d/b": "NEW"},
		},
		"written at the last moment": {
			step: "rename: folder made", do: write("a", "longer than before"), err: store.ErrChanged,
			files: map[string]string{"a": "longer than before"},
		},
		"target taken at the last moment": {
			step: "rename: folder made", do: write("d/b", "foreign"), err: store.ErrExist,
			files: map[string]string{"a": "old", "d/b": "foreign"},
		},
		"target's folder taken by an object": {
			step: "rename: source pinned", do: write("d", "foreign"), err: store.ErrExist,
			files: map[string]string{"a": "old", "d": "foreign"},
		},
		"deleted at the last moment": {
			step: "rename: folder made", do: func(root string) error { return os.Remove(filepath.Join(root, "a")) },
			err: store.ErrNotExist, files: map[string]string{},
		},
		"moved on": {
			step: "rename: renamed", do: func(root string) error {
				return os.Rename(filepath.Join(root, "d/b"), filepath.Join(root, "c"))
			}, err: store.ErrChanged, files: map[string]string{"c": "old"},
		},
		"replaced afterwards": {
			step: "rename: renamed", do: func(root string) error {
				return errors.Join(os.Rename(filepath.Join(root, "d/b"), filepath.Join(root, "c")), write("d/b", "foreign")(root))
			}, err: store.ErrChanged, files: map[string]string{"c": "old", "a": "foreign"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			writeFiles(t, root, map[string]string{"a": "old"})
			s := open(t, root, filestore.Options{})
			req := request(t, s, "a", "d/b")
			s.SetStep(func(step string) {
				if step == test.step {
					must(t, test.do(root))
				}
				if step == "rename: mismatch seen" && test.also != nil {
					must(t, test.also(root))
				}
			})
			if err := s.Rename(t.Context(), req); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if got := readFiles(t, root); !maps.Equal(got, test.files) {
				t.Errorf("got files %q, want %q", got, test.files)
			}
		})
	}
}

// A folder that somebody removes while it is empty is made again, a few times.
func TestRenameIntoAFolderThatGoesAway(t *testing.T) {
	for name, test := range map[string]struct {
		times int
		want  map[string]string
	}{
		"once":  {1, map[string]string{"d/b": "old"}},
		"often": {100, map[string]string{"a": "old"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			writeFiles(t, root, map[string]string{"a": "old"})
			s := open(t, root, filestore.Options{})
			req, times := request(t, s, "a", "d/b"), 0
			s.SetStep(func(step string) {
				if step == "rename: folder made" && times < test.times {
					times++
					must(t, os.Remove(filepath.Join(root, "d")))
				}
			})
			if err := s.Rename(t.Context(), req); (err == nil) != (test.times == 1) {
				t.Errorf("Rename: got %v", err)
			}
			if got := readFiles(t, root); !maps.Equal(got, test.want) {
				t.Errorf("got files %q, want %q", got, test.want)
			}
		})
	}
}

// Two names of one file are taken for an interrupted link+unlink only where that is how this store renames.
func TestRenameBetweenHardLinks(t *testing.T) {
	for name, test := range map[string]struct {
		guarded, alone bool
		err            error
		files          map[string]string
	}{
		"guarded":                {true, false, store.ErrExist, map[string]string{"a": "x", "d/b": "x"}},
		"guarded, single writer": {true, true, store.ErrExist, map[string]string{"a": "x", "d/b": "x"}},
		"unguarded":              {false, false, store.ErrExist, map[string]string{"a": "x", "d/b": "x"}},
		"interrupted":            {false, true, nil, map[string]string{"d/b": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			writeFiles(t, root, map[string]string{"a": "x", "d/": ""})
			must(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "d/b")))
			s := open(t, root, filestore.Options{})
			if !test.guarded {
				withoutNoReplace(s)
			}
			req := request(t, s, "a", "d/b")
			req.AssumeSingleWriter = test.alone
			if err := s.Rename(t.Context(), req); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if got := readFiles(t, root); !maps.Equal(got, test.files) {
				t.Errorf("got files %q, want %q", got, test.files)
			}
		})
	}
}

// On a file system that folds case, the new name leads to the source but is not listed. Removing "the source" would then
// lose the only copy. The file system is played by a second link that goes away before the listing.
func TestRenameFoldedName(t *testing.T) {
	for _, guarded := range []bool{true, false} {
		root := t.TempDir()
		writeFiles(t, root, map[string]string{"a.jpg": "x"})
		must(t, os.Link(filepath.Join(root, "a.jpg"), filepath.Join(root, "A.jpg")))
		must(t, os.Link(filepath.Join(root, "a.jpg"), filepath.Join(root, "third name")))
		s := open(t, root, filestore.Options{})
		if !guarded {
			withoutNoReplace(s)
		}
		once(s, "rename: both names", func() { must(t, os.Remove(filepath.Join(root, "A.jpg"))) })
		req := request(t, s, "a.jpg", "A.jpg")
		req.AssumeSingleWriter = true
		if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrUnsupported) {
			t.Errorf("guarded %t: got %v, want %v", guarded, err, store.ErrUnsupported)
		}
		if got := readFiles(t, root); got["a.jpg"] != "x" {
			t.Errorf("guarded %t: got files %q", guarded, got)
		}
	}
}

func TestRenameUnguarded(t *testing.T) {
	for name, prepare := range map[string]func(*filestore.Store){
		"by properties":         func(s *filestore.Store) { s.Unguard() },
		"unknown flag":          func(s *filestore.Store) { s.SetRenameat2(failing(unix.EINVAL)) },
		"unknown system call":   func(s *filestore.Store) { s.SetRenameat2(failing(unix.ENOSYS)) },
		"another device":        acrossDevices,
		"not on this transport": func(s *filestore.Store) { s.SetRenameat2(failing(unix.EOPNOTSUPP)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			writeFiles(t, root, map[string]string{"a": "x"})
			s := open(t, root, filestore.Options{})
			prepare(s)
			req := request(t, s, "a", "d/b")
			err := s.Rename(t.Context(), req)
			if !errors.Is(err, store.ErrUnsupported) || !strings.Contains(err.Error(), "--assume-single-writer") {
				t.Errorf("got %v, want %v with a remedy", err, store.ErrUnsupported)
			}
			if got := readFiles(t, root); !maps.Equal(got, map[string]string{"a": "x"}) {
				t.Errorf("got files %q", got)
			}
			req.AssumeSingleWriter = true
			must(t, s.Rename(t.Context(), req))
			if got := readFiles(t, root); !maps.Equal(got, map[string]string{"d/b": "x"}) {
				t.Errorf("got files %q", got)
			}
		})
	}
}

func failing(errno unix.Errno) func(int, string, int, string, uint) error {
	return func(int, string, int, string, uint) error { return errno }
}

// What link+unlink finds changed between its two steps is kept under both names.
func TestLinkUnlinkInterference(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "old"})
	s := open(t, root, filestore.Options{})
	withoutNoReplace(s)
	req := request(t, s, "a", "b")
	req.AssumeSingleWriter = true
	once(s, "rename: link synced", func() {
		must(t, os.WriteFile(filepath.Join(root, "tmp"), []byte("NEW"), 0o644))
		must(t, os.Rename(filepath.Join(root, "tmp"), filepath.Join(root, "a")))
	})
	// The object asked for has arrived, and what came into its place stays.
	must(t, s.Rename(t.Context(), req))
	if got, want := readFiles(t, root), map[string]string{"a": "NEW", "b": "old"}; !maps.Equal(got, want) {
		t.Errorf("got files %q, want %q", got, want)
	}

	req = request(t, s, "a", "c")
	req.AssumeSingleWriter = true
	once(s, "rename: link synced", func() { must(t, os.WriteFile(filepath.Join(root, "a"), []byte("written"), 0o644)) })
	if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrChanged) {
		t.Errorf("got %v, want %v", err, store.ErrChanged)
	}
	if got, want := readFiles(t, root), map[string]string{"a": "written", "b": "old", "c": "written"}; !maps.Equal(got, want) {
		t.Errorf("got files %q, want %q", got, want)
	}
}

// Without hard links either, nothing is done.
func TestRenameWithoutLinks(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EPERM, unix.EOPNOTSUPP, unix.EMLINK} {
		root := t.TempDir()
		writeFiles(t, root, map[string]string{"a": "x"})
		s := open(t, root, filestore.Options{})
		withoutNoReplace(s)
		s.SetLinkat(func(int, string, int, string, int) error { return errno })
		req := request(t, s, "a", "b")
		req.AssumeSingleWriter = true
		if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrUnsupported) {
			t.Errorf("%v: got %v, want %v", errno, err, store.ErrUnsupported)
		}
		if err := s.Create(t.Context(), "new", strings.NewReader("")); errno != unix.EMLINK && !errors.Is(err, store.ErrUnsupported) {
			t.Errorf("%v: create: got %v, want %v", errno, err, store.ErrUnsupported)
		}
		if got := readFiles(t, root); !maps.Equal(got, map[string]string{"a": "x"}) {
			t.Errorf("%v: got files %q", errno, got)
		}
	}
}

// Over NFS, and where a call is interrupted, the answer can be lost: the repeated call then fails although the work is done.
func TestLostAnswers(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "a", "b": "b"})
	s := open(t, root, filestore.Options{Ledger: true})
	s.SetRenameat2(func(olddir int, oldname string, newdir int, newname string, flags uint) error {
		_ = unix.Renameat2(olddir, oldname, newdir, newname, flags)
		return unix.Renameat2(olddir, oldname, newdir, newname, flags)
	})
	must(t, s.Rename(t.Context(), request(t, s, "a", "moved/a")))
	must(t, s.Create(t.Context(), "new", strings.NewReader("new")))
	withoutNoReplace(s)
	s.SetLinkat(func(olddir int, oldname string, newdir int, newname string, flags int) error {
		_ = unix.Linkat(olddir, oldname, newdir, newname, flags)
		return unix.Linkat(olddir, oldname, newdir, newname, flags)
	})
	req := request(t, s, "b", "moved/b")
	req.AssumeSingleWriter = true
	must(t, s.Rename(t.Context(), req))
	must(t, s.Create(t.Context(), "newer", strings.NewReader("newer")))
	want := map[string]string{"moved/a": "a", "moved/b": "b", "new": "new", "newer": "newer"}
	if got := readFiles(t, root); !maps.Equal(got, want) {
		t.Errorf("got files %q, want %q", got, want)
	}
}

// A repetition without an inode number (the list came from elsewhere) needs the exact time.
func TestRenameRepeatedWithoutInode(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "x"})
	s := open(t, root, filestore.Options{})
	req := request(t, s, "a", "b")
	must(t, s.Rename(t.Context(), req))
	req.Want.Inode = 0
	must(t, s.Rename(t.Context(), req))
	req.Want.MTime = 0
	if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("the size alone as proof: got %v, want %v", err, store.ErrNotExist)
	}
	must(t, os.Chtimes(filepath.Join(root, "b"), time.Time{}, time.Now().Add(time.Hour)))
	if err := s.Rename(t.Context(), request(t, s, "b", "b")); err != nil {
		t.Error(err)
	}
}

// A folder may have taken the source's name since the request was carried out.
func TestRenameRepeatedOverFolder(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "x", "c": "c"})
	s := open(t, root, filestore.Options{})
	first := request(t, s, "a", "b")
	must(t, s.Rename(t.Context(), first))
	must(t, s.Rename(t.Context(), request(t, s, "c", "a/c")))
	must(t, s.Rename(t.Context(), first))
	if got, want := readFiles(t, root), map[string]string{"b": "x", "a/c": "c"}; !maps.Equal(got, want) {
		t.Errorf("got files %q, want %q", got, want)
	}
}

// A failed write leaves nothing behind, not even a temporary file.
func TestNoLitter(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, filestore.Options{Ledger: true})
	broken := errors.New("broken")
	for range 3 {
		_ = s.Create(t.Context(), "a", errorReader{broken})
		_ = s.Replace(t.Context(), "a", errorReader{broken})
	}
	must(t, s.Create(t.Context(), "a", strings.NewReader("a")))
	_ = s.Create(t.Context(), "a", strings.NewReader("b"))
	once(s, "write: temp synced", func() { must(t, os.WriteFile(filepath.Join(root, "b"), []byte("foreign"), 0o644)) })
	if err := s.Create(t.Context(), "b", strings.NewReader("b")); !errors.Is(err, store.ErrExist) {
		t.Errorf("got %v, want %v", err, store.ErrExist)
	}
	if got, want := readFiles(t, root), map[string]string{"a": "a", "b": "foreign"}; !maps.Equal(got, want) {
		t.Errorf("got files %q, want %q", got, want)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// Nothing stays open, whatever happened.
func TestNoOpenFilesLeft(t *testing.T) {
	root, _ := linked(t)
	s := open(t, root, filestore.Options{Ledger: true})
	before := openFiles(t)
	for _, key := range []archive.Key{"b", "real/a", "out/secret", "file", "missing", "b/c", "new/folder/x", "real"} {
		_, _ = s.Stat(t.Context(), key)
		if c, err := s.Open(t.Context(), key, 0, -1, archive.Identity{}); err == nil {
			must(t, c.Close())
		}
		_ = s.Rename(t.Context(), store.RenameRequest{From: key, To: "b", Want: archive.Identity{Size: 1}})
		_ = s.Rename(t.Context(), store.RenameRequest{From: "b", To: key, Want: archive.Identity{Size: 1}})
		_ = s.Create(t.Context(), key, strings.NewReader("x"))
		_ = s.Delete(t.Context(), key, archive.Identity{Size: 7})
		_ = s.Sync(t.Context(), []archive.Key{key})
		for range s.List(t.Context(), store.ListOptions{After: key}) {
			break
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files were open, %d are", before, after)
	}
}
