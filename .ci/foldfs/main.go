// Command foldfs mounts a directory a second time so that names are folded, as on file systems that ignore case: foldfs DIRECTORY MOUNTPOINT.
// It is for tests, needs /dev/fuse, and ends when it is unmounted or interrupted. Names keep the spelling with which they were made, and
// RENAME_NOREPLACE is passed on to the disk below.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: foldfs DIRECTORY MOUNTPOINT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "foldfs:", err)
		os.Exit(1)
	}
}

func run(directory, mountpoint string) error {
	var never time.Duration // the kernel asks for every name each time
	server, err := fs.Mount(mountpoint, &node{tree: &tree{known: map[uint64]*node{}}, name: directory}, &fs.Options{
		EntryTimeout: &never, AttrTimeout: &never, NegativeTimeout: &never,
		MountOptions: fuse.MountOptions{FsName: directory, Name: "foldfs", DisableXAttrs: true},
	})
	if err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		_ = server.Unmount() // fails while it is used; then the next signal ends it
		<-interrupted
		os.Exit(1)
	}()
	server.Wait()
	return nil
}

// tree is what the kernel knows of the directory below.
type tree struct {
	names sync.Mutex // held while names are looked up or changed

	mu    sync.Mutex
	known map[uint64]*node // by inode number
	made  uint64           // nodes so far: inode numbers are given again, generations are not
}

// node is a file or directory below, at the name at which it was last seen or brought to.
type node struct {
	fs.Inode
	*tree
	parent *node // nil: the root
	name   string
}

var (
	_ fs.NodeLookuper    = (*node)(nil)
	_ fs.NodeGetattrer   = (*node)(nil)
	_ fs.NodeSetattrer   = (*node)(nil)
	_ fs.NodeOpener      = (*node)(nil)
	_ fs.NodeReaddirer   = (*node)(nil)
	_ fs.NodeCreater     = (*node)(nil)
	_ fs.NodeMkdirer     = (*node)(nil)
	_ fs.NodeUnlinker    = (*node)(nil)
	_ fs.NodeRmdirer     = (*node)(nil)
	_ fs.NodeLinker      = (*node)(nil)
	_ fs.NodeRenamer     = (*node)(nil)
	_ fs.NodeFsyncer     = (*node)(nil)
	_ fs.NodeStatfser    = (*node)(nil)
	_ fs.NodeOnForgetter = (*node)(nil)
)

// OnForget: the kernel does not know the node any more.
func (n *node) OnForget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ino := n.StableAttr().Ino; n.known[ino] == n {
		delete(n.known, ino)
	}
}

// path leads to the node.
func (n *node) path() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	path := n.name
	for up := n.parent; up != nil; up = up.parent {
		path = up.name + "/" + path
	}
	return path
}

// below is the path of a name in the directory.
func (n *node) below(name string) string { return n.path() + "/" + name }

// moved says that a file has another name now, in the directory.
func (n *node) moved(ino uint64, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.known[ino]; c != nil {
		c.parent, c.name = n, name
	}
}

// entries are the names in a directory.
func (n *node) entries() ([]fuse.DirEntry, error) {
	entries, err := os.ReadDir(n.path())
	out := make([]fuse.DirEntry, len(entries))
	for i, e := range entries {
		out[i].Name, out[i].Mode = e.Name(), unix.S_IFREG
		if e.IsDir() {
			out[i].Mode = unix.S_IFDIR
		}
		if info, err := e.Info(); err == nil {
			out[i].Ino = info.Sys().(*syscall.Stat_t).Ino
		}
	}
	return out, err
}

// actual is the spelling of a name that is there, or the name.
func (n *node) actual(name string) string {
	if _, err := os.Lstat(n.below(name)); err == nil {
		return name
	}
	entries, _ := n.entries()
	for _, e := range entries {
		if strings.EqualFold(e.Name, name) {
			return e.Name
		}
	}
	return name
}

// child is the node of what has exactly that name.
func (n *node) child(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	var st syscall.Stat_t
	if err := syscall.Lstat(n.below(name), &st); err != nil {
		return nil, fs.ToErrno(err)
	}
	out.FromStat(&st)
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.known[st.Ino]
	if c == nil || c.StableAttr().Mode != st.Mode&unix.S_IFMT {
		c = &node{tree: n.tree}
		n.made++
		n.NewInode(ctx, c, fs.StableAttr{Mode: st.Mode & unix.S_IFMT, Ino: st.Ino, Gen: n.made})
		n.known[st.Ino] = c
	}
	c.parent, c.name = n, name
	return c.EmbeddedInode(), 0
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.names.Lock()
	defer n.names.Unlock()
	return n.child(ctx, n.actual(name), out)
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	var st syscall.Stat_t
	if err := syscall.Lstat(n.path(), &st); err != nil {
		return fs.ToErrno(err)
	}
	out.FromStat(&st)
	return 0
}

func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if mode, ok := in.GetMode(); ok {
		if err := os.Chmod(n.path(), os.FileMode(mode&0o777)); err != nil {
			return fs.ToErrno(err)
		}
	}
	if size, ok := in.GetSize(); ok {
		if err := os.Truncate(n.path(), int64(size)); err != nil {
			return fs.ToErrno(err)
		}
	}
	if mtime, ok := in.GetMTime(); ok {
		if err := os.Chtimes(n.path(), time.Time{}, mtime); err != nil {
			return fs.ToErrno(err)
		}
	}
	return n.Getattr(ctx, f, out)
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	fd, err := syscall.Open(n.path(), int(flags)&^syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	return fs.NewLoopbackFile(fd), 0, 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	entries, err := n.entries()
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return fs.NewListDirStream(entries), 0
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.names.Lock()
	defer n.names.Unlock()
	name = n.actual(name)
	fd, err := syscall.Open(n.below(name), int(flags)|syscall.O_CREAT|syscall.O_CLOEXEC, mode)
	if err != nil {
		return nil, nil, 0, fs.ToErrno(err)
	}
	inode, errno := n.child(ctx, name, out)
	return inode, fs.NewLoopbackFile(fd), 0, errno
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.names.Lock()
	defer n.names.Unlock()
	if err := unix.Mkdir(n.below(n.actual(name)), mode); err != nil {
		return nil, fs.ToErrno(err)
	}
	return n.child(ctx, name, out)
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.remove(name, unix.Unlink)
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno { return n.remove(name, unix.Rmdir) }

// remove removes a name, and forgets what had it if that was its last one.
func (n *node) remove(name string, by func(string) error) syscall.Errno {
	n.names.Lock()
	defer n.names.Unlock()
	path := n.below(n.actual(name))
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return fs.ToErrno(err)
	}
	if err := by(path); err != nil {
		return fs.ToErrno(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Nlink == 1 {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.known, st.Ino)
	}
	return 0
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.names.Lock()
	defer n.names.Unlock()
	of, ok := target.(*node)
	if !ok {
		return nil, syscall.EXDEV
	}
	if err := unix.Link(of.path(), n.below(n.actual(name))); err != nil {
		return nil, fs.ToErrno(err)
	}
	return n.child(ctx, name, out)
}

func (n *node) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	n.names.Lock()
	defer n.names.Unlock()
	to, ok := newParent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	var st syscall.Stat_t
	from, target := n.below(n.actual(name)), to.actual(newName)
	if err := syscall.Lstat(from, &st); err != nil {
		return fs.ToErrno(err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to.below(target), uint(flags)); err != nil {
		return fs.ToErrno(err)
	}
	to.moved(st.Ino, target)
	return 0
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	fd, err := syscall.Open(n.path(), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fs.ToErrno(err)
	}
	defer syscall.Close(fd)
	return fs.ToErrno(syscall.Fsync(fd))
}

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	var st syscall.Statfs_t
	if err := syscall.Statfs(n.path(), &st); err != nil {
		return fs.ToErrno(err)
	}
	out.FromStatfsT(&st)
	return 0
}
