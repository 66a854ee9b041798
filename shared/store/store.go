// Package store is the one port through which Reshelf touches an archive or a ledger: a tree of objects on a disk or in
// a bucket. Its promises are stated on Store; storetest checks them for every implementation and decorator.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
)

// What callers branch on. Implementations wrap these with the operation and the key: "rename a.jpg: already exists".
var (
	// ErrExist: the target is there already (or, where Properties.Folders, a prefix of it is an object); nothing was changed.
	ErrExist = errors.New("already exists")
	// ErrNotExist: no such object.
	ErrNotExist = errors.New("does not exist")
	// ErrChanged: the object is not the one whose identity was asked for; nothing was changed.
	ErrChanged = errors.New("has changed")
	// ErrRaced: others renamed the same objects at the same moment. Nothing is lost; what is where has to be looked at.
	ErrRaced = errors.New("was renamed by others at the same moment")
	// ErrNotRegular: the key names a symbolic link, a directory or a special file.
	ErrNotRegular = errors.New("is not a regular file")
	// ErrPermission: the store refused access.
	ErrPermission = errors.New("permission denied")
	// ErrUnsupported: this store cannot do that without risking an object; the message names the remedy.
	ErrUnsupported = errors.New("not supported safely by this store")
	// ErrUnavailable: the root is missing or cannot be reached. It never means that an object is missing.
	ErrUnavailable = errors.New("archive unavailable")
	// ErrNoSpace: the store is full (or over its quota).
	ErrNoSpace = errors.New("no space left")
	// ErrCold: the object is in cold storage and must be restored before it can be read.
	ErrCold = errors.New("is in cold storage")
)

// Kind says what an Entry is. Kinds are stored by name: only append.
type Kind string

// Kinds of Entry.
const (
	Regular Kind = ""        // an object
	Symlink Kind = "symlink" // not followed
	Special Kind = "special" // device, socket, FIFO
	// Unreadable: a directory that could not be listed, in whole or in part, or an entry that could not be described;
	// Entry.Err says why.
	Unreadable Kind = "unreadable"
	// Cold: an object that has to be restored from cold storage before it can be read; Entry.Class says which.
	Cold Kind = "cold"
	// Unaddressable: an object whose key archive.ParseKey refuses ("a//b" in a bucket). It can be listed, but nothing
	// can be done with it.
	Unaddressable Kind = "unaddressable"
)

// Entry is what a listing yields.
type Entry struct {
	archive.Object
	Kind  Kind
	Class string // for Cold: the name of the storage class
	Err   error  // for Unreadable
}

// ListOptions narrow a listing; the zero value lists everything.
type ListOptions struct {
	// After: only keys strictly greater, in byte order.
	After archive.Key
	// Prefix: only keys that start with these bytes; it may end inside a segment ("photos/2024/IMG_") or with a slash.
	Prefix string
	// Skip, if set, is asked for every object and every directory (dir true, key without a slash at its end); where it
	// says true the object, or the directory with all below it, is left out. It must be pure: it is called concurrently.
	Skip func(key archive.Key, dir bool) bool
}

// Content is an open object.
type Content struct {
	io.ReadCloser
	// Object is what was opened, as the store described it at that moment.
	Object archive.Object
	// File is the open local file behind the content, nil for remote stores. It is closed with the content.
	File *os.File
	// Recheck reports nil if the content that was read is still that of Object, else ErrChanged. Call it after reading.
	Recheck func(ctx context.Context) error
}

// RenameRequest says which object goes where.
type RenameRequest struct {
	From, To archive.Key
	// Want is the identity that the object at From must have.
	Want archive.Identity
	// OpID is unique to this row of this plan and equal in every repetition of it: at most 128 letters, digits, hyphens,
	// underscores and dots. Stores that copy mark the target with it, so that a repetition can tell its own target from a
	// foreign one.
	OpID string
	// Undoes is set where this request takes an earlier one back. A store that keeps old versions brings back the one that
	// was renamed, rather than copying; one that copies knows its own copy by it.
	Undoes *Undone
	// Again: an earlier execution of this request may have been interrupted; what it left half done is cleaned up.
	Again bool
	// AssumeSingleWriter allows the forms that are safe only while nobody else writes (see Properties.GuardedRename).
	AssumeSingleWriter bool
	// SameFile: the object must still have its inode number at the new name. Where the rename would take a copy, it is ErrUnsupported.
	SameFile bool
}

// Undone is the request that another one takes back: it moved what is at From now, and was at To then.
type Undone struct {
	OpID string `json:"opId"`
	// Was is the identity that the object had before.
	Was archive.Identity `json:"was"`
}

// ExchangeRequest says which two objects get one another's names.
type ExchangeRequest struct {
	A, B archive.Key
	// WantA and WantB are the identities that the objects at A and at B must have. Both have inode numbers, which differ.
	WantA, WantB archive.Identity
	// Known reports whether an object may be brought to A or B by other executions of what this exchange is part of, which are to be left
	// alone; nil: none may.
	Known func(archive.Identity) bool `json:"-"`
}

// CopyRequest says of which object there is to be another one like it, and where.
type CopyRequest struct {
	From, To archive.Key
	// Want is the identity that the object at From must have, before it is copied and after.
	Want archive.Identity
	// OpID is one as in RenameRequest; a copy is marked with it where that is possible.
	OpID string
	// Link: the target is to be a hard link, the same file under a second name.
	Link bool
	// Digest, if it is not zero, is that of the object's content; a copy of anything else is not made.
	Digest digest.Digest
	// During, if set, is told how many bytes were copied since it was last called, and is called with 0 right before the target gets
	// its name. An error ends the copy, and is returned. It is called from one goroutine at a time.
	During func(n int64) error
	// Again: an earlier execution of this request may have been interrupted; what it left half done is cleaned up.
	Again bool
	// AssumeSingleWriter allows the forms that are safe only while nobody else writes (see Properties.GuardedCopy).
	AssumeSingleWriter bool
}

// Tell calls During, if it is set.
func (r CopyRequest) Tell(n int64) error {
	if r.During == nil {
		return nil
	}
	return r.During(n)
}

// Properties say what a store is and can do. They are fixed while the store is open.
type Properties struct {
	// Root is the store's root.
	Root archive.Root
	// Local: contents are local files.
	Local bool
	// KeepsMTime: a rename keeps Identity.MTime.
	KeepsMTime bool
	// Marks: what a rename made bears its mark (archive.Object.Mark), and nothing else proves it.
	Marks bool
	// GuardedRename: a rename neither replaces an object nor deletes a source that was changed meanwhile, whoever
	// else writes. Where false, Rename fails with ErrUnsupported unless AssumeSingleWriter is set.
	GuardedRename bool
	// GuardedCopy: a copy never replaces an object, whoever else writes. Where false, Copy fails with ErrUnsupported unless
	// AssumeSingleWriter is set.
	GuardedCopy bool
	// AtomicRename: where nobody assumes a single writer, a rename is one step, and its object is known again at the new name
	// whatever has come to the old one. So an execution that was stopped half way does no harm when it goes on.
	AtomicRename bool
	// Exchange: two objects can exchange their names in one step. It is set only where AtomicRename is.
	Exchange bool
	// Parks: where an object is can be told whatever has come to the names that it had, and a name is free as soon as its object has left
	// it. So objects can get the names of others, also where renames take two steps, if all of them go to names in between first. What tells
	// is the mark of the rename (Marks), or the inode number, which a file keeps under every name, also where the archive is opened again or
	// by another machine, and which no other file of its file system has meanwhile. A rename that is interrupted half way leaves the object
	// at both names, and whoever looks at a name afterwards, on whatever machine, sees what is there. Where there are neither marks nor inode
	// numbers, size and time tell, unless two objects have both in common (archive.Identity.File); a rename is one step there.
	Parks bool
	// RenameMethod names how renames are made, for doctor and reports: "renameat2", "link+unlink", …
	RenameMethod string
	// Remedy says what would make renames safe, where GuardedRename is false.
	Remedy string
	// FoldsCase: "A" and "a" are one key. Stat finds an object by either, and only a listing tells which one it has.
	FoldsCase bool
	// Folders: what is the prefix of a key is a folder, and cannot be an object too. Where false, "a" and "a/b" may both
	// be objects.
	Folders bool
	// Versioned: what is renamed away or deleted stays as an older version, and takes room.
	Versioned bool
	// Locked: the store keeps objects from being deleted for a time (S3 Object Lock).
	Locked bool
	// MaxKey bounds a key, in bytes; 0 means archive.MaxKeyBytes.
	MaxKey int
	// UTF8: keys must be valid UTF-8.
	UTF8 bool
	// Parallel is how many objects of a segment are worked on at once: what hides the latency of a remote store; 1 on a
	// disk. Zero means 1.
	Parallel int
}

// Takes reports whether the store can have an object of that key: nil, or ErrUnsupported with the reason.
func (p Properties) Takes(key archive.Key) error {
	switch {
	case p.MaxKey > 0 && len(key) > p.MaxKey:
		return fmt.Errorf("%w: the key has %d bytes; this store takes %d", ErrUnsupported, len(key), p.MaxKey)
	case p.UTF8 && !utf8.ValidString(string(key)):
		return fmt.Errorf("%w: the key is not valid UTF-8, which this store asks for", ErrUnsupported)
	}
	return nil
}

// Store is a tree of objects below one root. All methods are safe for concurrent use by many goroutines and processes,
// end soon after ctx is done, and never touch anything outside the root, not through ".." and not through symbolic
// links. Errors wrap the sentinels of this package where one fits and always name the key in its escaped form.
type Store interface {
	// Properties says what this store can do.
	Properties() Properties

	// List yields entries in strictly ascending byte order of their keys, each at most once, and can be resumed with
	// ListOptions.After. What appears or vanishes meanwhile may or may not be yielded. A directory that cannot be
	// read is an Unreadable entry and does not end the listing; an error ends it. Temporary objects
	// (see Temporary) are not listed. A root that is missing is ErrUnavailable. Where the key of an unreadable directory is
	// not among those asked for, but keys below it are (After lies inside it, Prefix below it), its error ends the listing:
	// it is never left out in silence.
	List(ctx context.Context, opts ListOptions) iter.Seq2[Entry, error]

	// Stat describes one object, with its Mark: ErrNotExist, ErrNotRegular.
	Stat(ctx context.Context, key archive.Key) (archive.Object, error)

	// Open opens length bytes from offset; length -1 means to the end. A non-zero want must match: ErrChanged.
	// An offset at or past the end gives an empty content. No more is read than the object had when it was opened, and
	// reading ends with ctx.
	Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*Content, error)

	// Checksums are the digests of an object's whole content that the store itself keeps and vouches for, and the object
	// that they are of; none where it keeps none. A non-zero want must match: ErrChanged. Nothing of the content is read.
	Checksums(ctx context.Context, key archive.Key, want archive.Identity) ([]digest.Digest, archive.Object, error)

	// Create stores a new object whole, or nothing: ErrExist if the key is taken, also against concurrent creators,
	// of whom exactly one wins. When Create returns nil the object is durable. body is read to its end at most once.
	Create(ctx context.Context, key archive.Key, body io.Reader) error

	// Replace stores an object whole, replacing the one that may be there, atomically and durably. It is for a
	// ledger's own bookkeeping and is never used on an archive; a store that was opened as an archive refuses it with
	// ErrUnsupported.
	Replace(ctx context.Context, key archive.Key, body io.Reader) error

	// Rename moves one object without ever replacing another. It may be repeated: where the source is gone, or something
	// else has its name by now, and the target is provably the object that this request moved (see docs/decisions), it
	// succeeds again. Onto itself it succeeds and does nothing.
	//   ErrExist     the target is taken by something else; nothing was changed
	//   ErrChanged   the source is not Want; nothing was changed
	//   ErrNotExist  neither source nor own target is there
	//   ErrUnsupported  see Properties.GuardedRename
	// On local stores a rename is durable only after Sync.
	Rename(ctx context.Context, req RenameRequest) error

	// Exchange gives two objects one another's names in one step, so that both are always there, each under one of the two
	// names, and nothing can be replaced, whoever else writes.
	//   ErrNotExist  nothing is at A or at B; nothing was changed
	//   ErrChanged   what is at A is not WantA, or at B not WantB, be it that both have one another's names already; nothing was changed
	//   ErrRaced     the names were exchanged, and what is there is not what was meant. If it is something that is not Known, it
	//                came in the last moment, and the names were exchanged back
	//   ErrUnsupported  see Properties.Exchange
	// After any other error the world has to be looked at. On local stores an exchange is durable only after Sync, of both keys.
	Exchange(ctx context.Context, req ExchangeRequest) error

	// Copy makes another object like the one at From, with its content and what else belongs to it, or a hard link of it. The object
	// itself stays as it is, and nothing is replaced or deleted. The target gets its name when it is whole, and not before. Copy may
	// be repeated: where the target is provably what this request made, it succeeds again.
	//   ErrExist     the target is taken by something else; nothing was changed
	//   ErrChanged   the source is not Want, has not the content of Digest, or changed while it was copied; nothing was changed
	//   ErrNotExist  neither source nor own target is there
	//   ErrUnsupported  see Properties.GuardedCopy; or there can be no hard link of the object there
	// On local stores what was copied is durable, and its name only after Sync.
	Copy(ctx context.Context, req CopyRequest) error

	// Copied reports whether the target is provably what this request made. It changes nothing.
	Copied(ctx context.Context, req CopyRequest) (bool, error)

	// Sync makes finished renames and copies from and to these keys durable, in their order: give the targets before the sources.
	Sync(ctx context.Context, keys []archive.Key) error

	// Delete removes an object, only if it has the identity want (zero: whatever it is); ErrNotExist if it is gone.
	// Nothing calls it on an archive; a store that was opened as an archive refuses it with ErrUnsupported.
	Delete(ctx context.Context, key archive.Key, want archive.Identity) error

	// RemoveFolder removes a folder if nothing is in it, as far as folders exist by themselves. It is no error if something is, if
	// there is no such folder, or if it may not be removed. Whoever needs the folder meanwhile makes it again.
	RemoveFolder(ctx context.Context, key archive.Key) (removed bool, err error)

	// Close frees what the store holds. Contents must be closed before.
	Close() error
}

// TempPrefix starts the name of every temporary object that Reshelf makes, or of the folder that it is in. Such names, and
// what is below them, are never listed.
const TempPrefix = ".reshelf-tmp-"

// Temporary reports whether a segment of key starts with TempPrefix.
func Temporary(key archive.Key) bool {
	return strings.HasPrefix(string(key), TempPrefix) || strings.Contains(string(key), "/"+TempPrefix)
}
