package planning_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

func TestConflictTemplate(t *testing.T) {
	at := func(key archive.Key, day int) object { return object{key: key, day: day} }
	tests := map[string]struct {
		objects          []object
		template, second string
		want             map[archive.Key]string
		bySecond         int64
	}{
		"the first by capture time, then key": {
			objects: []object{at("c.jpg", 1), at("b.jpg", 2), at("a.jpg", 2)}, template: "n{ext}", second: "{name}-{date:%d}{ext}",
			want: map[archive.Key]string{"c.jpg": "n.jpg", "a.jpg": "a-02.jpg", "b.jpg": "b-02.jpg"}, bySecond: 2,
		},
		"taken by one that was not listed": {
			objects: []object{at("a.jpg", 1), {key: "01.JPG", excluded: true}}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"a.jpg": "x.jpg"}, bySecond: 1,
		},
		"taken by one that stays": {
			objects: []object{at("a.jpg", 1), at("01.jpg", 1)}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"a.jpg": "x.jpg", "01.jpg": "skipped: unchanged"}, bySecond: 1,
		},
		"a folder has the name": {
			objects: []object{at("a", 1), {key: "01/x", excluded: true}}, template: "{date:%d}", second: "x",
			want: map[archive.Key]string{"a": "x"}, bySecond: 1,
		},
		"the folder is an object": {
			objects: []object{at("a", 1), {key: "01", excluded: true}}, template: "{date:%d}/{name}", second: "x",
			want: map[archive.Key]string{"a": "x"}, bySecond: 1,
		},
		"a first name goes before a second": {
			objects: []object{at("a.jpg", 1), at("b.jpg", 1), at("c.jpg", 2)}, template: "{date:%d}{ext}", second: "02{ext}",
			want: map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "failed: same-target", "c.jpg": "02.jpg"},
		},
		"of two that want a second name the first": {
			objects: []object{at("a.jpg", 1), at("b.jpg", 1), at("c.jpg", 1)}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "x.jpg", "c.jpg": "failed: same-target"}, bySecond: 1,
		},
		"the second is taken": {
			objects: []object{at("a.jpg", 1), at("b.jpg", 1), {key: "X.jpg", excluded: true}}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "failed: target-exists"},
		},
		"the second is a name that another one leaves": {
			objects: []object{at("a.jpg", 1), at("b.jpg", 1), at("x.jpg", 2)}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "failed: target-exists", "x.jpg": "02.jpg"},
		},
		"the first is a name that another one leaves": {
			objects: []object{at("01.jpg", 2), at("a.jpg", 1), at("b.jpg", 1)}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"01.jpg": "02.jpg", "a.jpg": "01.jpg", "b.jpg": "x.jpg"}, bySecond: 1,
		},
		"the first is left only by way of the second": {
			objects: []object{at("01.jpg", 2), at("a.jpg", 1), {key: "02.jpg", excluded: true}}, template: "{date:%d}{ext}", second: "x-{date:%d}{ext}",
			want: map[archive.Key]string{"01.jpg": "x-02.jpg", "a.jpg": "x-01.jpg"}, bySecond: 2,
		},
		"two that exchange their names": {
			objects: []object{at("01.jpg", 2), at("02.jpg", 1)}, template: "{date:%d}{ext}", second: "x-{date:%d}{ext}",
			want: map[archive.Key]string{"01.jpg": "02.jpg", "02.jpg": "01.jpg"},
		},
		"it bears its second name": {
			objects: []object{at("01.jpg", 1), at("x.jpg", 1)}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"01.jpg": "skipped: unchanged", "x.jpg": "skipped: unchanged"},
		},
		"it bears its second name, and the first is free": {
			objects: []object{at("x.jpg", 1)}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"x.jpg": "01.jpg"},
		},
		"a group": {
			objects:  []object{at("a.cr2", 1), at("a.jpg", 1), {key: "a.jpg.xmp", tags: sidecarOf(3)}, {key: "n/01.jpg.xmp", excluded: true}},
			template: "n/{date:%d}{ext}", second: "m/{date:%d}_{size}{ext}",
			want: map[archive.Key]string{"a.cr2": "m/01_7.cr2", "a.jpg": "m/01_7.jpg", "a.jpg.xmp": "m/01_7.jpg.xmp"}, bySecond: 3,
		},
		"companions follow a second name that has an extension": {
			objects: []object{at("a.cr2", 1), {key: "a.xmp"}, {key: "01", excluded: true}}, template: "{date:%d}", second: "m/{date:%d}{ext}",
			want: map[archive.Key]string{"a.cr2": "m/01.cr2", "a.xmp": "m/01.xmp"}, bySecond: 2,
		},
		"no value for the second": {
			objects: []object{at("a.jpg", 1), at("b.jpg", 1)}, template: "{date:%d}{ext}", second: "{model}{ext}",
			want: map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "failed: same-target"},
		},
		"no value for the first": {
			objects: []object{{key: "a.jpg"}}, template: "{date:%d}{ext}", second: "x{ext}",
			want: map[archive.Key]string{"a.jpg": "failed: no-value"},
		},
		"a digest of its own": {
			objects: []object{at("a.jpg", 1), at("b.jpg", 1)}, template: "{date:%d}{ext}", second: "{date:%d}_{sha256:8}{ext}",
			want: map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "01_fe7e950a.jpg"}, bySecond: 1,
		},
		"into a library": {
			objects: []object{at("a.jpg", 1), at("b.jpg", 1)}, template: "{date:%d}{ext}", second: "X.lrdata/{name}{ext}",
			want: map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "skipped: managed-library"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.digests = digest.Set(0).With(digest.SHA256)
			w.put(t, tt.objects)
			b := renameBatch(idA, tt.template, batch.ConflictTemplate)
			b.Renaming.ConflictTemplate = tt.second
			w.inspect(t, b, nil, func(k archive.Key) bool {
				return slices.ContainsFunc(tt.objects, func(o object) bool { return o.key == k && o.excluded })
			})
			p, rows := w.plan(t, b, planning.Options{})
			if diff := cmp.Diff(tt.want, outcomes(rows)); diff != "" || p.Summary.Second != tt.bySecond {
				t.Errorf("%d by the second template, want %d; rows (-want +got):\n%s", p.Summary.Second, tt.bySecond, diff)
			}
			if reasons := p.Summary.Blocked(batch.ConflictTemplate); len(reasons) > 0 {
				t.Errorf("the plan is blocked: %v", reasons)
			}
			before := w.contents(t)
			w.apply(t, rows)
			checkMoved(t, before, w.contents(t), rows)
		})
	}
}

// What comes from where is said of the name that an object gets.
func TestConflictTemplateSays(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg", day: 1}, {key: "b.jpg", day: 1}, {key: "c.jpg", day: 1}})
	b := renameBatch(idA, "{date:%d}{ext}", batch.ConflictTemplate)
	b.Renaming.ConflictTemplate = "{mtime:%Y:}x{ext}"
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	if r := rows[0]; r.DateSource != "ExifIFD:DateTimeOriginal" || r.Changed != nil || r.Second {
		t.Errorf("first name: %+v", r)
	}
	if r := rows[1]; r.DateSource != "mtime" || len(r.Changed) != 1 || !r.Second {
		t.Errorf("second name: %+v", r)
	}
	if got, want := rows[2].Message, "its first name is taken, and so is the second: b.jpg would get the same name"; len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("no name: %q, want %q …", got, want)
	}
}

// checkUncontested: an object whose name nobody else wants or has gets it whatever the policy.
func checkUncontested(t tester, w *world, b batch.Batch, rows []batch.Row, opts planning.Options) {
	t.Helper()
	skip := *b.Renaming
	skip.OnConflict, skip.ConflictTemplate = batch.ConflictSkip, ""
	b.Renaming = &skip
	_, skipped := w.plan(t, b, opts)
	got := map[archive.Key]batch.Row{}
	for _, r := range rows {
		got[r.From] = r
	}
	for _, r := range skipped {
		g := got[r.From]
		kept := g.Reason == batch.ReasonUnchanged // by policy number, which has looked no further
		if r.Moves() && !kept && (g.To != r.To || !g.Moves() || g.Second || g.Numbered) {
			t.Errorf("%q is to be %q, which nobody else wants: %+v", r.From, r.To, g)
		}
	}
}

// checkComesToRest repeats a rename by policy template until it plans nothing: a name that was not free before may be free now, but
// what has its first name keeps it, and what has its second one can only get the first.
func (w *world) checkComesToRest(t tester, b batch.Batch, rows []batch.Row, problems map[archive.Key]batch.Reason, excluded map[archive.Key]bool, opts planning.Options) {
	t.Helper()
	problems = maps.Clone(problems)
	for again := range 10 {
		if !keepsGroups(rows) {
			return
		}
		had := map[archive.Key]batch.Row{}
		for _, r := range rows {
			if r.Moves() {
				problems[r.To], had[r.To] = problems[r.From], r // what is broken moves with it
			}
		}
		b.ID = batch.ID(fmt.Sprintf("%s%d", idB[:25], again))
		w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
		var p batch.Plan
		p, rows = w.plan(t, b, opts)
		if p.Summary.Moves == 0 {
			return
		}
		for _, r := range rows {
			if first, ok := had[r.From]; ok && r.Moves() && (!first.Second || r.Second) {
				t.Errorf("%q got the name %q (by the second template: %v), and the same rename again gives it %q (%v)", first.From, first.To, first.Second, r.To, r.Second)
			}
		}
		w.apply(t, rows)
	}
	t.Errorf("the same rename moves objects again and again: %v", outcomes(rows))
}
