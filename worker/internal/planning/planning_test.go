package planning_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

const (
	idA = batch.ID("01arz3ndektsv4rrffq69g5fav")
	idB = batch.ID("01arz3ndektsv4rrffq69g5faw")
	idC = batch.ID("01arz3ndektsv4rrffq69g5fax")
)

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Logf(string, ...any)
}

func check(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// claim is a Hold. The zero claim is always held.
type claim struct {
	held      func() error
	cancelled func() bool
}

func (c claim) Held() error {
	if c.held == nil {
		return nil
	}
	return c.held()
}
func (c claim) Cancelled() bool      { return c.cancelled != nil && c.cancelled() }
func (c claim) Advance(int64, int64) {}

// world is an archive with a ledger.
type world struct {
	archive store.Store
	led     *ledger.Ledger
	facts   map[string]metadata.Facts // by content
	tags    map[string]metadata.Tags  // likewise; facts follow from them
	digests digest.Set                // that records have
	single  bool                      // batches assume that nobody else writes
}

func newWorld() *world {
	return &world{archive: memstore.New(archive.Root{}), led: ledger.New(memstore.New(archive.Root{})), facts: map[string]metadata.Facts{}, tags: map[string]metadata.Tags{}}
}

// object is a file of an archive. Its content, which is unique, is its key and its number.
type object struct {
	key archive.Key
	// day is that of the capture time, 0 if there is none.
	day int
	// tags are read in it; day is nothing then.
	tags metadata.Tags
	// problem: it could not be inspected.
	problem batch.Reason
	// excluded: the batch does not list it.
	excluded bool
}

// put writes objects and makes a batch that has inspected them.
func (w *world) put(t tester, objects []object) {
	t.Helper()
	for i, o := range objects {
		content := fmt.Sprintf("%s %d", o.key, i)
		check(t, w.archive.Create(context.Background(), o.key, strings.NewReader(content)))
		if o.tags != nil {
			w.tags[content] = o.tags
		}
		if o.day > 0 {
			w.facts[content] = metadata.Facts{Capture: metadata.Time{
				Wall: fmt.Sprintf("2024-01-%02dT10:00:00", o.day), Source: "ExifIFD:DateTimeOriginal",
			}}
		}
	}
}

func renameBatch(id batch.ID, template string, policy batch.Conflict) batch.Batch {
	root, _ := archive.FileRoot("/archive")
	b := batch.Batch{
		V: batch.Version, ID: id, Kind: batch.Rename, Archive: root, Level: batch.LevelNormal, Pool: "local", Priority: batch.Normal,
		Digests:  digest.Set(0).With(digest.SHA256),
		Renaming: &batch.RenameOptions{Template: template, OnConflict: policy},
	}
	if policy == batch.ConflictTemplate {
		b.Renaming.ConflictTemplate = "2/{size}{ext}"
	}
	return b
}

// contents maps every key of the archive to its content.
func (w *world) contents(t tester) map[archive.Key]string {
	t.Helper()
	out := map[archive.Key]string{}
	for e, err := range w.archive.List(context.Background(), store.ListOptions{}) {
		check(t, err)
		c, err := w.archive.Open(context.Background(), e.Key, 0, -1, archive.Identity{})
		check(t, err)
		var b strings.Builder
		_, err = fmt.Fprint(&b, readAll(t, c))
		check(t, err)
		out[e.Key] = b.String()
	}
	return out
}

func readAll(t tester, c *store.Content) string {
	t.Helper()
	defer c.Close()
	var b strings.Builder
	buf := make([]byte, 512)
	for {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

// inspect writes segments and parts of the inspect step for what is in the archive now.
func (w *world) inspect(t tester, b batch.Batch, problems map[archive.Key]batch.Reason, skip func(archive.Key) bool) {
	t.Helper()
	ctx := context.Background()
	check(t, w.led.CreateBatch(ctx, b))
	contents := w.contents(t)
	var seg batch.Segment
	n := 0
	flush := func() {
		ref := batch.Ref{Batch: b.ID, Step: batch.StepInspect, Generation: 1, Segment: n}
		_, err := w.led.CreateSegment(ctx, ref, seg)
		check(t, err)
		pw, err := ledger.NewPartWriter(ref, 1)
		check(t, err)
		defer pw.Close()
		for _, o := range slices.Backward(seg.Objects) { // parts may be in any order
			r := batch.Record{Object: o.Object, Outcome: batch.Done}
			if w.digests != 0 {
				h := digest.NewHasher(w.digests)
				_, _ = h.Write([]byte(contents[o.Key])) // cannot fail
				r.Digests = h.Digests()
			}
			if facts, ok := w.facts[contents[o.Key]]; ok {
				r.Facts = &facts
			}
			if tags, ok := w.tags[contents[o.Key]]; ok {
				facts := metadata.Derive(tags)
				r.Tags, r.Facts = tags, &facts
				if warning, ok := tags.Text("ExifTool:Warning"); ok {
					r.Warnings = []string{warning}
				}
			}
			if p := problems[o.Key]; p != "" {
				r = batch.Record{Object: o.Object, Outcome: batch.Failed, Reason: p, Message: "for this test"}
			}
			check(t, pw.Add(r))
		}
		_, _, err = w.led.CreatePart(ctx, pw)
		check(t, err)
		seg, n = batch.Segment{}, n+1
	}
	for e, err := range w.archive.List(ctx, store.ListOptions{}) {
		check(t, err)
		if skip != nil && skip(e.Key) {
			continue
		}
		seg.Objects = append(seg.Objects, batch.Listed{Object: e.Object})
		if len(seg.Objects) == 7 {
			flush()
		}
	}
	flush()
	check(t, w.led.Seal(ctx, b.ID, batch.StepInspect, 1, n))
}

// plan makes the plan of b and returns it with its rows.
func (w *world) plan(t tester, b batch.Batch, opts planning.Options) (batch.Plan, []batch.Row) {
	t.Helper()
	check(t, planning.Plan(context.Background(), claim{}, w.led, w.archive, b, 7, opts))
	return w.sealed(t, b.ID)
}

func (w *world) sealed(t tester, id batch.ID) (batch.Plan, []batch.Row) {
	t.Helper()
	p, _, err := w.led.Plan(context.Background(), id)
	check(t, err)
	var rows []batch.Row
	for r, err := range w.led.Rows(context.Background(), p) {
		check(t, err)
		rows = append(rows, r)
	}
	return p, rows
}

// apply carries rows out.
func (w *world) apply(t tester, rows []batch.Row) {
	t.Helper()
	for _, l := range legsOf(rows) {
		w.walk(t, l)
	}
}

// leg is what is done for a row at once: one of two renames by way of a name in between, or all of it.
type leg struct {
	row      batch.Row
	from, to archive.Key // "": all of it
	opID     string
	circular bool
}

// legsOf are what carries rows out: all objects of a chain that have names in between go there first.
func legsOf(rows []batch.Row) (legs []leg) {
	circular := inCircles(rows)
	for len(rows) > 0 {
		n := batch.Bonds(rows)[0]
		bonded := rows[:n]
		rows = rows[n:]
		if bonded[0].Chain == 0 || !batch.Parked(bonded) {
			for _, r := range bonded {
				legs = append(legs, leg{row: r, circular: circular[r.From]})
			}
			continue
		}
		var ends []leg
		for _, r := range bonded {
			if r.Moves() {
				legs = append(legs, leg{row: r, from: r.From, to: r.Park, opID: r.ParkID()})
				ends = append(ends, leg{row: r, from: r.Park, to: r.To, opID: r.OpID})
			}
		}
		legs = append(legs, ends...)
	}
	return legs
}

// walk goes a leg.
func (w *world) walk(t tester, l leg) {
	t.Helper()
	if l.from == "" {
		w.applyOne(t, l.row, l.circular)
		return
	}
	w.rename(t, store.RenameRequest{From: l.from, To: l.to, Want: l.row.Want, OpID: l.opID})
}

// rename renames an object. Where that takes two steps, and it has both names already, it loses the first one.
func (w *world) rename(t tester, req store.RenameRequest) {
	t.Helper()
	ctx := context.Background()
	if there, err := w.archive.Stat(ctx, req.To); !w.archive.Properties().GuardedRename && err == nil && there.Identity == req.Want {
		check(t, w.archive.Delete(ctx, req.From, req.Want))
		return
	}
	check(t, w.archive.Rename(ctx, req))
}

// halve goes the first half of a leg, where these have two.
func (w *world) halve(t tester, l leg) {
	t.Helper()
	if w.archive.Properties().GuardedRename || l.from == "" {
		return
	}
	check(t, w.archive.Copy(context.Background(), store.CopyRequest{From: l.from, To: l.to, Want: l.row.Want, OpID: l.opID, Link: true}))
}

// inCircles are the old names of rows that are in circles.
func inCircles(rows []batch.Row) map[archive.Key]bool {
	out := map[archive.Key]bool{}
	for _, n := range batch.Bonds(rows) {
		circular := batch.Circular(rows[:n])
		for _, r := range rows[:n] {
			out[r.From] = circular
		}
		rows = rows[n:]
	}
	return out
}

// applyOne renames the object of a row. One of a circle, which can be at any name of it, gets its new name in exchange for the one
// that it has, if need be.
func (w *world) applyOne(t tester, r batch.Row, circular bool) {
	t.Helper()
	ctx := context.Background()
	if !r.Moves() {
		return
	}
	from := r.From
	for e, err := range w.archive.List(ctx, store.ListOptions{}) {
		check(t, err)
		if circular && e.Same(r.Want) {
			from = e.Key
		}
	}
	there, err := w.archive.Stat(ctx, r.To)
	switch {
	case from == r.To, err == nil && circular && there.Same(r.Want): // or in another case
	case err == nil && circular:
		check(t, w.archive.Exchange(ctx, store.ExchangeRequest{A: from, B: r.To, WantA: r.Want, WantB: there.Identity}))
	case r.Park != "":
		check(t, w.archive.Rename(ctx, store.RenameRequest{From: from, To: r.Park, Want: r.Want, OpID: r.ParkID()}))
		check(t, w.archive.Rename(ctx, store.RenameRequest{From: r.Park, To: r.To, Want: r.Want, OpID: r.OpID}))
	default:
		w.rename(t, store.RenameRequest{From: from, To: r.To, Want: r.Want, OpID: r.OpID})
	}
}

// outcome is what a test says about a row: the new name, or "skipped: reason", or "failed: reason".
func outcome(r batch.Row) string {
	if r.Moves() {
		return string(r.To)
	}
	return string(r.Outcome) + ": " + string(r.Reason)
}

func outcomes(rows []batch.Row) map[archive.Key]string {
	out := map[archive.Key]string{}
	for _, r := range rows {
		out[r.From] = outcome(r)
	}
	return out
}

func TestPlan(t *testing.T) {
	day := func(key archive.Key, n int) object { return object{key: key, day: n} }
	tests := map[string]struct {
		objects  []object
		template string
		policies []batch.Conflict // all if nil
		want     map[archive.Key]string
	}{
		"plain": {
			objects:  []object{day("b.jpg", 1), day("a.jpg", 2), {key: "c.txt"}},
			template: "{date:%d}{ext}",
			want:     map[archive.Key]string{"b.jpg": "01.jpg", "a.jpg": "02.jpg", "c.txt": "failed: no-value"},
		},
		"already so": {
			objects: []object{day("01.jpg", 1)}, template: "{date:%d}{ext}",
			want: map[archive.Key]string{"01.jpg": "skipped: unchanged"},
		},
		"not inspected": {
			objects: []object{{key: "a.jpg", day: 1, problem: batch.ReasonFormat}, day("b.jpg", 2)}, template: "{date:%d}{ext}",
			want: map[archive.Key]string{"a.jpg": "failed: not-inspected", "b.jpg": "02.jpg"},
		},
		"managed library": {
			objects:  []object{day("x.photoslibrary/originals/a.jpg", 1), day("b.jpg", 2)},
			template: "{date:%d}{ext}",
			want:     map[archive.Key]string{"x.photoslibrary/originals/a.jpg": "skipped: managed-library", "b.jpg": "02.jpg"},
		},
		"into a managed library": {
			objects: []object{day("a.jpg", 1)}, template: "x.photoslibrary/{date:%d}{ext}",
			want: map[archive.Key]string{"a.jpg": "skipped: managed-library"},
		},
		"same target, stop": {
			objects: []object{day("a.jpg", 1), day("b.JPG", 1), day("c.jpg", 1), day("d.jpg", 2)}, template: "{date:%d}{ext}",
			policies: []batch.Conflict{batch.ConflictStop},
			want: map[archive.Key]string{
				"a.jpg": "failed: same-target", "b.JPG": "failed: same-target", "c.jpg": "failed: same-target", "d.jpg": "02.jpg",
			},
		},
		"same target, skip": {
			objects: []object{day("a.jpg", 1), day("b.jpg", 1), day("d.jpg", 2)}, template: "{date:%d}{ext}",
			policies: []batch.Conflict{batch.ConflictSkip},
			want:     map[archive.Key]string{"a.jpg": "skipped: same-target", "b.jpg": "skipped: same-target", "d.jpg": "02.jpg"},
		},
		"same target, number by capture time then key": {
			objects: []object{day("c.jpg", 1), day("a.jpg", 2), day("b.jpg", 2)}, template: "n{ext}",
			policies: []batch.Conflict{batch.ConflictNumber},
			want:     map[archive.Key]string{"c.jpg": "n.jpg", "a.jpg": "n_2.jpg", "b.jpg": "n_3.jpg"},
		},
		"natural names win over numbers": {
			objects: []object{day("a.jpg", 1), day("b.jpg", 1), {key: "z.jpg", day: 2}, day("01_2.png", 1)}, template: `{date:%d|replace("02","01_2")}{ext}`,
			policies: []batch.Conflict{batch.ConflictNumber},
			want:     map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "01_3.jpg", "z.jpg": "01_2.jpg", "01_2.png": "skipped: unchanged"},
		},
		"taken by an excluded object, whatever its case": {
			objects: []object{day("a.jpg", 1), {key: "01.JPG", excluded: true}}, template: "{date:%d}.jpg",
			policies: []batch.Conflict{batch.ConflictStop},
			want:     map[archive.Key]string{"a.jpg": "failed: target-exists"},
		},
		"taken by one that moves away": {
			objects: []object{day("a.jpg", 1), day("01.jpg", 2)}, template: "{date:%d}{ext}",
			policies: []batch.Conflict{batch.ConflictSkip},
			want:     map[archive.Key]string{"a.jpg": "01.jpg", "01.jpg": "02.jpg"},
		},
		"taken by one that was not listed": {
			objects: []object{day("a.jpg", 1), {key: "01.jpg", day: 2, excluded: true}}, template: "{date:%d}{ext}",
			policies: []batch.Conflict{batch.ConflictSkip},
			want:     map[archive.Key]string{"a.jpg": "skipped: target-exists"},
		},
		"change of case only": {
			objects: []object{day("a.JPG", 1)}, template: "a.jpg",
			want: map[archive.Key]string{"a.JPG": "a.jpg"},
		},
		"numbers that are taken": {
			objects: []object{
				day("n/a.jpg", 1), day("n/b.jpg", 1), {key: "01.jpg", excluded: true}, {key: "01_2.jpg", excluded: true},
				{key: "01_4.PNG", excluded: true},
			},
			template: "{date:%d}{ext}", policies: []batch.Conflict{batch.ConflictNumber},
			want: map[archive.Key]string{"n/a.jpg": "01_3.jpg", "n/b.jpg": "01_5.jpg"},
		},
		"a name with its number stays": {
			objects:  []object{day("01.jpg", 1), day("01_2.jpg", 1), day("01_3.jpg", 1), day("01_1000.jpg", 1), day("x.jpg", 1)},
			template: "{date:%d}{ext}", policies: []batch.Conflict{batch.ConflictNumber},
			want: map[archive.Key]string{
				"01.jpg": "skipped: unchanged", "01_2.jpg": "skipped: unchanged", "01_3.jpg": "skipped: unchanged",
				"01_1000.jpg": "skipped: unchanged", "x.jpg": "01_4.jpg",
			},
		},
		"a telephone's name is not a number": {
			objects:  []object{day("20240101_153000.jpg", 1)},
			template: "{date:%Y%m%d}{ext}",
			want:     map[archive.Key]string{"20240101_153000.jpg": "20240101.jpg"},
		},
		"below an object": {
			objects: []object{day("a.jpg", 1), {key: "01", excluded: true}}, template: "{date:%d}/x{ext}",
			policies: []batch.Conflict{batch.ConflictStop, batch.ConflictNumber},
			want:     map[archive.Key]string{"a.jpg": "failed: target-prefix"},
		},
		"a folder has the name": {
			objects: []object{day("a.jpg", 1), {key: "01/x", excluded: true}}, template: "{date:%d}",
			policies: []batch.Conflict{batch.ConflictStop},
			want:     map[archive.Key]string{"a.jpg": "failed: target-prefix"},
		},
		"a folder has the name, number": {
			objects: []object{day("a.jpg", 1), {key: "01/x", excluded: true}}, template: "{date:%d}",
			policies: []batch.Conflict{batch.ConflictNumber},
			want:     map[archive.Key]string{"a.jpg": "01_2"},
		},
		"a target below another": {
			objects: []object{day("a.jpg", 1), day("b", 2)}, template: `{date:%d|replace("01","q/r")|replace("02","q")}`,
			policies: []batch.Conflict{batch.ConflictStop},
			want:     map[archive.Key]string{"a.jpg": "q_r", "b": "q"}, // slashes in values are no folders
		},
		"a group moves together": {
			objects: []object{day("IMG_1.CR2", 1), {key: "IMG_1.JPG"}, {key: "IMG_1.xmp"}, {key: "IMG_1.JPG.xmp"}}, template: "n/{date:%d}{ext}",
			want: map[archive.Key]string{
				"IMG_1.CR2": "n/01.CR2", "IMG_1.JPG": "n/01.JPG", "IMG_1.xmp": "n/01.xmp", "IMG_1.JPG.xmp": "n/01.JPG.xmp",
			},
		},
		"a group stays together": {
			objects:  []object{day("IMG_1.CR2", 1), {key: "IMG_1.JPG"}, {key: "n/01.jpg", excluded: true}},
			template: "n/{date:%d}{ext}", policies: []batch.Conflict{batch.ConflictSkip},
			want: map[archive.Key]string{"IMG_1.CR2": "skipped: group", "IMG_1.JPG": "skipped: target-exists"},
		},
		"a group is numbered together": {
			objects:  []object{day("IMG_1.CR2", 1), {key: "IMG_1.JPG"}, {key: "n/01.jpg", excluded: true}, {key: "n/01_2.png", excluded: true}},
			template: "n/{date:%d}{ext}", policies: []batch.Conflict{batch.ConflictNumber},
			want: map[archive.Key]string{"IMG_1.CR2": "n/01_3.CR2", "IMG_1.JPG": "n/01_3.JPG"},
		},
		"a group with a member that was not inspected": {
			objects: []object{day("IMG_1.CR2", 1), {key: "IMG_1.xmp", problem: batch.ReasonUnreadable}}, template: "n/{date:%d}{ext}",
			want: map[archive.Key]string{"IMG_1.CR2": "skipped: group", "IMG_1.xmp": "failed: not-inspected"},
		},
		"companions that cannot be told apart": {
			objects: []object{day("a.cr2", 1), {key: "a.jpg"}, {key: "a.JPG"}}, template: "n/{date:%d}{ext}",
			want: map[archive.Key]string{"a.cr2": "skipped: group", "a.jpg": "failed: same-target", "a.JPG": "failed: same-target"},
		},
		"numbered in order of capture time, then key": {
			objects:  []object{day("c.jpg", 2), day("b.jpg", 1), day("b.xmp", 9), day("a.jpg", 2)},
			template: "{seq:3}{ext}",
			want:     map[archive.Key]string{"b.jpg": "001.jpg", "b.xmp": "001.xmp", "a.jpg": "002.jpg", "c.jpg": "003.jpg"},
		},
		"nothing": {template: "{date:%d}", want: map[archive.Key]string{}},
	}
	for name, tt := range tests {
		policies := tt.policies
		if policies == nil {
			policies = batch.Conflicts()
		}
		for _, policy := range policies {
			t.Run(name+"/"+string(policy), func(t *testing.T) {
				w := newWorld()
				w.put(t, tt.objects)
				problems, excluded := map[archive.Key]batch.Reason{}, map[archive.Key]bool{}
				for _, o := range tt.objects {
					problems[o.key], excluded[o.key] = o.problem, o.excluded
				}
				b := renameBatch(idA, tt.template, policy)
				w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
				p, rows := w.plan(t, b, planning.Options{})
				if diff := cmp.Diff(tt.want, outcomes(rows)); diff != "" {
					t.Errorf("plan differs (-want +got):\n%s", diff)
				}
				checkSummary(t, p, rows)
				w.apply(t, rows)
			})
		}
	}
}

// checkSummary compares a plan's summary with its rows.
func checkSummary(t tester, p batch.Plan, rows []batch.Row) {
	t.Helper()
	want := batch.PlanSummary{Rows: int64(len(rows)), Changed: map[string]int64{}}
	old, now := map[archive.Key]bool{}, map[archive.Key]bool{}
	reasons := map[batch.Reason]int64{}
	for i, r := range rows {
		if r.N != int64(i) || len(r.OpID) != 32 {
			t.Errorf("row %d has number %d and op id %q", i, r.N, r.OpID)
		}
		if !r.Moves() {
			reasons[r.Reason]++
			if r.Message == "" {
				t.Errorf("row of %s says %q without a message", r.From, r.Reason)
			}
			continue
		}
		if r.Sidecar != "" && r.From == r.Group {
			want.Sidecars++
		}
		if r.Message != "" && r.From == r.Group {
			want.SidecarsMuted++
		}
		for _, what := range r.Changed {
			want.Changed[what]++
		}
		want.Moves++
		want.Bytes += r.Want.Size
		old[r.From.Dir()], now[r.To.Dir()] = true, true
		if r.Numbered {
			want.Numbered++
		}
		if r.Second {
			want.Second++
		}
		if r.Chain != 0 {
			want.Chained++
		}
	}
	want.OldFolders, want.NewFolders = int64(len(old)), int64(len(now))
	got := p.Summary
	for reason, n := range reasons {
		if got.Skipped[reason]+got.Failed[reason] != n || len(got.Examples[reason]) != int(min(n, 3)) {
			t.Errorf("summary has %d+%d rows and %d examples of %q, want %d", got.Skipped[reason], got.Failed[reason], len(got.Examples[reason]), reason, n)
		}
	}
	if len(got.Sample) != int(min(want.Moves, 5)) {
		t.Errorf("summary has a sample of %d rows of %d", len(got.Sample), want.Moves)
	}
	got.Skipped, got.Failed, got.Examples, got.Sample, got.DateSources, got.Notes = nil, nil, nil, nil, nil, nil
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("summary differs (-want +got):\n%s", diff)
	}
}

func TestBlockedByPolicyStop(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg"}, {key: "b.jpg"}})
	b := renameBatch(idA, "x.jpg", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	p, _ := w.plan(t, b, planning.Options{})
	if diff := cmp.Diff([]batch.Reason{batch.ReasonSameTarget}, p.Summary.Blocked(batch.ConflictStop)); diff != "" {
		t.Errorf("blocked for (-want +got):\n%s", diff)
	}
}

func TestSecondExecutionAdopts(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg", day: 1}})
	b := renameBatch(idA, "{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	first, _ := w.plan(t, b, planning.Options{})
	check(t, planning.Plan(t.Context(), claim{}, w.led, w.archive, b, 8, planning.Options{}))
	if second, _ := w.sealed(t, b.ID); second.Epoch != first.Epoch {
		t.Errorf("the sealed plan is of epoch %d, want that of the first, %d", second.Epoch, first.Epoch)
	}
}

func TestInterruptedPlanSealsNothing(t *testing.T) {
	lapsed := errors.New("lapsed")
	w := newWorld()
	w.put(t, []object{{key: "a.jpg", day: 1}})
	b := renameBatch(idA, "{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	if err := planning.Plan(t.Context(), claim{held: func() error { return lapsed }}, w.led, w.archive, b, 1, planning.Options{}); !errors.Is(err, lapsed) {
		t.Errorf("Plan with a lapsed claim = %v, want %v", err, lapsed)
	}
	if err := planning.Plan(t.Context(), claim{cancelled: func() bool { return true }}, w.led, w.archive, b, 2, planning.Options{}); err != nil {
		t.Errorf("Plan of a cancelled batch = %v, want nil", err)
	}
	if _, _, err := w.led.Plan(t.Context(), b.ID); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("a plan was sealed: %v", err)
	}
	w.plan(t, b, planning.Options{})
	for e, err := range w.led.Store().List(t.Context(), store.ListOptions{Prefix: "batches/" + string(b.ID) + "/plan/"}) {
		check(t, err)
		if !strings.Contains(string(e.Key), "00007/rows/") {
			t.Errorf("%s was left behind", e.Key)
		}
	}
}

func TestRecordsThatDoNotCoverTheListing(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg"}, {key: "b.jpg"}})
	b := renameBatch(idA, "n/{name}{ext}", batch.ConflictStop)
	check(t, w.led.CreateBatch(t.Context(), b))
	ref := batch.Ref{Batch: b.ID, Step: batch.StepInspect, Generation: 1}
	a, err := w.archive.Stat(t.Context(), "a.jpg")
	check(t, err)
	_, err = w.led.CreateSegment(t.Context(), ref, batch.Segment{Objects: []batch.Listed{{Object: a}, {Object: archive.Object{Key: "b.jpg"}}}})
	check(t, err)
	pw, err := ledger.NewPartWriter(ref, 1)
	check(t, err)
	defer pw.Close()
	check(t, pw.Add(batch.Record{Object: a, Outcome: batch.Done}))
	_, _, err = w.led.CreatePart(t.Context(), pw)
	check(t, err)
	check(t, w.led.Seal(t.Context(), b.ID, batch.StepInspect, 1, 1))
	if err := planning.Plan(t.Context(), claim{}, w.led, w.archive, b, 1, planning.Options{}); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("Plan = %v, want %v", err, ledger.ErrCorrupt)
	}
}

func TestEmptyArchiveIsUnavailable(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg"}})
	b := renameBatch(idA, "n/{name}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	err := planning.Plan(t.Context(), claim{}, w.led, memstore.New(archive.Root{}), b, 1, planning.Options{})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Plan of an archive that is empty by now = %v, want %v", err, store.ErrUnavailable)
	}
}
