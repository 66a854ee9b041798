package keeper

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// detach makes the calling thread, and what it starts, end with the worker and unable to gain privileges, and puts
// the process into a session of its own, away from the terminal's signals. The caller has locked its thread.
func detach(parent int) error {
	if err := follow(parent); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// What ExifTool might leave behind becomes a child of the keeper, which waits for it (ReapGroup).
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	// Its ExifTools are found by the session (ReapSession).
	if _, err := syscall.Setsid(); err != nil {
		return fmt.Errorf("lead a session: %w", err)
	}
	return nil
}

// follow makes the calling thread, and what it starts, end with the worker. The caller has locked its thread.
func follow(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent-death signal: %w", err)
	}
	if got := os.Getppid(); got != parent {
		return fmt.Errorf("the worker %d is gone", parent)
	}
	return nil
}

// confineTool bounds what ExifTool may use: its address space, no core dump, no byte written to a file, few descriptors.
// It is called before ExifTool is told anything.
func confineTool(pid int, addressSpace uint64) error {
	return limit(pid, []bound{{unix.RLIMIT_AS, addressSpace}, {unix.RLIMIT_CORE, 0}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_NOFILE, 64}})
}

// settle forbids ExifTool to start processes. Its program may be a script that starts it, so it is called after that. The
// limit counts all of a user's processes but binds only this one; it does not bind root.
func settle(pid int) error { return limit(pid, []bound{{unix.RLIMIT_NPROC, 0}}) }

type bound struct {
	resource int
	max      uint64
}

func limit(pid int, limits []bound) error {
	for _, l := range limits {
		var old unix.Rlimit
		if err := unix.Prlimit(pid, l.resource, nil, &old); err != nil {
			return fmt.Errorf("read limit %d: %w", l.resource, err)
		}
		value := min(l.max, old.Max)
		if err := unix.Prlimit(pid, l.resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
			return fmt.Errorf("set limit %d: %w", l.resource, err)
		}
	}
	return nil
}

// cleanEnv is the whole environment of keeper and ExifTool. The hash settings make the order of its hashes, and so which of several
// candidates some Composite tags take, the same in every process.
func cleanEnv() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=/nonexistent", "LC_ALL=C", "PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0",
	}
}
