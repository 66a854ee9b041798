//go:build !linux

package childtest

import "syscall"

// attributes put a server into a process group of its own. Only Linux can tie a child to its parent.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
