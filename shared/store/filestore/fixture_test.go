//go:build linux

package filestore_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// writeFiles makes files below dir; a name that ends with a slash is a directory.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(content), 0o644))
	}
}

// readFiles returns the contents of all files below dir, temporary ones included; other entries hold their type.
func readFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if !d.Type().IsRegular() {
			files[name] = d.Type().String()
			return nil
		}
		b, err := os.ReadFile(path)
		files[name] = string(b)
		return err
	}))
	return files
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entries lists everything as "key kind".
func entries(t *testing.T, s store.Store, opts store.ListOptions) []string {
	t.Helper()
	var list []string
	for e, err := range s.List(t.Context(), opts) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, strings.TrimSpace(string(e.Key)+" "+string(e.Kind)))
	}
	return list
}

func identity(t *testing.T, s store.Store, key archive.Key) archive.Identity {
	t.Helper()
	obj, err := s.Stat(t.Context(), key)
	must(t, err)
	return obj.Identity
}

func request(t *testing.T, s store.Store, from, to archive.Key) store.RenameRequest {
	t.Helper()
	return store.RenameRequest{From: from, To: to, Want: identity(t, s, from), OpID: "op-1"}
}

func read(t *testing.T, s store.Store, key archive.Key) string {
	t.Helper()
	c, err := s.Open(t.Context(), key, 0, -1, archive.Identity{})
	must(t, err)
	defer c.Close()
	b, err := io.ReadAll(c)
	must(t, err)
	return string(b)
}

// once makes s call do at the first step of that name.
func once(s *filestore.Store, step string, do func()) {
	done := false
	s.SetStep(func(name string) {
		if name == step && !done {
			done = true
			do()
		}
	})
}

// onThread runs test on a thread of its own that ends with it, after prepare has changed the thread.
func onThread(t *testing.T, prepare func() error, test func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := prepare(); err != nil {
			t.Error(err)
			return
		}
		test()
	}()
	<-done
}

// withoutPrivilege lets the mode bits of files hold for root too: the owner has no more rights than they say.
func withoutPrivilege() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER
	return unix.Capset(&head, &data[0])
}
