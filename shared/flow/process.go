package flow

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/reshelf/reshelf/shared/ledger"
)

// Self describes this process, for ledger.Execution.
func Self(worker string) (ledger.Process, error) {
	p := ledger.Process{Worker: worker, PID: os.Getpid()}
	var err error
	if p.Host, err = os.Hostname(); err != nil {
		return p, fmt.Errorf("host name: %w", err)
	}
	if p.Boot, err = bootID(); err != nil {
		return p, err
	}
	p.Start, _, err = startOf(p.PID)
	return p, err
}

// Gone reports whether a process has certainly ended. Only a process of this machine, this boot and this PID namespace can
// be looked up; and one of this machine before its last boot is gone. Of all others nothing is known: false.
func Gone(p ledger.Process) (bool, error) {
	self, err := Self("")
	if err != nil {
		return false, err
	}
	boot, _, _ := strings.Cut(p.Boot, "/")
	mine, _, _ := strings.Cut(self.Boot, "/")
	switch {
	case p.Boot == self.Boot:
		start, ended, err := startOf(p.PID)
		return err == nil && (ended || start != p.Start), err
	case p.Host == self.Host && boot != mine:
		return true, nil
	}
	return false, nil
}

// bootID is the kernel's boot id with the PID namespace, in which alone PIDs mean anything.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", fmt.Errorf("PID namespace: %w", err)
	}
	return strings.TrimSpace(string(id)) + "/" + ns, nil
}

// startOf reads field 22 of /proc/<pid>/stat (proc_pid_stat(5)): the start time in clock ticks since boot. ended is true if
// there is no such process, or only its zombie.
func startOf(pid int) (start int64, ended bool, err error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if os.IsNotExist(err) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, false, fmt.Errorf("stat of process %d: %d fields", pid, len(fields))
	}
	start, err = strconv.ParseInt(fields[19], 10, 64)
	return start, fields[0] == "Z" || fields[0] == "X", err
}
