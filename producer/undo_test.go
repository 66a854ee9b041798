package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/batch"
)

// batches are the ids in the ledger, the newest first.
func (b *bench) batches() []string {
	b.t.Helper()
	var ids []string
	for line := range strings.Lines(b.want(0, nil, "list", "--json", "--limit", "0").stdout) {
		var row struct{ ID string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			b.t.Fatal(err)
		}
		ids = append(ids, row.ID)
	}
	return ids
}

// holds checks the names in the archive.
func (b *bench) holds(names ...string) {
	b.t.Helper()
	slices.Sort(names)
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(b.files()))); diff != "" {
		b.t.Errorf("files (-want +got):\n%s", diff)
	}
}

const away = "n/{name}{ext}"

func TestUndoOfChosenKeys(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3", "d/4.cr2": "4", "d/4.jpg": "four", "d/5.txt": "5"})
	b.want(0, []string{"6 objects renamed"}, "rename", b.archive, away, "--yes")
	renamed := b.batches()[0]
	b.want(0, []string{"of chosen objects only", "rename back  1 object", "1 object renamed back"}, "undo", "last", "n/1.txt", "--yes")
	b.holds("d/1.txt", "n/2.txt", "n/3.txt", "n/4.cr2", "n/4.jpg", "n/5.txt")
	b.want(0, []string{"objects", "those that a manifest names"}, "show", "last")

	// Of what belongs together one is chosen, and a path of the disk is a key too.
	b.want(0, []string{"1 object not chosen, but moved too", "n/4.cr2", "2 objects renamed back"},
		"undo", "last", filepath.Join(b.archive, "n/4.jpg"), "--yes")
	b.holds("d/1.txt", "n/2.txt", "n/3.txt", "d/4.cr2", "d/4.jpg", "n/5.txt")

	// What is not of the batch fails, alone; an old name is none.
	b.stdin = "n/2.txt\nn/none.txt\nd/3.txt\n"
	b.want(1, []string{"not-in-batch: 2 objects", "n/none.txt", "1 object renamed back"}, "undo", renamed, "--manifest", "-", "--yes")
	b.want(0, []string{"rename back  1 object"}, "undo", "last", "--include", "n/**", "--exclude", "5.*", "--yes")
	b.holds("d/1.txt", "d/2.txt", "d/3.txt", "d/4.cr2", "d/4.jpg", "n/5.txt")

	// Still the last batch that is not wholly undone: the rest.
	b.want(0, []string{"rename back  1 object", "leave        5 objects: 5 unchanged"}, "undo", "last", "--yes")
	b.holds("d/1.txt", "d/2.txt", "d/3.txt", "d/4.cr2", "d/4.jpg", "d/5.txt")
	b.want(4, []string{"not undone"}, "undo", "last")
}

// TestPartsAmountToAll: undos of chosen keys that amount to all leave nothing for another one.
func TestPartsAmountToAll(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2"})
	b.want(0, nil, "rename", b.archive, away, "--yes")
	renamed := b.batches()[0]
	b.want(0, nil, "undo", "last", "n/1.txt", "--yes")
	first := b.batches()[0]
	b.want(0, nil, "undo", "last", "n/2.txt", "--yes")
	b.want(4, []string{"not undone"}, "undo", "last")
	// The undo of an undo renames again; then there is something to undo again.
	b.want(0, nil, "undo", first, "d/1.txt", "--yes")
	b.holds("n/1.txt", "d/2.txt")
	b.want(0, []string{"undoes batch " + renamed, "1 object renamed back", "1 unchanged"}, "undo", "last", "n/1.txt", "n/2.txt", "--yes")
	b.holds("d/1.txt", "d/2.txt")
}

// TestUndoLeavesALaterRenameAlone: what another batch has renamed to the same name since is not this batch's.
func TestUndoLeavesALaterRenameAlone(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2"})
	b.want(0, nil, "rename", b.archive, away, "--yes")
	first := b.batches()[0]
	b.want(0, nil, "undo", "last", "n/1.txt", "--yes")
	b.want(0, []string{"1 object renamed"}, "rename", b.archive, away, "--yes")
	b.holds("n/1.txt", "n/2.txt")
	b.want(0, []string{"rename back  1 object", "1 unchanged"}, "undo", first, "--yes")
	b.holds("n/1.txt", "d/2.txt")
	b.want(0, []string{"rename back  1 object"}, "undo", "last", "--yes")
	b.holds("d/1.txt", "d/2.txt")
}

func TestUndoRefusesKeysThatAreNone(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1"})
	b.want(0, nil, "rename", b.archive, away, "--yes")
	before := len(b.batches())
	for _, args := range [][]string{
		{"../1.txt"}, {"n/"}, {""}, {"/etc/passwd"}, {"--manifest", "-", "n/1.txt"}, {"--include", "["}, {"--manifest", "-", "--manifest-format", "xml"},
		{"--check", "--yes"}, {"--check", "--detach"},
	} {
		b.want(2, nil, append([]string{"undo", "last"}, args...)...)
	}
	b.stdin = "../etc/passwd\n"
	b.want(4, []string{"line 1"}, "undo", "last", "--manifest", "-", "--yes")
	b.want(4, []string{"line 1"}, "undo", "last", "--manifest", "-", "--check")
	if after := len(b.batches()); after != before {
		t.Errorf("%d batches were made of what is no key", after-before)
	}
	b.holds("n/1.txt")
}

func TestUndoCheck(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3", "d/4.txt": "4", "d/5.txt": "5", "d/\x1b6.txt": "6"})
	b.want(0, nil, "rename", b.archive, away, "--yes")
	b.want(0, []string{"can be renamed back     6 objects", "cannot be renamed back  0 objects", "Nothing was changed"}, "undo", "last", "--check")
	b.want(0, nil, "undo", "last", "n/1.txt", "--yes")
	b.write("n/2.txt", "another")
	if err := os.Remove(filepath.Join(b.archive, "n/3.txt")); err != nil {
		t.Fatal(err)
	}
	b.write("d/4.txt", "in the way")
	b.write("n/_6.txt", "changed")
	before := b.tree(b.ledger)
	files := b.files()
	o := b.want(1, []string{
		"can be renamed back     1 object", "back, or never renamed  1 object",
		"cannot be renamed back  4 objects: 2 changed, 1 conflict, 1 missing", `d/\u{1b}6.txt`,
	}, "undo", "last", "--check")
	if strings.Contains(o.stdout+o.stderr, "\x1b") {
		t.Errorf("control characters reach the terminal: %q", o.stdout)
	}
	var got struct {
		Can, Back, Cannot int64
		Reasons           map[batch.Reason]int64
		Chosen            bool
	}
	if err := json.Unmarshal([]byte(b.want(1, nil, "undo", "last", "--check", "--json").stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Can != 1 || got.Back != 1 || got.Cannot != 4 || got.Reasons[batch.ReasonChanged] != 2 || got.Chosen {
		t.Errorf("got %+v, want 1, 1 and 4 objects, 2 changed, not chosen", got)
	}
	b.want(0, []string{"can be renamed back     1 object"}, "undo", "last", "n/5.txt", "--check")
	b.want(1, []string{"1 not-in-batch"}, "undo", "last", "n/none", "--check")
	if diff := cmp.Diff(before, b.tree(b.ledger)); diff != "" {
		t.Errorf("the ledger has changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(files, b.files()); diff != "" {
		t.Errorf("the archive has changed (-before +after):\n%s", diff)
	}
	b.want(1, []string{"rename back  1 object"}, "undo", "last", "--yes") // as was said
}

func TestUndoCheckOfAnArchiveThatIsGone(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1"})
	b.want(0, nil, "rename", b.archive, away, "--yes")
	if err := os.RemoveAll(b.archive); err != nil {
		t.Fatal(err)
	}
	b.want(4, []string{"unavailable"}, "undo", "last", "--check")
}

// tree are the names and contents below a folder.
func (b *bench) tree(dir string) map[string]string {
	b.t.Helper()
	return (&bench{t: b.t, archive: dir}).files()
}
