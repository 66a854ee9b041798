package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel kill the child when the test process is killed and cannot clean up.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
