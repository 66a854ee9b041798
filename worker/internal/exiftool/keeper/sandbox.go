package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// confine takes from this process, and from all that it will start, what reading tags does not need. It returns what could
// not be taken. It is called on a locked thread; what it does for that thread alone becomes the process's at the next exec.
func confine(dir string, s Settings) (gaps []string, err error) {
	if err := dropCapabilities(); err != nil {
		gaps = append(gaps, fmt.Sprintf("the capabilities of root are kept: %v", err))
	}
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || s.WithoutLandlock {
		abi = 0
	}
	gaps = append(gaps, landlockGaps(abi)...)
	if abi > 0 {
		if err := landlock.V11.BestEffort().Restrict(rules(dir, s)...); err != nil {
			return nil, fmt.Errorf("landlock: %w", err)
		}
	}
	if err := filterCalls(); err != nil {
		gaps = append(gaps, fmt.Sprintf("no seccomp filter (%v): ExifTool could open network connections, create empty files, start programs, "+
			"and signal and slow down this user's processes", err))
	}
	return gaps, nil
}

// landlockGaps says what a kernel's version of Landlock lacks that no system call's number tells. 0 is none.
func landlockGaps(abi int) []string {
	if abi < 1 {
		return []string{"no Landlock in this kernel: ExifTool could read all that this user may"}
	}
	return nil
}

// rules are the files that may be opened, all of them for reading only. No folder can be listed, no file made. A process
// that is bound by them cannot look into one that is not: neither follow its /proc/PID/fd nor read its environment.
func rules(dir string, s Settings) []landlock.Rule {
	const read, execute = ll.AccessFSReadFile, ll.AccessFSExecute
	programs := []string{
		"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store", "/proc/self/exe",
		"/etc/perl", "/etc/ld.so.cache", "/etc/ld.so.preload",
	}
	programs = append(programs, homes(s.ExifTool)...)
	if perl, err := exec.LookPath("perl"); err == nil {
		programs = append(programs, homes(perl)...)
	}
	readable := []string{dir, "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/etc/localtime"}
	if s.Read == nil {
		readable = append(readable, "/")
	}
	return []landlock.Rule{
		landlock.PathAccess(read|execute, programs...).IgnoreIfMissing(),
		landlock.PathAccess(read, slices.Concat(readable, s.Read)...).IgnoreIfMissing(),
	}
}

// homes are the folders that belong to a program: its own and, where it lies in a "bin", the one above, for its library.
func homes(program string) (dirs []string) {
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return nil
	}
	for _, dir := range []string{filepath.Dir(program), filepath.Dir(real)} {
		if up := filepath.Dir(dir); filepath.Base(dir) == "bin" && up != "/" {
			dir = up
		}
		if dir != "/" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// dropCapabilities makes the next program have none of them but those by which root reads files of other users.
func dropCapabilities() error {
	for c := uintptr(0); c < 64; c++ {
		if c == unix.CAP_DAC_OVERRIDE || c == unix.CAP_DAC_READ_SEARCH {
			continue
		}
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_LOWER, c, 0, 0) // EINVAL beyond the last
		if os.Geteuid() != 0 {
			continue // nobody else gains any by starting a program that has none
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// filterCalls has the kernel refuse system calls that reading tags does not need: those of network, debugging, mounting
// and administration, and all that change a file, its name or its attributes.
func filterCalls() error {
	var opening []condition
	for number, argument := range openCalls() {
		const writing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
		opening = append(opening, condition{number, argument, unix.BPF_JSET, []uint32{writing}})
	}
	program := filter(slices.Concat(refusedCalls(), refusedLegacyCalls()), opening)
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&f)), 0, 0)
	runtime.KeepAlive(program)
	return err
}

// Offsets in struct seccomp_data, and the words of its arguments on a little-endian machine: see seccomp(2).
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// condition under which a call is refused: that its argument is one of the values (BPF_JEQ), or has one of their bits (BPF_JSET).
type condition struct {
	call, argument uint32
	test           uint16
	values         []uint32
}

// filter is a program for seccomp(2). It kills on a call of another architecture, and answers EPERM to what is refused.
func filter(refused []uint32, conditions []condition) []unix.SockFilter {
	const refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	load := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: k}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	p := []unix.SockFilter{
		load(offsetArch), jump(unix.BPF_JEQ, auditArch, 1, 0), ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(offsetNumber), jump(unix.BPF_JGE, 1<<30, 0, 1), ret(refuse), // x32's numbers
	}
	for _, number := range refused {
		p = append(p, jump(unix.BPF_JEQ, number, 0, 1), ret(refuse))
	}
	for _, c := range conditions {
		p = append(p, jump(unix.BPF_JEQ, c.call, 0, uint8(2+2*len(c.values))), load(offsetArgs+8*c.argument))
		for _, v := range c.values {
			p = append(p, jump(c.test, v, 0, 1), ret(refuse))
		}
		p = append(p, ret(unix.SECCOMP_RET_ALLOW))
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

// refusedCalls are refused on every architecture. Openat2 hides its flags from a filter; nothing here uses it.
func refusedCalls() []uint32 {
	return []uint32{
		unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN,
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
		unix.SYS_PERF_EVENT_OPEN, unix.SYS_BPF, unix.SYS_USERFAULTFD, unix.SYS_FANOTIFY_INIT,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT,
		unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_REBOOT, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
		unix.SYS_DELETE_MODULE, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX,
		unix.SYS_CLOCK_ADJTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
		unix.SYS_QUOTACTL_FD, unix.SYS_SYSLOG, unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SEMGET, unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP, unix.SYS_SEMCTL,
		unix.SYS_MSGGET, unix.SYS_MSGSND, unix.SYS_MSGRCV, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
		unix.SYS_OPENAT2, unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2,
		unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_TRUNCATE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
		unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
		unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_SETXATTRAT,
		unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR, unix.SYS_REMOVEXATTRAT, unix.SYS_FILE_SETATTR,
	}
}

// toolFilter is what ExifTool installs itself before it reads anything (see pager.pl), since the keeper needs these calls: it
// refuses to start processes and programs, and to reach for other processes. Neither Landlock nor a limit of processes
// keeps root from the former, or anybody from changing the limits and priorities of this user's other processes. It is the
// number of prctl(2), a newline, and a program as filterCalls installs one.
func toolFilter() []byte {
	text := []byte(strconv.Itoa(unix.SYS_PRCTL) + "\n")
	signals := condition{unix.SYS_FCNTL, 1, unix.BPF_JEQ, []uint32{unix.F_SETOWN, unix.F_SETOWN_EX, unix.F_SETSIG, unix.F_SETLEASE, unix.F_NOTIFY}}
	for _, f := range filter(slices.Concat(toolCalls(), toolLegacyCalls()), []condition{signals}) {
		text = binary.NativeEndian.AppendUint16(text, f.Code)
		text = append(text, f.Jt, f.Jf)
		text = binary.NativeEndian.AppendUint32(text, f.K)
	}
	return text
}

func toolCalls() []uint32 {
	return []uint32{
		unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_SETSID, unix.SYS_SETPGID,
		unix.SYS_PRCTL, // it could outlive its keeper
		unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_TGKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO,
		unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PROCESS_MRELEASE, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
		unix.SYS_PRLIMIT64, unix.SYS_SETPRIORITY, unix.SYS_IOPRIO_SET,
		unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETATTR,
		unix.SYS_SYNC, unix.SYS_SYNCFS,
	}
}
