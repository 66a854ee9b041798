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
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// stopped is a process that is stopped in the middle of a rename.
type stopped struct {
	reached, wake, over chan struct{}
}

// stopIn begins a rename in a process of its own, which is stopped at a step, if it comes there.
func stopIn(t *testing.T, root string, req store.RenameRequest, step string) *stopped {
	s, err := filestore.Open(root, filestore.Options{})
	must(t, err)
	p := &stopped{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	once := false
	s.SetStep(func(at string) {
		if at == step && !once {
			once = true
			close(p.reached)
			<-p.wake
		}
	})
	go func() {
		defer close(p.over)
		defer s.Close()
		_ = s.Rename(t.Context(), req)
	}()
	select {
	case <-p.reached:
	case <-p.over:
	}
	return p
}

func (p *stopped) goOn() {
	close(p.wake)
	<-p.over
}

// Workers are stopped at any step of any row of a chain, one begins where the other was stopped, and they wake in any order when the
// last one has done the whole chain, or some rows of it. In the end all is where it belongs.
func TestStoppedInChain(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		root, err := os.MkdirTemp(dir, "")
		must(t, err)
		n := rapid.IntRange(2, 5).Draw(rt, "rows")
		want := map[string]string{}
		for i := range n {
			must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), []byte(fmt.Sprint("content ", i)), 0o644))
			want[fmt.Sprint(i+1)] = fmt.Sprint("content ", i)
		}
		s, err := filestore.Open(root, filestore.Options{})
		must(t, err)
		defer s.Close()
		var rows []store.RenameRequest
		for i := n - 1; i >= 0; i-- {
			from := archive.Key(fmt.Sprint(i))
			rows = append(rows, store.RenameRequest{From: from, To: archive.Key(fmt.Sprint(i + 1)), Want: identity(t, s, from), OpID: fmt.Sprint("op", i)})
		}
		steps := []string{"rename: source pinned", "rename: folder made", "rename: renamed", "rename: mismatch seen"}
		var all []*stopped
		for range rapid.IntRange(1, 4).Draw(rt, "workers") {
			at := rapid.IntRange(0, n-1).Draw(rt, "row")
			for _, r := range rows[:at] {
				_ = s.Rename(t.Context(), r)
			}
			all = append(all, stopIn(t, root, rows[at], rapid.SampledFrom(steps).Draw(rt, "step")))
		}
		done := rapid.IntRange(0, n).Draw(rt, "rows before they wake")
		for i, r := range rows {
			if i == done {
				for _, p := range rapid.Permutation(all).Draw(rt, "wake") {
					p.goOn()
				}
				all = nil
			}
			if err := s.Rename(t.Context(), r); err != nil {
				rt.Errorf("row %s: %v", r.From, err)
			}
		}
		for _, p := range all {
			p.goOn()
		}
		if got := readFiles(t, root); !maps.Equal(got, want) {
			rt.Errorf("got files %q, want %q", got, want)
		}
	})
}

// Objects get one another's names by way of names in between, where renames are a second link and the removal of the first. A process is killed
// at any step of it; the next one goes on from what it sees, and another one takes it all back.
func TestKilledInChain(t *testing.T) {
	for name, moves := range map[string][][2]archive.Key{
		"swap":  {{"a", "b"}, {"b", "a"}},
		"chain": {{"a", "b"}, {"b", "c"}, {"c", "d/e"}},
	} {
		for _, mode := range []string{"link", ""} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				killed := ""
				for step := 0; step == 0 || killed != ""; step++ {
					root := t.TempDir()
					s := open(t, root, filestore.Options{})
					run, back := chainOf(t, s, moves, mode)
					before := readFiles(t, root)
					run.Step, back.Step = step, step
					want := map[string]string{}
					for _, m := range moves {
						want[string(m[1])] = string("content of " + m[0])
					}
					killed = run.inChild(t)
					must(t, run.do(false))
					if got := readFiles(t, root); !maps.Equal(got, want) {
						t.Errorf("killed at %d, %q: got files %q, want %q", step, killed, got, want)
					}
					back.inChild(t)
					must(t, back.do(false))
					if got := readFiles(t, root); !maps.Equal(got, before) {
						t.Errorf("killed at %d, taken back: got files %q, want %q", step, got, before)
					}
				}
			})
		}
	}
}

// chainOf writes objects, and returns what gives them other names, and what takes that back.
func chainOf(t *testing.T, s *filestore.Store, moves [][2]archive.Key, mode string) (run, back crashRun) {
	t.Helper()
	root := s.Properties().Root.Path()
	run, back = crashRun{Dir: root, Op: "chain", Mode: mode}, crashRun{Dir: root, Op: "chain", Mode: mode}
	leg := func(from, to archive.Key, want archive.Identity) store.RenameRequest {
		return store.RenameRequest{From: from, To: to, Want: want, OpID: "op", AssumeSingleWriter: true, SameFile: true}
	}
	for _, m := range moves {
		writeFiles(t, root, map[string]string{string(m[0]): string("content of " + m[0])})
	}
	var in, home []store.RenameRequest
	for _, m := range moves {
		want := identity(t, s, m[0])
		run.Legs, in = append(run.Legs, leg(m[0], "between-"+m[0], want)), append(in, leg("between-"+m[0], m[1], want))
		back.Legs, home = append(back.Legs, leg(m[1], "back-"+m[0], want)), append(home, leg("back-"+m[0], m[0], want))
	}
	run.Legs, back.Legs = append(run.Legs, in...), append(back.Legs, home...)
	return run, back
}

// Where an object has to stay the same file it is not copied to another device.
func TestSameFileIsNotCopied(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, root, map[string]string{"a": "x"})
	s := open(t, root, filestore.Options{})
	acrossDevices(s)
	req := request(t, s, "a", "b")
	req.AssumeSingleWriter, req.SameFile = true, true
	if err := s.Rename(t.Context(), req); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, store.ErrUnsupported)
	}
	if got := readFiles(t, root); !maps.Equal(got, map[string]string{"a": "x"}) {
		t.Errorf("got files %q", got)
	}
}

// In which file systems objects can get one another's names by way of names in between: not where their numbers may change, or are
// not known, unless there are none and renames are one step.
func TestParks(t *testing.T) {
	for magic, want := range map[uint32]bool{
		unix.EXT4_SUPER_MAGIC: true, unix.NFS_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true, unix.V9FS_MAGIC: true,
		unix.MSDOS_SUPER_MAGIC: true, unix.EXFAT_SUPER_MAGIC: true, unix.OVERLAYFS_SUPER_MAGIC: false, unix.FUSE_SUPER_MAGIC: false,
		unix.SMB2_SUPER_MAGIC: false, 0x12345678: false,
	} {
		if p := filestore.PropertiesOf(magic); p.Parks != want {
			t.Errorf("type %x: %+v, want Parks %t", magic, p, want)
		}
	}
}
