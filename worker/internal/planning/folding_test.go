package planning_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// newFoldingWorld is newWorld with an archive that folds names.
func newFoldingWorld() *world {
	w := newWorld()
	w.archive = memstore.NewFolding(archive.Root{}, naming.Fold)
	return w
}

func TestPlanWhereNamesAreFolded(t *testing.T) {
	upper := "{dir}/{name}{ext|lower}"
	tests := map[string]struct {
		objects  []object
		template string
		want     map[archive.Key]string
		parked   []archive.Key // those with names in between
	}{
		"case of an object": {
			objects: []object{{key: "d/IMG_1.JPG"}, {key: "d/IMG_2.jpg"}}, template: upper,
			want:   map[archive.Key]string{"d/IMG_1.JPG": "d/IMG_1.jpg", "d/IMG_2.jpg": "skipped: unchanged"},
			parked: []archive.Key{"d/IMG_1.JPG"},
		},
		"a group": {
			objects: []object{{key: "IMG_1.JPG"}, {key: "IMG_1.XMP"}, {key: "IMG_1.JPG.xmp"}}, template: "{dir}/{name|lower}{ext|lower}",
			want:   map[archive.Key]string{"IMG_1.JPG": "img_1.jpg", "IMG_1.XMP": "img_1.XMP", "IMG_1.JPG.xmp": "img_1.jpg.xmp"},
			parked: []archive.Key{"IMG_1.JPG", "IMG_1.XMP", "IMG_1.JPG.xmp"},
		},
		"form of letters": {
			objects: []object{{key: "a\u0308.jpg"}}, template: "{dir}/\u00e4{ext}",
			want: map[archive.Key]string{"a\u0308.jpg": "\u00e4.jpg"}, parked: []archive.Key{"a\u0308.jpg"},
		},
		"another name": {
			objects: []object{{key: "d/IMG_1.JPG", day: 1}}, template: "{dir}/{date:%d}{ext}",
			want: map[archive.Key]string{"d/IMG_1.JPG": "d/01.JPG"},
		},
		"another name in a folder of another case": {
			objects: []object{{key: "d/IMG_1.JPG", day: 1}}, template: "D/{date:%d}{ext}",
			want: map[archive.Key]string{"d/IMG_1.JPG": "D/01.JPG"},
		},
		"case of a folder": {
			objects: []object{{key: "d/IMG_1.JPG"}}, template: "D/{name}{ext}",
			want: map[archive.Key]string{"d/IMG_1.JPG": "failed: target-exists"},
		},
		"case of a folder and of an object": {
			objects: []object{{key: "d/IMG_1.JPG"}}, template: "D/{name}{ext|lower}",
			want: map[archive.Key]string{"d/IMG_1.JPG": "failed: target-exists"},
		},
		"the name of another object": {
			objects: []object{{key: "a.JPG", day: 1}, {key: "01.jpg", excluded: true}}, template: "{date:%d}{ext}",
			want: map[archive.Key]string{"a.JPG": "failed: target-exists"},
		},
		"the name that goes with another case, which is in no chain": {
			objects:  []object{{key: "IMG_1.JPG"}, {key: "IMG_1.JPG.supple.json"}, {key: "x.png"}},
			template: `{dir}/{name|replace("x","IMG_1.JPG.supple")}{ext|lower|replace("png","json")}`,
			want: map[archive.Key]string{
				"IMG_1.JPG": "IMG_1.jpg", "IMG_1.JPG.supple.json": "IMG_1.jpg.supplemental-metadata.json", "x.png": "failed: target-exists",
			},
			parked: []archive.Key{"IMG_1.JPG", "IMG_1.JPG.supple.json"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newFoldingWorld()
			w.put(t, test.objects)
			excluded := map[archive.Key]bool{}
			for _, o := range test.objects {
				excluded[o.key] = o.excluded
			}
			b := renameBatch(idA, test.template, batch.ConflictStop)
			w.inspect(t, b, nil, func(k archive.Key) bool { return excluded[k] })
			p, rows := w.plan(t, b, planning.Options{})
			if diff := cmp.Diff(test.want, outcomes(rows)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			parked := map[archive.Key]bool{}
			for _, key := range test.parked {
				parked[key] = true
			}
			for _, r := range rows {
				switch {
				case (r.Park != "") != parked[r.From]:
					t.Errorf("%s goes by way of %q", r.From, r.Park)
				case r.Park != "" && (r.Chain != 0 || r.Park.Dir() != r.From.Dir() || !strings.HasPrefix(r.Park.Base(), "reshelf-"+r.OpID[:16])):
					t.Errorf("%s goes by way of %s, in chain %d", r.From, r.Park, r.Chain)
				}
			}
			if note := strings.Join(p.Summary.Notes, "\n"); strings.Contains(note, "by way of names in between") != (len(parked) > 0) {
				t.Errorf("notes %q", note)
			}
		})
	}
}

// Of a folder the message says what to do.
func TestPlanOfAFolderThatIsFolded(t *testing.T) {
	w := newFoldingWorld()
	w.put(t, []object{{key: "d/IMG_1.JPG"}})
	b := renameBatch(idA, "D/{name}{ext}", batch.ConflictNumber)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	if !strings.Contains(rows[0].Message, "rename the folder by hand") {
		t.Errorf("message %q", rows[0].Message)
	}
}

// marked is a bucket that folds names: what is renamed is known by its mark, which a third name would not keep.
type marked struct{ store.Store }

func (m marked) Properties() store.Properties {
	p := m.Store.Properties()
	p.Marks, p.AtomicRename, p.Exchange = true, false, false
	return p
}

func TestPlanInABucketThatFoldsNames(t *testing.T) {
	w := newFoldingWorld()
	w.put(t, []object{{key: "IMG_1.JPG"}})
	w.archive = marked{w.archive}
	b := renameBatch(idA, "{name}{ext|lower}", batch.ConflictNumber)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	if rows[0].Moves() || !strings.Contains(rows[0].Message, "rename it to another name first") {
		t.Errorf("%s: %s", outcome(rows[0]), rows[0].Message)
	}
}

// A name that is written by hand, and one that is left as it was planned, go by way of a name in between where they are folded, and only there.
func TestEditWhereNamesAreFolded(t *testing.T) {
	w := newFoldingWorld()
	w.put(t, []object{{key: "d/A.JPG"}, {key: "d/A.XMP"}, {key: "d/B.JPG"}, {key: "d/C.JPG"}, {key: "d/E.JPG"}, {key: "d/F.JPG"}})
	b := renameBatch(idA, "{dir}/{name}{ext|lower}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	w.withdraw(t, idA)
	edited := asPlanned(rows)
	edited["d/B.JPG"], edited["d/C.JPG"], edited["d/E.JPG"], edited["d/F.JPG"] = "d/other.jpg", "d/c.JPG", "D/E.jpg", "d/b.jpg"
	_, rows = w.edit(t, idB, idA, edited, planning.Options{})
	want := map[archive.Key]string{
		"d/A.JPG": "d/A.jpg by another", "d/A.XMP": "skipped: unchanged", "d/B.JPG": "d/other.jpg", "d/C.JPG": "d/c.JPG by another",
		"d/E.JPG": "failed: target-exists", "d/F.JPG": "d/b.jpg",
	}
	got := outcomes(rows)
	for _, r := range rows {
		if r.Park != "" {
			got[r.From] += " by another"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// An undo takes objects of a chain home by way of names in between also where the name that one gives back is spelled otherwise than the one that another had.
func TestUndoByNamesInBetweenWhereNamesAreFolded(t *testing.T) {
	for name, objects := range map[string][]object{
		"chain":           {{key: "a.jpg", day: 2}, {key: "02.JPG", day: 3}},
		"circle":          {{key: "01.JPG", day: 2}, {key: "02.jpg", day: 1}},
		"circle of three": {{key: "01.JPG", day: 2}, {key: "02.jpg", day: 3}, {key: "03.jpg", day: 1}},
	} {
		for _, twoStep := range []bool{false, true} {
			w := newFoldingWorld()
			w.single = true
			if twoStep {
				w.archive = twoSteps{w.archive}
			}
			w.put(t, objects)
			before := w.contents(t)
			b := renameBatch(idA, "{date:%d}{ext}", batch.ConflictStop)
			b.AssumeSingleWriter = true
			w.inspect(t, b, nil, nil)
			_, rows := w.plan(t, b, planning.Options{})
			for _, r := range rows {
				if !r.Moves() || r.Park == "" {
					t.Errorf("%s: %s, by way of %q: %s", r.From, outcome(r), r.Park, r.Message)
				}
			}
			w.carryOut(t, idA, -1)
			u := w.undoing(t, idB, idA, nil)
			for _, r := range u.rows {
				if !r.Moves() {
					t.Errorf("%s: %s: %s", name, r.From, r.Message)
				}
			}
			w.carryOut(t, idB, -1)
			if diff := cmp.Diff(before, w.contents(t)); diff != "" {
				t.Errorf("%s: after the undo (-want +got):\n%s", name, diff)
			}
		}
	}
}

// unfolded is an archive that folds names, of which the folders at hand do not, as where the folding is of Unicode forms alone.
type unfolded struct{ store.Store }

func (u unfolded) Properties() store.Properties {
	p := u.Store.Properties()
	p.FoldsCase = true
	return p
}

// What has the old name of an object is not taken for one that goes back from a name which differs from it in case, where both are there.
func TestUndoByNamesInBetweenTellsWhatIsThere(t *testing.T) {
	w := newWorld()
	w.single = true
	w.archive = unfolded{w.archive}
	w.put(t, []object{{key: "a.JPG", day: 2}, {key: "02.jpg", day: 3}})
	b := renameBatch(idA, "{date:%d}{ext}", batch.ConflictStop)
	b.AssumeSingleWriter = true
	w.inspect(t, b, nil, nil)
	w.plan(t, b, planning.Options{})
	w.carryOut(t, idA, -1)
	w.put(t, []object{{key: "02.jpg"}})
	want := map[archive.Key]string{"02.JPG": "a.JPG", "03.jpg": "failed: conflict"}
	if diff := cmp.Diff(want, outcomes(w.undoing(t, idB, idA, nil).rows)); diff != "" {
		t.Errorf("undo plan (-want +got):\n%s", diff)
	}
}
