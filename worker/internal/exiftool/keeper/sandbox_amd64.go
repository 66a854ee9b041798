package keeper

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// openCalls are the calls that open files, each with the place of its flags among its arguments.
func openCalls() map[uint32]uint32 { return map[uint32]uint32{unix.SYS_OPEN: 1, unix.SYS_OPENAT: 2} }

// refusedLegacyCalls are those that newer architectures do not have.
func refusedLegacyCalls() []uint32 {
	return []uint32{
		unix.SYS_CREAT, unix.SYS_MKDIR, unix.SYS_MKNOD, unix.SYS_UNLINK, unix.SYS_RMDIR, unix.SYS_RENAME, unix.SYS_LINK, unix.SYS_SYMLINK,
		unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT, unix.SYS_IOPL, unix.SYS_IOPERM,
	}
}

func toolLegacyCalls() []uint32 { return []uint32{unix.SYS_FORK, unix.SYS_VFORK} }
