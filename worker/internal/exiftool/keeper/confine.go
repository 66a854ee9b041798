package keeper

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// confineSelf makes the calling thread, and what it starts, end with the worker and unable to gain privileges, and puts
// the process into a group of its own, away from the terminal's signals. The caller has locked its thread.
func confineSelf(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent-death signal: %w", err)
	}
	if got := os.Getppid(); got != parent {
		return fmt.Errorf("the worker %d is gone", parent)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// What ExifTool might leave behind becomes a child of the keeper, which waits for it (ReapGroup).
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	if err := syscall.Setpgid(0, 0); err != nil {
		return fmt.Errorf("lead a process group: %w", err)
	}
	return nil
}

// confineTool bounds what ExifTool may use: its address space, no core dump, no byte written to a file, few descriptors.
// It is called before ExifTool is told anything.
func confineTool(pid int, addressSpace uint64) error {
	limits := []struct {
		resource int
		max      uint64
	}{
		{unix.RLIMIT_AS, addressSpace},
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_NOFILE, 64},
	}
	for _, l := range limits {
		var old unix.Rlimit
		if err := unix.Prlimit(pid, l.resource, nil, &old); err != nil {
			return fmt.Errorf("read limit %d: %w", l.resource, err)
		}
		bound := min(l.max, old.Max)
		if err := unix.Prlimit(pid, l.resource, &unix.Rlimit{Cur: bound, Max: bound}, nil); err != nil {
			return fmt.Errorf("set limit %d: %w", l.resource, err)
		}
	}
	return nil
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

// toolEnv is ExifTool's whole environment. The hash settings make the order of its hashes, and so which of several
// candidates some Composite tags take, the same in every process.
func toolEnv() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=/nonexistent", "LC_ALL=C", "PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0",
	}
}
