package childtest

import (
	"bytes"
	"os/exec"
	"runtime"
	"syscall"
)

// process is one run of a program.
type process struct {
	cmd    *exec.Cmd
	output *bytes.Buffer // read it only after exited is closed
	exited chan struct{}
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, output: new(bytes.Buffer), exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = attributes()
	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the thread that started the child ends, so this thread must
		// live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(p.exited)
	}()
	return p, <-started
}

// signal sends to the whole process group.
func (p *process) signal(sig syscall.Signal) error { return syscall.Kill(-p.cmd.Process.Pid, sig) }

// kill returns when the process is gone.
func (p *process) kill() {
	select {
	case <-p.exited: // its number may belong to another process by now
	default:
		_ = p.signal(syscall.SIGKILL)
		<-p.exited
	}
}
