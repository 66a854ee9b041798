package planning_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// whirled is an archive in which 1, 2 and 3, a group, get the names 2, 3 and 1, and a gets 9. Of the rows of the plan, in that order, so
// many were carried out before all died; -1: all, and they were recorded.
func whirled(t *testing.T, crashed int) *world {
	t.Helper()
	w := newWorld()
	w.put(t, []object{
		{key: "n/01.cr2", day: 2}, {key: "n/02.cr2", day: 3}, {key: "n/03.cr2", day: 1}, {key: "n/03.xmp"}, {key: "n/a.cr2", day: 9},
	})
	b := renameBatch(idA, shift, batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{"n/01.cr2": "n/02.cr2", "n/02.cr2": "n/03.cr2", "n/03.cr2": "n/01.cr2", "n/03.xmp": "n/01.xmp", "n/a.cr2": "n/09.cr2"}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" || rows[4].From != "n/a.cr2" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
	w.carryOut(t, idA, crashed)
	return w
}

func TestUndoOfCircle(t *testing.T) {
	const (
		changed, missing, conflict, group, unchanged = "failed: changed", "failed: missing", "failed: conflict", "skipped: group", "skipped: unchanged"
	)
	edit := func(key archive.Key) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			check(t, w.archive.Replace(t.Context(), key, strings.NewReader("edited")))
		}
	}
	remove := func(key archive.Key) func(*testing.T, *world) {
		return func(t *testing.T, w *world) { t.Helper(); w.remove(t, key) }
	}
	all := map[archive.Key]string{"n/02.cr2": "n/01.cr2", "n/03.cr2": "n/02.cr2", "n/01.cr2": "n/03.cr2", "n/01.xmp": "n/03.xmp"}
	but := func(of map[archive.Key]string, changes ...string) map[archive.Key]string {
		out := maps.Clone(of)
		for i := 0; i < len(changes); i += 2 {
			out[archive.Key(changes[i])] = changes[i+1]
		}
		return out
	}
	stay := map[archive.Key]string{"n/02.cr2": group, "n/03.cr2": group, "n/01.cr2": group, "n/01.xmp": group}
	for name, tt := range map[string]struct {
		crashed int
		prepare func(*testing.T, *world)
		want    map[archive.Key]string
	}{
		"all":                        {crashed: -1, want: all},
		"one was edited":             {-1, edit("n/02.cr2"), but(stay, "n/02.cr2", changed, "n/03.cr2", conflict)},
		"one of its group":           {-1, edit("n/01.xmp"), but(stay, "n/01.xmp", changed)},
		"one is gone":                {-1, remove("n/02.cr2"), but(all, "n/02.cr2", missing)},
		"the old name of one":        {-1, func(t *testing.T, w *world) { w.create(t, "n/03.xmp") }, but(stay, "n/01.xmp", conflict)},
		"not recorded":               {crashed: 4, want: all},
		"not recorded, one replaced": {4, func(t *testing.T, w *world) { remove("n/02.cr2")(t, w); w.create(t, "n/02.cr2") }, but(stay, "n/03.cr2", conflict, "n/02.cr2", missing)},
		"not begun":                  {crashed: 0, want: map[archive.Key]string{"n/02.cr2": unchanged, "n/03.cr2": unchanged, "n/01.cr2": unchanged, "n/01.xmp": unchanged}},
		"half way":                   {crashed: 1, want: all},
		"further":                    {crashed: 2, want: all},
		"half way, one gone": {1, remove("n/03.cr2"), map[archive.Key]string{
			"n/01.cr2": "n/03.cr2", "n/01.xmp": unchanged, "n/02.cr2": missing, "n/03.cr2": unchanged,
		}},
		"half way, another one gone": {1, remove("n/01.cr2"), map[archive.Key]string{
			"n/01.cr2": missing, "n/01.xmp": unchanged, "n/02.cr2": conflict, "n/03.cr2": unchanged,
		}},
		"half way, one edited": {1, edit("n/01.cr2"), map[archive.Key]string{
			"n/01.cr2": missing, "n/01.xmp": unchanged, "n/02.cr2": conflict, "n/03.cr2": unchanged,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := whirled(t, tt.crashed)
			if tt.prepare != nil {
				tt.prepare(t, w)
			}
			before := w.contents(t)
			u := w.undoing(t, idB, idA, nil)
			got := outcomes(u.rows)
			delete(got, "n/09.cr2")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("undo (-want +got):\n%s", diff)
				for _, r := range u.rows {
					t.Logf("%s: %s", r.From, r.Message)
				}
			}
			w.carryOut(t, idB, -1)
			w.checkContents(t, before)
			if moved := w.contents(t); maps.Equal(tt.want, all) && (moved["n/01.cr2"] != "n/01.cr2 0" || moved["n/02.cr2"] != "n/02.cr2 1" || moved["n/03.cr2"] != "n/03.cr2 2" || moved["n/03.xmp"] != "n/03.xmp 3") {
				t.Errorf("after the undo: %v", moved)
			}
		})
	}
}

// An undo of one object of a circle takes back the whole, and says so.
func TestUndoOfChosenInCircle(t *testing.T) {
	w := whirled(t, -1)
	u := w.undoing(t, idB, idA, []archive.Key{"n/02.cr2"})
	for _, r := range u.rows {
		if !r.Moves() || r.Added != (r.From != "n/02.cr2") {
			t.Errorf("%s: %s, added %t", r.From, outcome(r), r.Added)
		}
	}
	p, _ := w.sealed(t, idB)
	if len(u.rows) != 4 || len(p.Summary.Notes) == 0 || !strings.Contains(p.Summary.Notes[len(p.Summary.Notes)-1], "3 objects not chosen, but moved too") {
		t.Errorf("%d rows, notes %q", len(u.rows), p.Summary.Notes)
	}
}

// Where names cannot be exchanged in one step, an undo leaves a circle as it is, and says what to do.
func TestUndoOfCircleWithoutExchange(t *testing.T) {
	for name, change := range map[string]func(*world, *batch.Batch){
		"numbers that change": func(w *world, b *batch.Batch) { w.archive = passing{w.archive} },
		"no exchange":         func(w *world, _ *batch.Batch) { w.archive = withoutExchange{w.archive} },
	} {
		t.Run(name, func(t *testing.T) {
			w := whirled(t, -1)
			b := undoBatch(idB, idA)
			change(w, &b)
			check(t, w.led.CreateBatch(t.Context(), b))
			check(t, planning.Undo(t.Context(), claim{}, w.led, w.archive, b, 3, over, func(string) {}))
			_, rows := w.sealed(t, idB)
			for _, r := range rows {
				if r.From != "n/09.cr2" && r.Moves() {
					t.Errorf("%s is to go to %s", r.From, r.To)
				}
				if r.From == "n/02.cr2" && (r.Reason != batch.ReasonUnsupported || !strings.Contains(r.Message, "without --assume-single-writer")) {
					t.Errorf("%s: %s: %s", r.From, outcome(r), r.Message)
				}
			}
		})
	}
}

// Where objects go by way of names in between, a circle that was carried out in one step is undone so, unless it is half way.
func TestUndoOfCircleByNamesInBetween(t *testing.T) {
	for name, change := range map[string]func(*world){
		"single writer": func(*world) {},
		"two steps":     func(w *world) { w.archive = twoSteps{w.archive} },
	} {
		for _, crashed := range []int{-1, 0, 1, 2, 3, 4} {
			t.Run(fmt.Sprintf("%s/%d", name, crashed), func(t *testing.T) {
				w := whirled(t, crashed)
				before := w.contents(t)
				w.single = true
				change(w)
				u := w.undoing(t, idB, idA, nil)
				moves := 0
				for _, r := range u.rows {
					switch {
					case r.From == "n/09.cr2":
					case r.Moves() && r.Park == "":
						t.Errorf("%s is to go to %s at once", r.From, r.To)
					case r.Moves():
						moves++
					case r.Reason == batch.ReasonUnsupported && !strings.Contains(r.Message, "without --assume-single-writer"):
						t.Errorf("%s: %s", r.From, r.Message)
					}
				}
				if halfWay := crashed == 1 || crashed == 2; halfWay && moves != 0 || (crashed == -1 || crashed == 4) && moves != 4 {
					t.Errorf("%d of the circle go back: %v", moves, outcomes(u.rows))
				}
				w.carryOut(t, idB, -1)
				w.checkContents(t, before)
				if moved := w.contents(t); moves == 4 && (moved["n/01.cr2"] != "n/01.cr2 0" || moved["n/02.cr2"] != "n/02.cr2 1" || moved["n/03.cr2"] != "n/03.cr2 2" || moved["n/03.xmp"] != "n/03.xmp 3") {
					t.Errorf("after the undo: %v", moved)
				}
			})
		}
	}
}

// withoutExchange is an archive whose disk does not exchange names.
type withoutExchange struct{ store.Store }

func (s withoutExchange) Properties() store.Properties {
	p := s.Store.Properties()
	p.Exchange = false
	return p
}

// Circles are refused where names cannot be exchanged, and of hard links, each with the reason and a remedy.
func TestCirclesThatAreRefused(t *testing.T) {
	const remedy = "give one of them another name first"
	exchange := []object{{key: "n/01.jpg", day: 2}, {key: "n/02.jpg", day: 1}}
	for name, tt := range map[string]struct {
		objects []object
		change  func(*world, *batch.Batch)
		want    string
	}{
		"numbers change": {exchange, func(w *world, _ *batch.Batch) { w.archive = passing{w.archive} }, "in this archive a name counts as taken"},
		"no exchange":    {exchange, func(w *world, _ *batch.Batch) { w.archive = withoutExchange{w.archive} }, "only where the disk does it in one step; " + remedy},
		"differ in case": {[]object{{key: "n/01.JPG", day: 2}, {key: "n/02.jpg", day: 1}}, func(*world, *batch.Batch) {}, "differ in case or form from those that are to be exchanged; " + remedy},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.put(t, tt.objects)
			b := renameBatch(idA, shift, batch.ConflictSkip)
			tt.change(w, &b)
			w.inspect(t, b, nil, nil)
			_, rows := w.plan(t, b, planning.Options{})
			for _, r := range rows {
				if r.Reason != batch.ReasonExists || !strings.Contains(r.Message, tt.want) {
					t.Errorf("%s: %s: %s", r.From, outcome(r), r.Message)
				}
			}
		})
	}
}

// Three names of which two are hard links of one file are not exchanged.
func TestHardLinksInCircle(t *testing.T) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single writer %t", single), func(t *testing.T) { testHardLinksInCircle(t, single) })
	}
}

func testHardLinksInCircle(t *testing.T, single bool) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"01.jpg", "02.jpg"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	check(t, os.Link(filepath.Join(dir, "01.jpg"), filepath.Join(dir, "03.jpg")))
	check(t, os.WriteFile(filepath.Join(dir, "04.jpg"), []byte("04.jpg"), 0o600))
	st, err := filestore.Open(dir, filestore.Options{})
	check(t, err)
	defer st.Close()
	w := newWorld()
	w.archive = exchanging{st}
	b := renameBatch(idA, `{name|replace("04","z")|replace("03","04")|replace("02","03")|replace("01","02")|replace("z","01")}{ext}`, batch.ConflictSkip)
	b.AssumeSingleWriter = single
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	for _, r := range rows {
		if r.Moves() || !strings.Contains(r.Message, "two are one file (hard links)") {
			t.Errorf("%s: %s: %s", r.From, outcome(r), r.Message)
		}
	}
	if got, want := len(w.contents(t)), 4; got != want {
		t.Errorf("%d objects, want %d", got, want)
	}
}

// exchanging is an archive as it is seen where names are exchanged, whatever the file system that the test runs on.
type exchanging struct{ store.Store }

func (s exchanging) Properties() store.Properties {
	p := s.Store.Properties()
	p.AtomicRename, p.Exchange = true, true
	return p
}
