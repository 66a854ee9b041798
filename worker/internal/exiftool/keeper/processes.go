package keeper

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a process may be stopped. It is enough for what lets a process run by turns, such as cpulimit.
const stopGrace = 500 * time.Millisecond

// childStopped is CLD_STOPPED of sigaction(2).
const childStopped = 5

// AwaitEnd waits until a child of this process has ended, without reaping it. A child that is stopped (SIGSTOP) and not
// continued within stopGrace is killed: whoever waits for its answer would wait until a deadline.
func AwaitEnd(pid int) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil, info.Code != childStopped:
			return
		case staysStopped(pid):
			Kill(pid)
		}
	}
}

// staysStopped takes the report of a stop and waits for another report.
func staysStopped(pid int) bool {
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOHANG, nil); err != nil {
		return false
	}
	time.Sleep(stopGrace)
	var info unix.Siginfo
	const all = unix.WEXITED | unix.WSTOPPED | unix.WCONTINUED
	err := unix.Waitid(unix.P_PID, pid, &info, all|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo == 0
}

// Start runs start, which starts a process, and sees to it that it returns: while the new process is stopped before it runs its
// program, clone(2) waits with it, and keeps one of GOMAXPROCS from all goroutines. One Start runs at a time.
func Start(start func() error) error {
	if runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
		defer runtime.GOMAXPROCS(1)
	}
	started := make(chan struct{})
	defer close(started)
	go func() {
		for {
			select {
			case <-started:
				return
			case <-time.After(stopGrace):
				killStopped()
			}
		}
	}()
	return start()
}

// killStopped kills a child that is stopped, if there is one.
func killStopped() {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == nil && info.Code == childStopped {
		Kill(int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), sigPID))))
	}
}

// sigPID is the offset of si_pid in siginfo_t on a 64-bit machine.
const sigPID = 16

// Kill ends a child of this process that was not reaped, and the group that it leads, if it leads one.
func Kill(pid int) {
	if syscall.Kill(-pid, syscall.SIGKILL) != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Reap waits for a child that has ended or is about to.
func Reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// ReapGroup waits until this process has no child left in the process group. Children whose parents have died count, where
// this process adopts orphans (PR_SET_CHILD_SUBREAPER). The caller has killed the group.
func ReapGroup(group int) {
	for group > 0 {
		if _, err := unix.Wait4(-group, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return // ECHILD
		}
	}
}

// ReapSession waits for the children of this process that belong to the session: the ExifTools that a killed keeper left
// behind. The caller knows that all of them have ended or are about to.
func ReapSession(session int) {
	for _, c := range children() {
		if c.session == session {
			Reap(c.pid)
		}
	}
}

type child struct{ pid, session int }

// children are those of this process, whether they run or wait to be reaped.
func children() (found []child) {
	self := strconv.Itoa(os.Getpid())
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// proc_pid_stat(5): "pid (name) state ppid pgrp session …"; the name may hold blanks and parentheses.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 4 || fields[1] != self {
			continue
		}
		pid, pidErr := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		session, err := strconv.Atoi(fields[3])
		if pidErr == nil && err == nil {
			found = append(found, child{pid, session})
		}
	}
	return found
}
