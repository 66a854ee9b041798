package childtest

import "syscall"

// attributes put a server into a process group of its own, so that all of it can be killed, and make the kernel kill it
// when the test process is killed and cannot clean up.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
