package planning_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// The plan says what was made safe in which names, and in how many.
func TestPlanSaysWhatWasMadeSafe(t *testing.T) {
	const (
		characters = "characters that not every system allows in names were replaced by _"
		trailing   = "dots or spaces at the end of a name were removed"
	)
	w := newWorld()
	w.put(t, []object{{key: "a.jpg"}, {key: "a.aae"}, {key: "b.jpg"}, {key: "c.jpg"}, {key: "R_5."}})
	for content, model := range map[string]string{"a.jpg 0": "X:1.", "b.jpg 2": "X/2", "c.jpg 3": "X 3", "R_5. 4": "R:5."} {
		w.facts[content] = metadata.Facts{Model: model}
	}
	b := renameBatch(idA, "{model}/{name}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, func(archive.Key) bool { return false })
	p, rows := w.plan(t, b, planning.Options{})
	got := map[archive.Key][]string{}
	for _, r := range rows {
		got[r.To] = r.Changed
	}
	want := map[archive.Key][]string{
		"X_1/a.jpg": {characters, trailing}, "X_1/a.aae": {characters, trailing}, "X_2/b.jpg": {characters}, "X 3/c.jpg": nil, "R_5/R_5": {characters, trailing},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{characters: 4, trailing: 3}, p.Summary.Changed); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	notes := []string{"names of 4 objects were made safe: " + characters, "names of 3 objects were made safe: " + trailing}
	if diff := cmp.Diff(notes, p.Summary.Notes[:2]); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

// However many tags dates came from, the summary stays small.
func TestSourcesOfDatesAreBounded(t *testing.T) {
	const objects = 1003
	w := newWorld()
	var all []object
	for i := range objects {
		key := archive.Key(fmt.Sprintf("%04d.jpg", i))
		all = append(all, object{key: key})
		w.facts[fmt.Sprintf("%s %d", key, i)] = metadata.Facts{Capture: metadata.Time{Wall: "2024-01-01T10:00:00", Source: fmt.Sprintf("XMP-x%d:CreateDate", i)}}
	}
	w.put(t, all)
	b := renameBatch(idA, "{date:%Y}/{name}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, func(archive.Key) bool { return false })
	p, _ := w.plan(t, b, planning.Options{})
	if got := p.Summary.DateSources; len(got) != 1001 || got["other tags"] != objects-1000 {
		t.Errorf("got %d sources, and %d objects of others; want 1001 and %d", len(got), got["other tags"], objects-1000)
	}
}
