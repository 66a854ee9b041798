//go:build linux

package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// Rename implements store.Store; see the package comment. Folders that become empty are kept.
func (s *Store) Rename(ctx context.Context, req store.RenameRequest) error {
	if err := s.rename(ctx, req); err != nil {
		return s.failed("rename "+req.From.Text()+" to", req.To, err)
	}
	return nil
}

func (s *Store) rename(ctx context.Context, req store.RenameRequest) error {
	if err := s.enter(ctx, req.From, req.To); err != nil {
		return err
	}
	src, err := s.pin(req.From)
	if isMissing(err) || isNameTooLong(err) {
		return s.sourceGone(req)
	}
	if errors.Is(err, store.ErrNotRegular) && s.sourceOther(req) == nil {
		return nil // a folder has the source's name by now
	}
	if err != nil {
		return err
	}
	defer src.close()
	s.at("rename: source pinned")
	switch {
	case !req.Want.Same(s.identity(src.st)):
		return s.sourceOther(req)
	case req.From == req.To:
		return nil
	}
	if err := s.carryOut(ctx, req, src); err != nil {
		return s.unlessOwn(req, src, err)
	}
	return nil
}

// carryOut looks at the target and moves the source, which was checked.
func (s *Store) carryOut(ctx context.Context, req store.RenameRequest, src *pinned) error {
	free, err := s.targetFree(req.To)
	switch {
	case err != nil:
		return err
	case !free:
		return s.targetTaken(ctx, req, src)
	case !s.props.GuardedRename && !req.AssumeSingleWriter:
		return unguarded("this file system cannot rename safely while others may write")
	}
	return s.move(ctx, req, src)
}

// unguarded refuses what needs a single writer.
func unguarded(why string) error {
	return fmt.Errorf("%w: %s; %s", store.ErrUnsupported, why, remedyRenames)
}

// sourceGone decides where there is no source: the request was carried out before, or there is nothing to do it with.
func (s *Store) sourceGone(req store.RenameRequest) error {
	mine, err := s.targetIsOwn(req, req.Want.Inode != 0 || req.Want.MTime != 0)
	if mine || err != nil {
		return err
	}
	return store.ErrNotExist
}

// sourceOther decides where another object has the source's name: it may have come after the request was carried out.
// Then only an inode number is proof.
func (s *Store) sourceOther(req store.RenameRequest) error {
	mine, err := s.targetIsOwn(req, req.Want.Inode != 0)
	if mine || err != nil {
		return err
	}
	return store.ErrChanged
}

// unlessOwn looks again after err: another execution of the request may have carried it out since the source was checked.
func (s *Store) unlessOwn(req store.RenameRequest, src *pinned, err error) error {
	gone, changed := errors.Is(err, unix.ENOENT), errors.Is(err, store.ErrChanged)
	if !gone && !changed && !errors.Is(err, unix.EEXIST) && !errors.Is(err, store.ErrExist) {
		return err
	}
	now, statErr := src.stat()
	switch {
	case isMissing(statErr):
		if own := s.sourceGone(req); own == nil || gone {
			return own
		}
	case statErr != nil:
		return statErr
	case idOf(now) != idOf(src.st):
		if own := s.sourceOther(req); own == nil || gone {
			return own
		}
	case gone:
		return errors.New("folders changed in that moment; try again")
	}
	return err
}

// targetIsOwn reports whether the target is provably what this request moved: by its identity, where that is proof, or
// by the mark of a copy.
func (s *Store) targetIsOwn(req store.RenameRequest, identityProves bool) (bool, error) {
	if req.From == req.To {
		return false, nil
	}
	dst, err := s.pin(req.To)
	if err != nil {
		if isMissing(err) || isNameTooLong(err) || errors.Is(err, store.ErrNotRegular) {
			return false, nil
		}
		return false, err
	}
	defer dst.close()
	if identityProves && req.Want.Same(s.identity(dst.st)) {
		return true, nil
	}
	return s.isCopy(dst, req.OpID, req.Want.Size)
}

// targetFree reports whether nothing has the name key, not even by folding of case.
func (s *Store) targetFree(key archive.Key) (bool, error) {
	e, err := s.lookup(key)
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		return false, targetError(err)
	}
	defer e.close()
	_, err = e.stat()
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	return false, err
}

// targetTaken decides where both source and target are there. Only what an interrupted execution of this request left
// is finished.
func (s *Store) targetTaken(ctx context.Context, req store.RenameRequest, src *pinned) error {
	e, err := s.lookup(req.To)
	if err != nil {
		return targetError(err)
	}
	defer e.close()
	same, err := src.isAt(e)
	switch {
	case err != nil:
		return err
	case same:
		return s.bothNames(req, src, e, req.AssumeSingleWriter && !s.props.GuardedRename)
	case !req.AssumeSingleWriter, req.SameFile:
		return store.ErrExist
	}
	return s.resumeCopy(ctx, req, src)
}

// bothNames decides where source and target lead to one file: an interrupted link+unlink, hard links that somebody made,
// one directory seen at two places, or one name on a file system that folds names. byLink: this request may have made the
// target by link(2).
func (s *Store) bothNames(req store.RenameRequest, src *pinned, dst entry, byLink bool) error {
	s.at("rename: both names")
	listed, err := bothListed(src.entry, dst)
	if err != nil {
		return err
	}
	if !listed {
		if _, err := src.stat(); err != nil { // a listing can miss a name that comes meanwhile
			return err
		}
		return fmt.Errorf("%w: to this file system both names are the same; rename to another name first", store.ErrUnsupported)
	}
	st, err := fstat(src.file)
	if err != nil {
		return err
	}
	if !byLink || st.Nlink < 2 {
		return store.ErrExist
	}
	return s.unlinkSource(req, src, dst)
}

// bothListed reports whether the target is a directory entry of its own with exactly that name. A source that is not
// listed is ENOENT: another execution may have removed it.
func bothListed(src, dst entry) (bool, error) {
	srcDir, err := fstat(src.dir)
	if err != nil {
		return false, err
	}
	dstDir, err := fstat(dst.dir)
	if err != nil {
		return false, err
	}
	if src.name == dst.name && idOf(srcDir) == idOf(dstDir) {
		return false, nil
	}
	if listed, err := dst.isListed(); !listed || err != nil {
		return false, err
	}
	listed, err := src.isListed()
	if err == nil && !listed {
		err = unix.ENOENT
	}
	return listed, err
}

// isListed looks for exactly these bytes in the directory, which a lookup does not: it may fold case or normalise.
func (e entry) isListed() (bool, error) {
	dir, err := openat(e.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	r := dirReader{dir: dir, buf: make([]byte, dirBufferBytes)}
	for {
		d, err := r.next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if d.name == e.name {
			return true, nil
		}
	}
}

// folderTries is how often the target's folder is made where others remove it while it is empty.
const folderTries = 5

// move carries the request out; the source was checked and the target was free.
func (s *Store) move(ctx context.Context, req store.RenameRequest, src *pinned) (err error) {
	for range folderTries {
		if err = s.moveOnce(ctx, req, src); !errors.Is(err, unix.ENOENT) {
			return err
		}
		if _, statErr := src.stat(); statErr != nil {
			return err
		}
	}
	return err
}

func (s *Store) moveOnce(ctx context.Context, req store.RenameRequest, src *pinned) error {
	dir, err := s.makeDir(req.To.Dir())
	if err != nil {
		return targetError(err)
	}
	defer dir.Close()
	dst := entry{dir, req.To.Base()}
	s.at("rename: folder made")
	err = s.renameNoReplace(src.dir, src.name, dst.dir, dst.name)
	s.at("rename: renamed")
	switch {
	case err == nil:
		return s.verifyMove(req, src, dst)
	case errors.Is(err, unix.EXDEV) && req.SameFile:
		return errOtherDevice
	case errors.Is(err, unix.EXDEV):
		return s.moveByCopy(ctx, req, src, dst)
	case noReplaceUnknown(err):
		return s.moveByLink(req, src, dst)
	}
	return err
}

// errOtherDevice refuses a rename that would take a copy, of an object that has to stay the same file.
var errOtherDevice = fmt.Errorf("%w: the new name is on another device than the old one, where the object would be another file, "+
	"and it is known by its inode number; rename it by itself, not in a batch in which objects get one another's names", store.ErrUnsupported)

// verifyMove makes sure that what was moved is what was checked, and else moves it back.
func (s *Store) verifyMove(req store.RenameRequest, src *pinned, dst entry) error {
	there, err := dst.stat()
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: it was renamed, and then moved or deleted by somebody else", store.ErrChanged)
	}
	if err != nil {
		return err
	}
	if idOf(there) == idOf(src.st) && req.Want.Same(s.identity(there)) {
		return nil
	}
	s.at("rename: mismatch seen")
	if err := s.renameNoReplace(dst.dir, dst.name, src.dir, src.name); err != nil {
		return fmt.Errorf("%w at the last moment and could not be moved back (%w): what came into its place is now at the target",
			store.ErrChanged, classify(err))
	}
	return store.ErrChanged
}

// moveByLink is for file systems without RENAME_NOREPLACE. link(2) never replaces; the source is then removed by name,
// which is safe only while nobody else writes.
func (s *Store) moveByLink(req store.RenameRequest, src *pinned, dst entry) error {
	if !req.AssumeSingleWriter {
		return unguarded("this file system does not know RENAME_NOREPLACE")
	}
	err := s.link(src.dir, src.name, dst.dir, dst.name)
	s.at("rename: linked")
	switch {
	case err == nil:
	case errors.Is(err, unix.EEXIST): // over NFS also if the first answer was lost
		if same, statErr := src.isAt(dst); statErr != nil || !same {
			return errors.Join(statErr, store.ErrExist)
		}
		return s.bothNames(req, src, dst, true)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMLINK):
		return fmt.Errorf("%w: neither RENAME_NOREPLACE nor a hard link is to be had (%w); %s", store.ErrUnsupported, err, remedyRenames)
	default:
		return err
	}
	return s.unlinkSource(req, src, dst)
}

// unlinkSource ends a link+unlink: both names are there and lead to one file with at least two links.
func (s *Store) unlinkSource(req store.RenameRequest, src *pinned, dst entry) error {
	// The new name, and the folders made for it, must reach the disk before the old name leaves it.
	if err := s.syncNames(dst.dir, req.To.Dir()); err != nil {
		return err
	}
	s.at("rename: link synced")
	if err := refresh(src.dir); err != nil {
		return err
	}
	st, err := dst.stat()
	if err != nil {
		return err
	}
	now, err := src.stat()
	if err != nil {
		return err
	}
	if idOf(now) != idOf(src.st) || idOf(st) != idOf(src.st) || st.Nlink < 2 || !req.Want.Same(s.identity(st)) {
		return fmt.Errorf("%w while it was renamed: both names were kept", store.ErrChanged)
	}
	if err := unlinkat(src.dir, src.name); err != nil {
		return err
	}
	s.at("rename: unlinked")
	return nil
}
