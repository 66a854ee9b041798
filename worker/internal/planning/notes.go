package planning

import (
	"cmp"
	"maps"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/reshelf/reshelf/shared/batch"
)

// refuse fails a row that would move where the archive cannot rename safely, or copy, and nobody says that nobody else writes.
func (d *desk) refuse(r *batch.Row) {
	safe, verb := d.props.GuardedRename, "renamed"
	if d.batch.Copies() {
		safe, verb = d.props.GuardedCopy, "copied"
	}
	if !r.Moves() || safe || d.batch.AssumeSingleWriter {
		return
	}
	settle(r, batch.Failed, batch.ReasonUnsupported, "objects cannot be "+verb+" safely in this archive while others write to it: "+
		cmp.Or(d.props.Remedy, "it was not opened for renaming"))
}

// notes are what whoever approves the plan should know of the archive.
func (d *desk) notes(s batch.PlanSummary) (notes []string) {
	if s.Moves == 0 {
		return nil
	}
	for _, what := range slices.Sorted(maps.Keys(s.Changed)) {
		notes = append(notes, "names of "+objects(s.Changed[what])+" were made safe: "+what)
	}
	if s.Sidecars > 0 {
		notes = append(notes, "the names of "+objects(s.Sidecars)+" follow their XMP sidecars")
	}
	if s.SidecarsMuted > 0 {
		notes = append(notes, objects(s.SidecarsMuted)+" named without their XMP sidecars, which could not be used; the rows say why")
	}
	if d.batch.RemoveEmptyFolders && d.props.Folders {
		notes = append(notes, "folders in which nothing is left are removed")
	}
	if d.batch.Copies() {
		return append(notes, d.notesOnCopies(s)...)
	}
	if s.Chained > 0 && d.parks() {
		notes = append(notes, d.parkNote(s.Chained))
	}
	// An undo brings back the versions that are still there.
	copies := d.batch.Kind != batch.Undo || !d.props.Versioned
	if d.props.Versioned && copies {
		notes = append(notes, "the bucket keeps the old versions: it grows by "+humanize.IBytes(uint64(max(0, s.Bytes))))
	}
	if !d.props.KeepsMTime && copies {
		notes = append(notes, "LastModified of renamed objects becomes the time of the rename")
	}
	if d.props.Locked && copies {
		notes = append(notes, "Object Lock: copies get the same retention; the originals stay as versions until it ends")
	}
	if !d.props.GuardedRename {
		notes = append(notes, "renames are safe only while nobody else writes (--assume-single-writer)")
	}
	return notes
}

// notesOnCopies are what is to be known of objects that stay, beside their copies.
func (d *desk) notesOnCopies(s batch.PlanSummary) []string {
	var notes []string
	if d.batch.Method() == batch.MethodLink {
		notes = append(notes, "a hard link is the same file under a second name: who writes to one changes both")
	} else {
		notes = append(notes, "the archive grows by "+humanize.IBytes(uint64(max(0, s.Bytes)))+", less where its file system shares equal contents")
	}
	if d.props.Locked {
		notes = append(notes, "Object Lock: copies get the same retention")
	}
	if !d.props.KeepsMTime {
		notes = append(notes, "LastModified of the copies is the time at which they are made")
	}
	if !d.props.GuardedCopy {
		notes = append(notes, "copies are safe only while nobody else writes (--assume-single-writer)")
	}
	return append(notes, "reshelf undo does not take this back: it never deletes")
}

func objects(n int64) string {
	if n == 1 {
		return "1 object"
	}
	return humanize.Comma(n) + " objects"
}
