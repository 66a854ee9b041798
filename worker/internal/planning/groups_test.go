package planning_test

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// family is an archive with a group of each kind, and what only looks like one.
func family() []object {
	return []object{
		taken("live/IMG_1.HEIC", 1), taken("live/IMG_1.MOV", 9), {key: "live/IMG_1.AAE"}, {key: "live/IMG_O1.AAE"},
		taken("raw/IMG_2.DNG", 2), taken("raw/IMG_2.JPG", 9), taken("raw/IMG_2.MOV", 9), {key: "raw/IMG_2.JPG.json"},
		taken("sony/C0001.MP4", 3), {key: "sony/C0001M01.XML"},
		taken("takeout/IMG.jpg", 4), {key: "takeout/IMG.jpg.supplemental-metad.json"},
		taken("takeout/IMG(1).jpg", 5), {key: "takeout/IMG.jpg(1).json"},
		taken("burst/IMG_3_BURST001.jpg", 6), taken("burst/IMG_3_BURST002.jpg", 7), {key: "burst/IMG_3_BURST002.xmp", tags: xmp()},
		taken("data/a.json", 8), taken("data/a.jpg", 10),
	}
}

func TestPlanGroups(t *testing.T) {
	w := newWorld()
	w.put(t, family())
	before := w.contents(t)
	b := renameBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{
		"live/IMG_1.HEIC": "n/01.HEIC", "live/IMG_1.MOV": "n/01.MOV", "live/IMG_1.AAE": "n/01.AAE", "live/IMG_O1.AAE": "n/01_O.AAE",
		"raw/IMG_2.DNG": "n/02.DNG", "raw/IMG_2.JPG": "n/02.JPG", "raw/IMG_2.MOV": "n/02.MOV", "raw/IMG_2.JPG.json": "n/02.JPG.json",
		"sony/C0001.MP4": "n/03.MP4", "sony/C0001M01.XML": "n/03M01.XML",
		"takeout/IMG.jpg": "n/04.jpg", "takeout/IMG.jpg.supplemental-metad.json": "n/04.jpg.supplemental-metadata.json",
		"takeout/IMG(1).jpg": "n/05.jpg", "takeout/IMG.jpg(1).json": "n/05.jpg.json",
		"burst/IMG_3_BURST001.jpg": "n/06.jpg", "burst/IMG_3_BURST002.jpg": "n/07.jpg", "burst/IMG_3_BURST002.xmp": "n/07.xmp",
		"data/a.json": "n/08.json", "data/a.jpg": "n/10.jpg",
	}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
	w.apply(t, rows)
	checkMoved(t, before, w.contents(t), rows)

	// Under their new names they belong together as before: nothing is left to do, and another rename takes all along.
	b.ID = idB
	w.inspect(t, b, nil, nil)
	if p, rows := w.plan(t, b, planning.Options{}); p.Summary.Moves != 0 || p.Summary.Skipped[batch.ReasonUnchanged] != int64(len(want)) {
		t.Errorf("the same again: %v", outcomes(rows))
	}
	c := renameBatch(idC, "m/{date:%d}x{ext}", batch.ConflictStop)
	w.inspect(t, c, nil, nil)
	_, rows = w.plan(t, c, planning.Options{})
	got := outcomes(rows)
	for from, to := range map[archive.Key]string{
		"n/01.MOV": "m/01x.MOV", "n/01_O.AAE": "m/01x_O.AAE", "n/02.JPG.json": "m/02x.JPG.json", "n/03M01.XML": "m/03xM01.XML",
		"n/04.jpg.supplemental-metadata.json": "m/04x.jpg.supplemental-metadata.json", "n/05.jpg.json": "m/05x.jpg.json",
	} {
		if got[from] != to {
			t.Errorf("%s goes to %s, want %s", from, got[from], to)
		}
	}
}

// What a JSON or an XML says of dates counts for no name.
func TestOnlyXMPCountsForNames(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.mp4"}, taken("aM01.xml", 2), {key: "b.jpg"}, taken("b.jpg.json", 2)})
	b := renameBatch(idA, "n/{date:%d??\"none\"}_{name}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{
		"a.mp4": "n/none_a.mp4", "aM01.xml": "n/none_aM01.xml", "b.jpg": "n/none_b.jpg", "b.jpg.json": "n/none_b.jpg.json",
	}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// Half a group never moves: not where the name of one companion is taken, nor where one is gone.
func TestHalfAGroupStays(t *testing.T) {
	for name, tt := range map[string]struct {
		more    []object
		problem archive.Key
		policy  batch.Conflict
		want    string // of the principal
	}{
		"stop":           {[]object{{key: "n/01M01.XML", excluded: true}}, "", batch.ConflictStop, "skipped: group"},
		"skip":           {[]object{{key: "n/01M01.XML", excluded: true}}, "", batch.ConflictSkip, "skipped: group"},
		"number":         {[]object{{key: "n/01M01.XML", excluded: true}}, "", batch.ConflictNumber, "n/01_2.MP4"},
		"gone":           {nil, "C0001M01.XML", batch.ConflictNumber, "skipped: group"},
		"two spellings":  {[]object{{key: "C0001m01.xml"}}, "", batch.ConflictNumber, "skipped: group"},
		"nothing amiss":  {nil, "", batch.ConflictStop, "n/01.MP4"},
		"by other rules": {[]object{{key: "C0001.THM"}}, "", batch.ConflictStop, "n/01.MP4"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			objects := append(tt.more, taken("C0001.MP4", 1), object{key: "C0001M01.XML"})
			w.put(t, objects)
			excluded := map[archive.Key]bool{}
			for _, o := range objects {
				excluded[o.key] = o.excluded
			}
			b := renameBatch(idA, `n/{date:%d??"none"}{ext}`, tt.policy)
			if name == "by other rules" {
				b.Renaming.Groups = &naming.Rules{Roles: map[string][]string{"video": {"mp4"}}, Companions: []naming.CompanionRule{{Name: "{stem}M01.xml"}}}
			}
			w.inspect(t, b, map[archive.Key]batch.Reason{tt.problem: batch.ReasonMissing}, func(k archive.Key) bool { return excluded[k] })
			_, rows := w.plan(t, b, planning.Options{})
			got := outcomes(rows)
			if got["C0001.MP4"] != tt.want {
				t.Errorf("the principal: %s, want %s", got["C0001.MP4"], tt.want)
			}
			moves := map[bool]bool{}
			for _, r := range rows {
				if r.From != "C0001.THM" {
					moves[r.Moves()] = true
				}
			}
			if len(moves) != 1 {
				t.Errorf("half a group moves: %v", got)
			}
		})
	}
}

// A plan is made by the rules in the batch.
func TestPlanByOtherRules(t *testing.T) {
	w := newWorld()
	w.put(t, family())
	b := renameBatch(idA, "n/{date:%d??name}{ext}", batch.ConflictStop)
	b.Renaming.Groups = &naming.Rules{
		Roles:      map[string][]string{"raw": {"dng"}, "rendered": {"heic", "jpg"}, "video": {"mov", "mp4"}, "sidecar": {"xmp"}},
		Companions: []naming.CompanionRule{{Name: "{stem}.aae"}, {Name: "{stem}.json"}},
	}
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	got := outcomes(rows)
	maps.DeleteFunc(got, func(k archive.Key, _ string) bool {
		return k.Dir() != "live" && k.Dir() != "data" && k.Dir() != "raw" || k == "raw/IMG_2.DNG"
	})
	want := map[archive.Key]string{
		"live/IMG_1.HEIC": "n/01.HEIC", "live/IMG_1.MOV": "failed: same-target", "live/IMG_1.AAE": "n/01.AAE", "live/IMG_O1.AAE": "n/IMG_O1.AAE",
		"raw/IMG_2.JPG": "n/09.JPG", "raw/IMG_2.MOV": "failed: same-target", "raw/IMG_2.JPG.json": "n/IMG_2.JPG.json",
		"data/a.jpg": "n/10.jpg", "data/a.json": "n/10.json",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}
