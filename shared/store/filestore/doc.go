// Package filestore keeps objects as files below one directory of a Linux machine.
//
// # Staying inside the root
//
// Every operation starts at an [os.Root] and walks down one segment at a time with openat(2), O_NOFOLLOW and O_DIRECTORY,
// then works relative to the descriptor it arrived at. That is stricter than os.Root alone, which follows symbolic links
// that stay inside the root: such a link would give one file two keys. A path through a link is ErrNotRegular.
//
// Every operation also makes sure that the path of the root still leads to the directory that was opened, so that an
// archive that was unmounted, moved away or mounted over is ErrUnavailable and never looks empty.
//
// # Renaming
//
// On the file systems that are known to do it atomically, a rename is one renameat2(2) with RENAME_NOREPLACE. The source is
// held open (O_PATH) meanwhile, so that its inode number cannot be used again, and the target is compared with it
// afterwards: if somebody swapped the source in the last moment, it is moved back, again without replacing.
//
// Everywhere else a rename needs [store.RenameRequest.AssumeSingleWriter], since a source that is removed by name may have
// been swapped just before: link(2) then unlink(2) where RENAME_NOREPLACE is unknown, copying where source and target
// are on different devices. [store.Properties] tells it from the type of the file system (statfs), without writing to
// the archive; a file system that is not known to be safe is taken for unsafe. In particular SMB accepts the flag but
// only looks at its own cache, and a FUSE server may accept and ignore it.
//
// A request may be repeated. Its target is its own if the source is gone and the target has the identity Want; after a copy, if
// the target carries the request's OpID in the extended attribute user.reshelf.op. Where both names lead to one inode,
// the source is removed only if link+unlink is this file system's method, the single writer was assumed, the link count
// is at least 2 and both names are listed exactly so: on a file system that folds case "A" and "a" are one link, and
// removing either would lose the file. A change of case alone takes two renames there, by way of another name.
//
// # Exchanging
//
// Two objects exchange their names by one renameat2(2) with RENAME_EXCHANGE, on the file systems that are known to have it. Both
// are held open meanwhile, and both names are looked at afterwards. If somebody swapped one of the objects in the last moment, the
// names are exchanged back; what other executions of the same work did at that moment is left to them to judge. Nothing can be
// replaced by it, and neither name is ever free.
//
// # Copying
//
// A copy is written to a file that has no name (O_TMPFILE), or shares the blocks of its source (FICLONE), is read again, and gets its
// name by linkat(2), which never replaces, when it is on the disk. A hard link is made of the very file that is held open.
// Where a file system knows no files without names, or /proc is not there, both have temporary names first, and get their
// own by renameat2(2) with RENAME_NOREPLACE, or by link(2) where that flag may be ignored. So copies need no single writer.
//
// A repetition knows a hard link by its inode, and a copy by its size, its time, and either the request's OpID in
// user.reshelf.op or, where the file system keeps no such attributes, the content of the source.
//
// # Names that nobody sees
//
// Files are written under a name with [store.TempPrefix] in the directory where they go. A process that is killed can
// leave such a file behind; it is never a finished object's only name.
package filestore
