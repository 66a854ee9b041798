package systemtest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/worker/runtime"
)

// binaries are built once for all tests of this package, by TestMain.
type binaries struct{ reshelf, worker, dashboard string }

func build(dir string) (binaries, error) {
	b := binaries{filepath.Join(dir, "reshelf"), filepath.Join(dir, "reshelf-worker"), filepath.Join(dir, "reshelf-dashboard")}
	for out, pkg := range map[string]string{b.reshelf: "producer", b.worker: "worker", b.dashboard: "dashboard"} {
		cmd := exec.Command("go", "build", "-o", out, "github.com/reshelf/reshelf/"+pkg)
		if words, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("build %s: %w\n%s", pkg, err, words)
		}
	}
	return b, nil
}

// fleet is a real Redis, a ledger and an archive on disk, and worker processes.
type fleet struct {
	t     testing.TB
	bin   binaries
	redis *redistest.Server
	place
	scratch string
	flow    *flow.Flow
	workers map[string]*process
}

func newFleet(t testing.TB, bin binaries) *fleet {
	t.Helper()
	return newFleetAt(t, bin, local(t))
}

func newFleetAt(t testing.TB, bin binaries, at place) *fleet {
	t.Helper()
	f := &fleet{t: t, bin: bin, redis: redistest.Start(t), place: at, scratch: t.TempDir(), workers: map[string]*process{}}
	st, err := at.stores.Open(t.Context(), at.ledger, storeurl.Options{Ledger: true})
	f.must(err)
	t.Cleanup(func() { st.Close() })
	f.flow, err = runtime.NewFlow(f.redis.Client(), "reshelf", ledger.New(st), slog.New(slog.DiscardHandler))
	f.must(err)
	t.Cleanup(func() {
		for id := range f.workers {
			f.kill(id)
		}
	})
	return f
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) ctx() context.Context { return f.t.Context() }

// process is a child in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed when it has ended
	err  error
}

// output collects what a process prints; it may be read meanwhile.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (f *fleet) spawn(name string, args ...string) *process {
	f.t.Helper()
	p := &process{cmd: exec.Command(name, args...), out: &output{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Env = append(os.Environ(), "TMPDIR="+f.scratch)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	f.must(p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// alive fails the test if the process has ended.
func (p *process) alive(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("%s ended: %v\n%s", p.cmd, p.err, p.out)
	default:
	}
}

// start starts a worker and waits until it is registered.
func (f *fleet) start(id string, flags ...string) {
	f.t.Helper()
	f.workers[id] = f.spawn(f.bin.worker, append([]string{"--id", id, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "--root", f.archive.String(),
		"--slots", "2", "--listen", "127.0.0.1:0"}, flags...)...)
	f.wait(20*time.Second, "worker "+id+" to register", func() bool {
		ws, err := f.flow.Live().Workers(f.ctx())
		f.must(err)
		for _, w := range ws {
			if w.ID == id && w.Silent < 3*time.Second {
				return true
			}
		}
		f.workers[id].alive(f.t)
		return false
	})
}

func (f *fleet) signal(id string, s syscall.Signal) {
	f.t.Helper()
	f.must(f.workers[id].cmd.Process.Signal(s))
}

// kill kills a worker as a power cut would: no handler runs.
func (f *fleet) kill(id string) {
	p := f.workers[id]
	delete(f.workers, id)
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (f *fleet) wait(limit time.Duration, what string, ok func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited %s for %s\n%s", limit, what, f.logs())
		}
		<-tick.C
	}
}

func (f *fleet) logs() string {
	var b strings.Builder
	for id, p := range f.workers {
		fmt.Fprintf(&b, "--- %s\n%s\n", id, tail(p.out.String(), 4000))
	}
	return b.String()
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// reshelf runs the command against the fleet and returns what it printed and its exit code.
func (f *fleet) reshelf(args ...string) (string, int) {
	f.t.Helper()
	cmd := exec.CommandContext(f.ctx(), f.bin.reshelf, append([]string{"--redis", f.redis.URL(), "--ledger", f.ledger.String()}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		f.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// newest is the id of the newest batch.
func (f *fleet) newest() batch.ID {
	f.t.Helper()
	var last batch.ID
	for id, err := range f.flow.Ledger().Batches(f.ctx()) {
		f.must(err)
		last = id
	}
	return last
}

func (f *fleet) batch(id batch.ID) batch.Batch {
	f.t.Helper()
	b, err := f.flow.Ledger().Batch(f.ctx(), id)
	f.must(err)
	return b
}

func (f *fleet) status(id batch.ID) batch.Status {
	f.t.Helper()
	s, err := f.flow.Ledger().Status(f.ctx(), f.batch(id))
	f.must(err)
	return s
}

// listed waits until the list of a batch has ended.
func (f *fleet) listed(id batch.ID) {
	f.t.Helper()
	f.wait(time.Minute, "the end of the list", func() bool {
		p, err := f.flow.Live().Progress(f.ctx(), id)
		return err == nil && p.Steps[batch.StepInspect].Total >= 0
	})
}

// claimed waits until a worker holds a segment of a step, and returns the worker.
func (f *fleet) claimed(id batch.ID, step batch.Step) string {
	f.t.Helper()
	var worker string
	f.wait(2*time.Minute, "a claim of step "+string(step), func() bool {
		p, err := f.flow.Live().Progress(f.ctx(), id)
		if err != nil {
			return false
		}
		for _, e := range p.Window {
			if e.Step == step && e.State == "c" && f.workers[e.Worker] != nil {
				worker = e.Worker
				return true
			}
		}
		if p.Status.State.Over() {
			f.t.Fatalf("batch %s was over before step %s was seen", id, step)
		}
		return false
	})
	return worker
}

func (f *fleet) over(id batch.ID, limit time.Duration) batch.Status {
	f.t.Helper()
	f.wait(limit, "batch "+string(id)+" to be over", func() bool { return f.status(id).State.Over() })
	return f.status(id)
}
