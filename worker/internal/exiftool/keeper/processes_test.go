package keeper_test

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// sleeper starts a child that does nothing, and tells when AwaitEnd finds that it has ended.
func sleeper(t *testing.T) (*exec.Cmd, <-chan struct{}) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		keeper.AwaitEnd(cmd.Process.Pid)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	return cmd, ended
}

func signal(t *testing.T, cmd *exec.Cmd, s syscall.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// A child that is stopped for good is killed, and left for its owner to reap.
func TestAwaitEndOfStopped(t *testing.T) {
	cmd, ended := sleeper(t)
	signal(t, cmd, syscall.SIGSTOP)
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("a stopped process was not killed within 20 s")
	}
	_ = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v, want SIGKILL", cmd.ProcessState)
	}
}

// A start that is held up by a stopped process goes on, even where it holds the only processor.
func TestStartOfStopped(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cmd := exec.Command("sleep", "60")
	err := keeper.Start(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		signal(t, cmd, syscall.SIGSTOP)
		// It blocks, and returns, as clone(2) does: unknown to the scheduler.
		_, _, errno := syscall.RawSyscall6(syscall.SYS_WAITID, unix.P_PID, uintptr(cmd.Process.Pid), 0, unix.WEXITED|unix.WNOWAIT, 0, 0)
		return errors.Join(os.NewSyscallError("waitid", errno), cmd.Wait())
	})
	if cmd.ProcessState == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v, %v, want SIGKILL", cmd.ProcessState, err)
	}
}

// A child that is stopped and continued all the time runs by turns, and is left alone.
func TestAwaitEndOfPaused(t *testing.T) {
	cmd, ended := sleeper(t)
	for range 15 {
		signal(t, cmd, syscall.SIGSTOP)
		time.Sleep(90 * time.Millisecond)
		signal(t, cmd, syscall.SIGCONT)
		time.Sleep(10 * time.Millisecond)
	}
	select {
	case <-ended:
		t.Error("a process that runs by turns was killed")
	default:
	}
}
