//go:build linux

package filestore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// crashVariable holds the crashRun of a child process; TestMain then runs it in place of the tests.
const crashVariable = "RESHELF_TEST_CRASH"

// crashRun is one operation in a child process that kills itself at a step.
type crashRun struct {
	Dir    string
	Op     string // create, replace, rename, copy, exchange, chain
	Mode   string // "", link, copy
	Step   int    // kill at the step of this number, from 0
	Rename store.RenameRequest
	Copy   struct{ Link bool } // of what is to be renamed
	// Exchanges are made in turn, as far as they can be.
	Exchanges []store.ExchangeRequest
	// Legs are made in turn, those whose objects are still where they begin.
	Legs []store.RenameRequest
}

// archived reports whether the operation is one on an archive, whose objects are there.
func (r crashRun) archived() bool {
	return r.Op == "rename" || r.Op == "copy" || r.Op == "exchange" || r.Op == "chain"
}

func (r crashRun) copyRequest() store.CopyRequest {
	q := r.Rename
	return store.CopyRequest{From: q.From, To: q.To, Want: q.Want, OpID: q.OpID, Link: r.Copy.Link, AssumeSingleWriter: q.AssumeSingleWriter}
}

const crashContent = "the content, whole"

func TestMain(m *testing.M) {
	spec := os.Getenv(crashVariable)
	if spec == "" {
		os.Exit(m.Run())
	}
	var run crashRun
	err := json.Unmarshal([]byte(spec), &run)
	if err == nil {
		err = run.do(true)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// do runs the operation; with kill it does not come back if there is a step of that number.
func (r crashRun) do(kill bool) error {
	s, err := filestore.Open(r.Dir, filestore.Options{Ledger: !r.archived()})
	if err != nil {
		return err
	}
	defer s.Close()
	switch r.Mode {
	case "link":
		withoutNoReplace(s)
	case "copy":
		acrossDevices(s)
	case "clone":
		cloning(s)
	case "named":
		s.NameCopies()
	case "named link":
		s.NameCopies()
		withoutNoReplace(s)
	}
	if kill {
		step := 0
		s.SetStep(func(name string) {
			if step == r.Step {
				fmt.Println(name)
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
			step++
		})
	}
	ctx := context.Background()
	switch r.Op {
	case "create":
		return s.Create(ctx, "d/e/a", strings.NewReader(crashContent))
	case "replace":
		return s.Replace(ctx, "d/e/a", strings.NewReader(crashContent))
	case "copy":
		return s.Copy(ctx, r.copyRequest())
	}
	if r.Op == "chain" {
		return r.goOn(ctx, s)
	}
	if r.Op == "exchange" {
		s.AllowExchange()
		for _, req := range r.Exchanges {
			if err := s.Exchange(ctx, req); err != nil {
				return err
			}
		}
		return nil
	}
	return s.Rename(ctx, r.Rename)
}

// goOn makes the legs of a chain that are left.
func (r crashRun) goOn(ctx context.Context, s *filestore.Store) error {
	for _, leg := range r.Legs {
		o, err := s.Stat(ctx, leg.From)
		if errors.Is(err, store.ErrNotExist) || err == nil && !leg.Want.Same(o.Identity) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.Rename(ctx, leg); err != nil {
			return err
		}
	}
	return nil
}

// inChild runs r in a child process and returns the name of the step at which it was killed, "" if it ended well.
func (r crashRun) inChild(t *testing.T) string {
	t.Helper()
	spec, err := json.Marshal(r)
	must(t, err)
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), crashVariable+"="+string(spec))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return ""
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("child at step %d: %v: %s", r.Step, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// A process that is killed at any step leaves the content whole under a name that is listed, and a repetition completes
// what was begun.
func TestCrash(t *testing.T) {
	for name, test := range map[string]struct {
		run   crashRun
		files map[string]string // before
		steps []string          // that must be among those where it was killed
	}{
		"Create":          {crashRun{Op: "create"}, nil, []string{"write: folder made", "write: temp made", "write: temp synced", "write: published"}},
		"CreateByLink":    {crashRun{Op: "create", Mode: "link"}, nil, []string{"write: temp synced", "write: published"}},
		"Replace":         {crashRun{Op: "replace"}, map[string]string{"d/e/a": "old"}, []string{"write: temp synced", "write: published"}},
		"Rename":          {crashRun{Op: "rename"}, map[string]string{"a": crashContent}, []string{"rename: folder made", "rename: renamed"}},
		"RenameByLink":    {crashRun{Op: "rename", Mode: "link"}, map[string]string{"a": crashContent}, []string{"rename: linked", "rename: link synced", "rename: unlinked"}},
		"RenameByCopying": {crashRun{Op: "rename", Mode: "copy"}, map[string]string{"a": crashContent}, []string{"copy: temp made", "copy: temp synced", "copy: published", "copy: target synced", "copy: source removed"}},
		"Copy":            {crashRun{Op: "copy"}, map[string]string{"a": crashContent}, []string{"copy: folder made", "copy: temp made", "copy: temp synced", "copy: published"}},
		"CopyNamed":       {crashRun{Op: "copy", Mode: "named"}, map[string]string{"a": crashContent}, []string{"copy: temp made", "copy: temp synced", "copy: published"}},
		"CopyByLink":      {crashRun{Op: "copy", Mode: "named link"}, map[string]string{"a": crashContent}, []string{"copy: temp synced", "copy: published"}},
		"CopyByCloning":   {crashRun{Op: "copy", Mode: "clone"}, map[string]string{"a": crashContent}, []string{"copy: temp synced", "copy: published"}},
		"HardLink":        {linking(""), map[string]string{"a": crashContent}, []string{"copy: temp made", "copy: published"}},
		"HardLinkNamed":   {linking("named"), map[string]string{"a": crashContent}, []string{"copy: temp made", "copy: published"}},
		"HardLinkByLink":  {linking("named link"), map[string]string{"a": crashContent}, []string{"copy: temp made", "copy: published"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var killedAt []string
			for test.run.Step = 0; ; test.run.Step++ {
				step := crashOnce(t, test.run, test.files)
				if step == "" {
					break
				}
				killedAt = append(killedAt, step)
			}
			for _, step := range test.steps {
				if !slices.Contains(killedAt, step) {
					t.Errorf("not killed at %q, only at %q", step, killedAt)
				}
			}
		})
	}
}

func linking(mode string) crashRun {
	r := crashRun{Op: "copy", Mode: mode}
	r.Copy.Link = true
	return r
}

// crashOnce runs r in a fresh directory, checks what it left, and repeats it.
func crashOnce(t *testing.T, r crashRun, files map[string]string) string {
	t.Helper()
	r.Dir = t.TempDir()
	writeFiles(t, r.Dir, files)
	if r.archived() {
		s := open(t, r.Dir, filestore.Options{})
		r.Rename = request(t, s, "a", "d/e/b")
		r.Rename.AssumeSingleWriter = r.Op == "rename" && r.Mode != ""
	}
	step := r.inChild(t)
	checkCrashed(t, r, step)
	if err := r.do(false); err != nil && !(r.Op == "create" && errors.Is(err, store.ErrExist)) {
		t.Errorf("killed at %q, repeated: %v", step, err)
	}
	want := map[string]string{"d/e/a": crashContent}
	switch r.Op {
	case "rename":
		want = map[string]string{"d/e/b": crashContent}
	case "copy":
		want = map[string]string{"a": crashContent, "d/e/b": crashContent}
	}
	got := readFiles(t, r.Dir)
	maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasPrefix(path.Base(name), store.TempPrefix) })
	if !maps.Equal(got, want) {
		t.Errorf("killed at %q, repeated: got %q, want %q", step, got, want)
	}
	return step
}

// checkCrashed looks at what is there after a kill: whole contents only, and the object of a rename at least once.
func checkCrashed(t *testing.T, r crashRun, step string) {
	t.Helper()
	s := open(t, r.Dir, filestore.Options{})
	var keys []archive.Key
	for e, err := range s.List(t.Context(), store.ListOptions{}) {
		must(t, err)
		keys = append(keys, e.Key)
		if got := read(t, s, e.Key); got != crashContent && !(r.Op == "replace" && got == "old") {
			t.Errorf("killed at %q: %q holds %q", step, e.Key, got)
		}
	}
	switch {
	case r.Op == "copy" && r.Mode == "" && slices.ContainsFunc(slices.Collect(maps.Keys(readFiles(t, r.Dir))), func(name string) bool {
		return store.Temporary(archive.Key(name))
	}):
		t.Errorf("killed at %q: something is left", step)
	case r.Op == "copy" && (len(keys) == 0 || keys[0] != "a" || identity(t, s, "a") != r.Rename.Want):
		t.Errorf("killed at %q: the original is not as it was", step)
	case r.Op == "rename" && len(keys) == 0, r.Op == "replace" && len(keys) != 1:
		t.Errorf("killed at %q: the object is lost", step)
	case len(keys) > 1 && r.Mode == "" && r.Op != "copy":
		t.Errorf("killed at %q: got objects %q", step, keys)
	}
}
