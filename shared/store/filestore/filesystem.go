//go:build linux

package filestore

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// fileSystem says what a type of file system does.
type fileSystem struct {
	// guarded: renameat2 with RENAME_NOREPLACE is atomic whoever else writes. True only for file systems of one
	// machine, where the kernel's own locks see every writer.
	guarded bool
	// keepsInode: inode numbers survive until the file is removed; elsewhere they are made up when a file is first seen.
	keepsInode bool
	// passing: inode numbers can change all the same, when a file is first written to or where the file system is mounted again, or it
	// is not known that they do not.
	passing bool
	// exchanges: renameat2 knows RENAME_EXCHANGE.
	exchanges bool
	foldsCase bool
}

const (
	zfsMagic       = 0x2fc12fc1 // OpenZFS, include/sys/fs/zfs.h
	ntfs3Magic     = 0x7366746e // Linux, fs/ntfs3/super.c
	hfsplusMagic   = 0x482b     // Linux, fs/hfsplus/hfsplus_raw.h
	casefoldFlag   = 0x40000000 // FS_CASEFOLD_FL, Linux, include/uapi/linux/fs.h
	methodRename   = "renameat2"
	methodLink     = "link+unlink"
	remedyExchange = "give one of them another name first"
	remedyRenames  = "keep the archive on ext4, XFS, Btrfs, ZFS or another local file system and run Reshelf on that machine, " +
		"or make sure that nothing else writes to it and allow it with --assume-single-writer"
)

// fileSystemOf tells the file system of an open directory by its statfs(2) type, from the kernel's sources as of 6.18.
func fileSystemOf(dir *os.File) (fileSystem, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(dir.Fd()), &st) }); err != nil {
		return fileSystem{}, err
	}
	fs := fileSystemOfType(uint32(st.Type)) //nolint:gosec // magic numbers have 32 bits
	if flags, err := unix.IoctlGetUint32(int(dir.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&casefoldFlag != 0 {
		fs.foldsCase = true
	}
	return fs, nil
}

func fileSystemOfType(magic uint32) fileSystem {
	switch magic {
	case unix.OVERLAYFS_SUPER_MAGIC: // numbers can change with a copy up or a mount: Linux, Documentation/filesystems/overlayfs.rst
		return fileSystem{guarded: true, keepsInode: true, passing: true}
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC,
		unix.F2FS_SUPER_MAGIC, unix.BCACHEFS_SUPER_MAGIC, unix.RAMFS_MAGIC, zfsMagic:
		// ZFS knows RENAME_NOREPLACE and RENAME_EXCHANGE since OpenZFS 2.2, ramfs the latter since Linux 5.16; before, they say so by an error.
		return fileSystem{guarded: true, keepsInode: true, exchanges: true}
	case ntfs3Magic:
		return fileSystem{guarded: true, keepsInode: true}
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC:
		return fileSystem{guarded: true, foldsCase: true}
	case unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return fileSystem{foldsCase: true}
	case hfsplusMagic:
		return fileSystem{keepsInode: true, foldsCase: true}
	case unix.FUSE_SUPER_MAGIC:
		return fileSystem{}
	case unix.NFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.V9FS_MAGIC: // the numbers are those of the server
		return fileSystem{keepsInode: true}
	}
	return fileSystem{keepsInode: true, passing: true} // what is not known
}

func (fs fileSystem) properties(root archive.Root) store.Properties {
	p := store.Properties{
		Root:          root,
		Local:         true,
		KeepsMTime:    true,
		GuardedRename: fs.guarded,
		GuardedCopy:   true,
		AtomicRename:  fs.guarded && fs.keepsInode && !fs.passing,
		Exchange:      fs.guarded && fs.keepsInode && !fs.passing && fs.exchanges,
		Parks:         fs.keepsInode && !fs.passing || fs.guarded && !fs.keepsInode,
		RenameMethod:  methodRename,
		FoldsCase:     fs.foldsCase,
		Folders:       true,
		Parallel:      1,
	}
	if !fs.guarded {
		p.RenameMethod, p.Remedy = methodLink, remedyRenames
	}
	return p
}
