package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/worker/internal/dispatch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

// isolateName is the name under which this program inspects one object and ends.
const isolateName = "reshelf-isolate"

// maxKills is how often an object may kill the process that inspects it alone, before it fails.
const maxKills = 2

// maxRecord bounds the record that a process of its own may answer with, in bytes.
const maxRecord = 128 << 20

// KeeperMain must be the first call of every main, and of TestMain where workers run: when this program was started
// as a keeper of ExifTool, or to inspect one suspect object, it does that and exits.
func KeeperMain() {
	keeper.Main()
	if filepath.Base(os.Args[0]) != isolateName {
		return
	}
	err := isolate(context.Background(), os.Stdin, os.Stdout)
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, store.ErrUnavailable) {
		os.Exit(exitUnavailable)
	}
	os.Exit(1)
}

// Exit statuses: that of every Go program that panics or runs out of memory, and the one that stands for
// store.ErrUnavailable.
const (
	exitPanic       = 2
	exitUnavailable = 3
)

// endWithin bounds the wait for what the process started, once it has ended itself.
const endWithin = 5 * time.Second

// isolateRequest is what the process reads from its standard input; it answers with a batch.Record in JSON.
type isolateRequest struct {
	Batch    batch.Batch  `json:"batch"`
	Object   batch.Listed `json:"object"`
	ExifTool string       `json:"exiftool"`
	Scratch  string       `json:"scratch"`
	Stores   string       `json:"stores,omitempty"` // the path of the stores file
}

func isolate(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	var req isolateRequest
	if err := json.NewDecoder(in).Decode(&req); err != nil {
		return fmt.Errorf("isolated request: %w", err)
	}
	stores := storeurl.New(req.Stores)
	defer stores.Close()
	st, err := stores.Open(ctx, req.Batch.Archive, storeurl.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	pool, err := exiftool.NewPool(exiftool.Options{Processes: 1, Binary: req.ExifTool, Scratch: req.Scratch, Read: folders(req.Batch.Archive)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close(ctx)) }()
	r, err := inspecting.New(pool, inspecting.Options{Scratch: pool.Spool()}).Inspect(ctx, st, req.Batch, req.Object, func(int64) {})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// suspect inspects an object that was in hand when a worker died: alone, in a process of its own, so that it can kill
// nothing else. It fails only after it has killed that process as often as allowed.
func (s steps) suspect(ctx context.Context, j dispatch.Job, o batch.Listed, index int) (batch.Record, error) {
	x := j.Execution
	for kills := x.Claim.Suspects[index]; kills < maxKills; kills++ {
		if x.Lost() || x.Cancelled() {
			break
		}
		x.Begin(index, true)
		r, err := s.alone(ctx, j.Batch, o)
		x.Finish(index)
		if err == nil {
			x.Advance(1, r.Size)
			return r, nil
		}
		if ctx.Err() != nil {
			return batch.Record{}, ctx.Err()
		}
		if !errors.Is(err, errNoRecord) {
			return batch.Record{}, err
		}
		s.log.WarnContext(ctx, "object killed the process that inspected it alone", "batch", j.Batch.ID, "key", o.Key.Text(), "times", kills+1, "error", err)
	}
	return s.one(ctx, j, o, index, killed)
}

// killed is the record of an object that kills.
func killed(_ context.Context, _ store.Store, _ batch.Batch, o batch.Listed, _ func(int64)) (batch.Record, error) {
	return batch.Record{
		Object: o.Object, Outcome: batch.Failed, Reason: batch.ReasonKilled,
		Message: fmt.Sprintf("the process that inspected it alone was killed %d times; look at the file, then retry", maxKills),
	}, nil
}

func (s steps) alone(ctx context.Context, b batch.Batch, o batch.Listed) (batch.Record, error) {
	var r batch.Record
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	scratch, err := os.MkdirTemp("", isolateName+"-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(scratch)
	req, err := json.Marshal(isolateRequest{Batch: b, Object: o, ExifTool: s.exiftool, Scratch: scratch, Stores: s.stores.Settings()})
	if err != nil {
		return r, err
	}
	// The parent-death signal follows the thread that started the child.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	out, words := &bounded{left: maxRecord}, &bounded{left: 4 << 10}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = []string{isolateName}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(req), out, words
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = endWithin
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	if json.Unmarshal(out.Bytes(), &r) == nil {
		return r, nil
	}
	return batch.Record{}, fmt.Errorf("inspect %s alone: %w: %s", o.Key.Text(), blame(err), words.String())
}

// blame tells an end that the object may have caused (errNoRecord) from a fault of this machine or of the archive.
func blame(err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return errNoRecord
	case !errors.As(err, &exit):
		return err // it could not even be started
	case !exit.Exited() || exit.ExitCode() == exitPanic:
		return fmt.Errorf("%w: %w", errNoRecord, err)
	case exit.ExitCode() == exitUnavailable:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// bounded is a buffer that drops what is above its bound.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.Buffer.Write(p[:n])
	return len(p), nil
}
