package planning_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// drawObjects draws a tree in which names meet often.
func drawObjects(t *rapid.T) []object {
	part := rapid.SampledFrom([]string{"", "", "a/", "A/", "01/", "n/", "n/01/", "X.lrdata/"})
	stem := rapid.SampledFrom([]string{"IMG_1", "img_1", "IMG_O1", "x", "x_2", "x_3", "x_400", "x(1)", "01", "01_2", "02", "n", "ä", "a\u0308", "\xff"})
	ext := rapid.SampledFrom([]string{
		".jpg", ".jpg", ".JPG", ".cr2", ".dng", ".xmp", ".jpg.xmp", ".png", ".aae", "", ".mov", ".heic", ".mp4", "M01.XML", ".json", ".jpg.json", ".jpg.supple.json",
	})
	seen := map[archive.Key]bool{}
	var out []object
	for range rapid.IntRange(0, 40).Draw(t, "objects") {
		o := object{key: archive.Key(part.Draw(t, "folder") + stem.Draw(t, "stem") + ext.Draw(t, "ext")), day: rapid.IntRange(0, 3).Draw(t, "day")}
		if naming.IsXMP(o.key) && o.day > 0 && rapid.Bool().Draw(t, "is XMP") {
			o.tags, o.day = sidecarOf(o.day), 0
		}
		if rapid.IntRange(0, 19).Draw(t, "fate") == 0 {
			o.problem = batch.ReasonFormat
		}
		o.excluded = rapid.IntRange(0, 9).Draw(t, "listed") == 0
		clash := seen[o.key]
		for k := range seen {
			clash = clash || strings.HasPrefix(string(k), string(o.key)+"/") || strings.HasPrefix(string(o.key), string(k)+"/")
		}
		if !clash {
			seen[o.key] = true
			out = append(out, o)
		}
	}
	return out
}

// templates give the same name again after the rename.
var templates = []string{
	"{date:%d}{ext}", "n/{date:%d}{ext}", `{date:%d??"x"}{ext}`, "x{ext}", "n/x.jpg", "{dir}/x{ext}", "{date:%d}", "{date:%d}/{date:%d}{ext}",
	"{date:%d}/n", `n/{date:%d|replace("01","IMG_1")|replace("02","IMG_O1")}{ext}`, `[{date:%d}/]n`,
	"{dir}/{name|lower}{ext|lower}", "{dir}/{name}{ext|upper}",
}

// seconds are templates for names that are taken. They give the same name again after the rename, as far as extensions and folders
// stay.
var seconds = []string{
	"{date:%d}_{sha256:4}{ext}", "n/{sha256:1}{ext}", "{dir}/{sha256:2}{ext}", "x{ext}", "x", "x/y", "{date:%d}/x_2{ext}", "{model}{ext}",
	`{date:%d??"x"}/{size}{ext}`, "n", "X.lrdata/x",
}

// drawSecond draws the second template of a batch whose policy has one.
func drawSecond(t *rapid.T, b batch.Batch) {
	if b.Renaming.OnConflict == batch.ConflictTemplate {
		b.Renaming.ConflictTemplate = rapid.SampledFrom(seconds).Draw(t, "second template")
	}
}

// drawWorld draws whether the archive folds names, and how it renames.
func drawWorld(t *rapid.T) *world {
	if rapid.Bool().Draw(t, "folds names") {
		return newFoldingWorld()
	}
	return drawDisk(t)
}

// apart are the objects without those that, or whose folders, are one with others before them where names are folded.
func apart(objects []object) []object {
	spelled := map[string]archive.Key{}
	return slices.DeleteFunc(objects, func(o object) bool {
		for name := o.key; name != ""; name = name.Dir() {
			if other, ok := spelled[naming.Fold(name)]; ok && (other != name || name == o.key) {
				return true
			}
		}
		for name := o.key; name != ""; name = name.Dir() {
			spelled[naming.Fold(name)] = name
		}
		return false
	})
}

func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objects := drawObjects(t)
		problems, excluded := map[archive.Key]batch.Reason{}, map[archive.Key]bool{}
		w := drawWorld(t)
		if w.archive.Properties().FoldsCase {
			objects = apart(objects)
		}
		w.digests = digest.Set(0).With(digest.SHA256)
		w.put(t, objects)
		listed := map[archive.Key]bool{}
		for _, o := range objects {
			problems[o.key], excluded[o.key] = o.problem, o.excluded
			if !o.excluded {
				listed[o.key] = true
			}
		}
		policy := rapid.SampledFrom(batch.Conflicts()).Draw(t, "policy")
		opts := planning.Options{Rows: rapid.SampledFrom([]int{4, 6, 1000}).Draw(t, "rows"), Memory: rapid.SampledFrom([]int{1, 500, 1 << 20}).Draw(t, "memory")}
		b := renameBatch(idA, rapid.SampledFrom(templates).Draw(t, "template"), policy)
		b.AssumeSingleWriter = w.single
		drawSecond(t, b)
		w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
		p, rows := w.plan(t, b, opts)

		checkRows(t, p, rows, listed, opts.Rows)
		checkTargets(t, rows, objects)
		checkBroken(t, rows, problems)
		checkSummary(t, p, rows)
		again := newWorldLike(w)
		if _, same := again.plan(t, b, planning.Options{Rows: opts.Rows}); cmp.Diff(rows, same) != "" {
			t.Errorf("a second execution plans something else:\n%s", cmp.Diff(rows, same))
		}
		checkUncontested(t, newWorldLike(w), b, rows, opts)
		before := w.contents(t)
		w.apply(t, rows)
		checkMoved(t, before, w.contents(t), rows)
		if policy == batch.ConflictNumber && !failedByNames(rows) && keepsGroups(rows) {
			w.checkNothingLeft(t, b, rows, problems, excluded, opts)
		}
		if policy == batch.ConflictTemplate {
			w.checkComesToRest(t, b, rows, problems, excluded, opts)
		}
	})
}

// newWorldLike has the same archive and the same records, but no plan.
func newWorldLike(w *world) *world {
	out := newWorld()
	out.archive, out.facts, out.tags, out.digests = w.archive, w.facts, w.tags, w.digests
	for e := range w.led.Store().List(context.Background(), store.ListOptions{}) {
		if strings.Contains(string(e.Key), "/plan") {
			continue
		}
		c, err := w.led.Store().Open(context.Background(), e.Key, 0, -1, archive.Identity{})
		if err == nil {
			_ = out.led.Store().Create(context.Background(), e.Key, c)
			c.Close()
		}
	}
	return out
}

// checkBroken: what could not be inspected stays where it is, except sidecars that follow their objects.
func checkBroken(t tester, rows []batch.Row, problems map[archive.Key]batch.Reason) {
	t.Helper()
	for _, r := range rows {
		follows := naming.IsXMP(r.From) && r.Group != "" && r.Group != r.From
		if problems[r.From] != "" && r.Moves() && !follows {
			t.Errorf("%s could not be inspected and moves to %s", r.From, r.To)
		}
	}
}

// checkRows: every listed object has exactly one row, groups are whole and in one segment.
func checkRows(t tester, p batch.Plan, rows []batch.Row, listed map[archive.Key]bool, limit int) {
	t.Helper()
	got := map[archive.Key]bool{}
	for _, r := range rows {
		if got[r.From] {
			t.Errorf("%s has two rows", r.From)
		}
		got[r.From] = true
	}
	if diff := cmp.Diff(listed, got); diff != "" {
		t.Errorf("rows are not those of the listed objects (-want +got):\n%s", diff)
	}
	segmentOf, chainIn := map[archive.Key]int{}, map[int64]int{}
	moves := map[archive.Key]bool{}
	next := 0
	var last archive.Key
	for i, s := range p.Segments {
		in := rows[next : next+int(s.Rows)]
		oneChain := in[0].Chain != 0 && !slices.ContainsFunc(in, func(r batch.Row) bool { return r.Chain != in[0].Chain })
		if s.Rows > int64(limit) && !oneChain {
			t.Errorf("segment %d has %d rows, want 1 to %d", i, s.Rows, limit)
		}
		for _, r := range in {
			leader := r.From
			if r.Group != "" {
				leader = r.Group
				if n, ok := segmentOf[r.Group]; ok && n != i {
					t.Errorf("group %s is in segments %d and %d", r.Group, n, i)
				}
				segmentOf[r.Group] = i
				if moved, ok := moves[r.Group]; ok && moved != r.Moves() && r.Reason != batch.ReasonUnchanged {
					t.Errorf("of group %s some rows move and some cannot: %v", r.Group, outcomes(rows))
				} else if r.Reason != batch.ReasonUnchanged {
					moves[r.Group] = r.Moves()
				}
			}
			if r.Chain != 0 {
				if n, ok := chainIn[r.Chain]; ok && n != i {
					t.Errorf("chain %d is in segments %d and %d", r.Chain, n, i)
				}
				chainIn[r.Chain] = i
				continue // it is in the place of its leader
			}
			if leader < last {
				t.Errorf("row of %s comes after %s", leader, last)
			}
			last = leader
		}
		next += int(s.Rows)
	}
}

// checkTargets: no name is wanted twice, taken unless by an object of the same chain that leaves it before or of the same circle, a folder, or below an
// object; all of that whatever the case.
func checkTargets(t tester, rows []batch.Row, objects []object) {
	t.Helper()
	type holder struct {
		key    archive.Key
		target bool
	}
	rowOf := map[archive.Key]batch.Row{}
	for _, r := range rows {
		rowOf[r.From] = r
	}
	circle := map[archive.Key]int{} // the number of the circle that a row is in
	for i, rest := 1, rows; len(rest) > 0; i++ {
		n := batch.Bonds(rest)[0]
		for _, r := range rest[:n] {
			if batch.Circular(rest[:n]) {
				circle[r.From] = i
			}
		}
		rest = rest[n:]
	}
	leaves := func(key, before archive.Key) bool {
		r, other := rowOf[key], rowOf[before]
		exchange := circle[key] != 0 && circle[key] == circle[before] && key == other.To
		return r.Moves() && r.Chain != 0 && r.Chain == other.Chain && (r.N < other.N || exchange)
	}
	byFold := map[string][]holder{}
	for _, o := range objects {
		f := naming.Fold(o.key)
		byFold[f] = append(byFold[f], holder{key: o.key})
	}
	for _, r := range rows {
		if r.Moves() {
			f := naming.Fold(r.To)
			byFold[f] = append(byFold[f], holder{key: r.From, target: true})
		}
	}
	folds := slices.Sorted(maps.Keys(byFold))
	for _, f := range folds {
		hs := byFold[f]
		targets := slices.DeleteFunc(slices.Clone(hs), func(h holder) bool { return !h.target })
		if len(targets) == 0 {
			continue
		}
		for _, h := range hs {
			if !h.target && h.key != targets[0].key && !leaves(h.key, targets[0].key) || len(targets) > 1 {
				t.Errorf("%s goes to %q, which is %v", targets[0].key, f, hs)
			}
		}
		for _, other := range folds {
			if strings.HasPrefix(other, f+"/") || strings.HasPrefix(f, other+"/") {
				t.Errorf("%s goes to %q, and there is %q", targets[0].key, f, other)
			}
		}
	}
}

// checkMoved: the archive after the rename holds every content once, where its row says.
func checkMoved(t tester, before, after map[archive.Key]string, rows []batch.Row) {
	t.Helper()
	want := maps.Clone(before)
	for _, r := range rows {
		if r.Moves() {
			delete(want, r.From)
		}
	}
	for _, r := range rows {
		if r.Moves() {
			want[r.To] = before[r.From]
		}
	}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("archive after the rename (-want +got):\n%s", diff)
	}
}

// failedByNames: some row could not get a name, so what others freed may help it the next time.
func failedByNames(rows []batch.Row) bool {
	return slices.ContainsFunc(rows, func(r batch.Row) bool {
		return r.Reason == batch.ReasonPrefix || r.Reason == batch.ReasonExists || r.Reason == batch.ReasonSameTarget
	})
}

// keepsGroups reports whether the same objects belong together under their new names as did under their old ones. A
// template that drops the extensions takes groups apart, since it is by them that they are told, and one that gives an object
// the stem of another makes companions of them.
func keepsGroups(rows []batch.Row) bool {
	now := map[archive.Key]archive.Key{}
	for _, r := range rows {
		now[r.From] = r.From
		if r.Moves() {
			now[r.From] = r.To
		}
	}
	before := map[archive.Key]string{}
	for k, g := range arranged(slices.Collect(maps.Keys(now)), func(k archive.Key) archive.Key { return now[k] }) {
		before[now[k]] = g
	}
	same := func(k archive.Key) archive.Key { return k }
	return maps.Equal(before, arranged(slices.Collect(maps.Values(now)), same))
}

// arranged is what each key belongs to, and has beside it, under names.
func arranged(keys []archive.Key, name func(archive.Key) archive.Key) map[archive.Key]string {
	near, groups := map[string][]archive.Key{}, naming.DefaultGroups()
	for _, k := range keys {
		near[groups.Key(k)] = append(near[groups.Key(k)], k)
	}
	out := map[archive.Key]string{}
	for _, members := range near {
		for _, u := range groups.Arrange(members) {
			var sidecars []archive.Key
			for _, s := range u.Sidecars {
				sidecars = append(sidecars, name(s))
			}
			for _, k := range append(u.Companions, u.Principal) {
				out[k] = fmt.Sprintf("%q %q", name(u.Principal), sidecars)
			}
		}
	}
	return out
}

// checkNothingLeft plans the same rename again.
func (w *world) checkNothingLeft(t tester, b batch.Batch, rows []batch.Row, problems map[archive.Key]batch.Reason, excluded map[archive.Key]bool, opts planning.Options) {
	t.Helper()
	b.ID = idB
	problems = maps.Clone(problems)
	for _, r := range rows {
		if r.Moves() {
			problems[r.To] = problems[r.From] // what is broken moves with it
		}
	}
	w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
	p, again := w.plan(t, b, opts)
	if p.Summary.Moves == 0 {
		return
	}
	var b1 strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b1, "first  %q -> %q %s\n", r.From, r.To, r.Reason)
	}
	for _, r := range again {
		fmt.Fprintf(&b1, "second %q -> %q %s\n", r.From, r.To, r.Reason)
	}
	t.Errorf("the same rename again moves %d objects:\n%s", p.Summary.Moves, &b1)
}

func TestManyOfOneName(t *testing.T) {
	w := newWorld()
	var objects []object
	for i := range 2500 {
		objects = append(objects, object{key: archive.Key(fmt.Sprintf("in/%04d.jpg", i)), day: 1 + i%2})
	}
	w.put(t, objects)
	b := renameBatch(idA, "x{ext}", batch.ConflictNumber)
	w.inspect(t, b, nil, nil)
	p, rows := w.plan(t, b, planning.Options{Memory: 64 << 10})
	if p.Summary.Moves != 2500 || p.Summary.Numbered != 2499 || len(p.Segments) != 3 {
		t.Errorf("%d moves, %d numbered, %d segments; want 2500, 2499, 3", p.Summary.Moves, p.Summary.Numbered, len(p.Segments))
	}
	w.apply(t, rows)
	w.put(t, []object{{key: "in/new.jpg", day: 3}})
	b.ID = idB
	w.inspect(t, b, nil, nil)
	p, rows = w.plan(t, b, planning.Options{Memory: 64 << 10})
	if p.Summary.Moves != 1 || outcomes(rows)["in/new.jpg"] != "x_2501.jpg" {
		t.Errorf("%d moves, in/new.jpg to %s; want 1, x_2501.jpg", p.Summary.Moves, outcomes(rows)["in/new.jpg"])
	}
}
