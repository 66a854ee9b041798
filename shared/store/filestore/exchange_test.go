//go:build linux

package filestore_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

func exchangeRequest(t *testing.T, s store.Store, a, b archive.Key) store.ExchangeRequest {
	t.Helper()
	return store.ExchangeRequest{A: a, B: b, WantA: identity(t, s, a), WantB: identity(t, s, b)}
}

// exchanging opens dir as a store that exchanges names, whatever type its file system has.
func exchanging(t *testing.T, dir string) *filestore.Store {
	t.Helper()
	s := open(t, dir, filestore.Options{})
	s.AllowExchange()
	return s
}

// What comes to one of the names in the last moment is at its name again, and so is the other object.
func TestExchangeOfWhatWasSwapped(t *testing.T) {
	for name, swap := range map[string]func(dir string) error{
		"replaced": func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "new"), []byte("foreign"), 0o600), os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a")))
		},
		"changed": func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("foreign"), 0o600) },
		"folder": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "a")), os.MkdirAll(filepath.Join(dir, "a"), 0o700), os.WriteFile(filepath.Join(dir, "a", "in"), []byte("foreign"), 0o600))
		},
		"link": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "a")), os.Symlink("b", filepath.Join(dir, "a")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, map[string]string{"a": "content of a", "b": "content of b"})
			s := exchanging(t, dir)
			req := exchangeRequest(t, s, "a", "b")
			once(s, "exchange: pinned", func() { must(t, swap(dir)) })
			if err := s.Exchange(t.Context(), req); !errors.Is(err, store.ErrRaced) {
				t.Errorf("Exchange = %v, want %v", err, store.ErrRaced)
			}
			got := readFiles(t, dir)
			if got["b"] != "content of b" || got["a"] == "content of b" {
				t.Errorf("got files %q; want that b is where it was", got)
			}
		})
	}
}

// What is not at its name is seen before anything is touched.
func TestExchangeLooksFirst(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"a": "content of a", "b": "content of b", "c": "content of c"})
	s := exchanging(t, dir)
	req := exchangeRequest(t, s, "a", "b")
	req.B = "c"
	s.SetRenameat2(func(int, string, int, string, uint) error {
		t.Error("something was renamed")
		return nil
	})
	if err := s.Exchange(t.Context(), req); !errors.Is(err, store.ErrChanged) {
		t.Errorf("Exchange = %v, want %v", err, store.ErrChanged)
	}
}

func TestExchangeRefused(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(*filestore.Store)
		want    error
	}{
		"not one step": {func(s *filestore.Store) { s.Unguard() }, store.ErrUnsupported},
		"unknown flag": {func(s *filestore.Store) {
			s.SetRenameat2(func(int, string, int, string, uint) error { return unix.EINVAL })
		}, store.ErrUnsupported},
		"devices": {func(s *filestore.Store) {
			s.SetRenameat2(func(int, string, int, string, uint) error { return unix.EXDEV })
		}, store.ErrUnsupported},
		"permission": {func(s *filestore.Store) {
			s.SetRenameat2(func(int, string, int, string, uint) error { return unix.EPERM })
		}, store.ErrPermission},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{"a": "content of a", "b": "content of b"}
			writeFiles(t, dir, files)
			s := exchanging(t, dir)
			req := exchangeRequest(t, s, "a", "b")
			test.prepare(s)
			if err := s.Exchange(t.Context(), req); !errors.Is(err, test.want) {
				t.Errorf("Exchange = %v, want %v", err, test.want)
			}
			if got := readFiles(t, dir); !maps.Equal(got, files) {
				t.Errorf("got files %q, want %q", got, files)
			}
		})
	}
}

// What others that make the same exchange, or another one of the same objects, have brought to the names is left there: only their
// records tell whether it is right.
func TestExchangeLeavesWhatIsKnown(t *testing.T) {
	for name, test := range map[string]struct {
		at    string
		other func(t *testing.T, s *filestore.Store) // meanwhile
		want  map[string]string
	}{
		"made before": {"exchange: pinned", func(t *testing.T, s *filestore.Store) {
			must(t, s.Exchange(t.Context(), exchangeRequest(t, s, "a", "b")))
		}, map[string]string{"a": "content of a", "b": "content of b", "c": "content of c"}},
		"taken back": {"exchange: exchanged", func(t *testing.T, s *filestore.Store) {
			must(t, s.Exchange(t.Context(), exchangeRequest(t, s, "a", "b")))
		}, map[string]string{"a": "content of a", "b": "content of b", "c": "content of c"}},
		"gone on": {"exchange: exchanged", func(t *testing.T, s *filestore.Store) {
			must(t, s.Exchange(t.Context(), exchangeRequest(t, s, "a", "c")))
		}, map[string]string{"a": "content of c", "b": "content of a", "c": "content of b"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, map[string]string{"a": "content of a", "b": "content of b", "c": "content of c"})
			s, other := exchanging(t, dir), exchanging(t, dir)
			req := exchangeRequest(t, s, "a", "b")
			known := map[uint64]bool{identity(t, s, "c").Inode: true}
			req.Known = func(id archive.Identity) bool { return known[id.Inode] }
			once(s, test.at, func() { test.other(t, other) })
			if err := s.Exchange(t.Context(), req); !errors.Is(err, store.ErrRaced) {
				t.Errorf("Exchange = %v, want %v", err, store.ErrRaced)
			}
			if got := readFiles(t, dir); !maps.Equal(got, test.want) {
				t.Errorf("got files %q, want %q", got, test.want)
			}
		})
	}
}

// A process that is killed at any step of a circle of four leaves every content at one of its names, and the exchanges that
// are left complete it.
func TestCrashInCircle(t *testing.T) {
	killedAt := map[string]bool{}
	for step := 0; ; step++ {
		dir := t.TempDir()
		var want []string
		files := map[string]string{}
		for i := range 4 {
			files[fmt.Sprint(i)] = fmt.Sprint("content ", i)
			want = append(want, fmt.Sprint("content ", i))
		}
		writeFiles(t, dir, files)
		s := exchanging(t, dir)
		run := crashRun{Dir: dir, Op: "exchange", Step: step}
		for i := range 3 {
			// 0 goes to 1, 1 to 2, and so on, by way of the name 0.
			req := store.ExchangeRequest{A: "0", B: archive.Key(fmt.Sprint(i + 1)), WantA: identity(t, s, archive.Key(fmt.Sprint(i))), WantB: identity(t, s, archive.Key(fmt.Sprint(i+1)))}
			run.Exchanges = append(run.Exchanges, req)
		}
		at := run.inChild(t)
		got := readFiles(t, dir)
		for _, content := range want {
			n := 0
			for _, c := range got {
				if c == content {
					n++
				}
			}
			if n != 1 || len(got) != 4 {
				t.Errorf("killed at step %d, %q: %q is there %d times, files %q", step, at, content, n, got)
			}
		}
		for _, req := range run.Exchanges {
			_ = s.Exchange(t.Context(), req) // those that were made find other objects
		}
		if got := readFiles(t, dir); got["1"] != want[0] || got["2"] != want[1] || got["3"] != want[2] || got["0"] != want[3] {
			t.Errorf("killed at step %d, %q, and completed: got files %q", step, at, got)
		}
		if at == "" {
			break
		}
		killedAt[at] = true
	}
	if !killedAt["exchange: pinned"] || !killedAt["exchange: exchanged"] {
		t.Errorf("killed only at %v", killedAt)
	}
}
