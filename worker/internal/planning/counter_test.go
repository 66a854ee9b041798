package planning_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

func TestCountersByScope(t *testing.T) {
	// What has no capture time goes by its mtime, which the store has long before the others.
	day := func(key archive.Key, n int) object { return object{key: key, day: n} }
	objects := []object{day("y/a.jpg", 2), day("y/b.jpg", 1), day("x/c.jpg", 2), day("x/d.jpg", 3), day("x/d.xmp", 0), {key: "x/e.jpg"}}
	tests := map[string]map[archive.Key]string{
		"{seq:2,start=10,step=5}{ext}": {
			"x/e.jpg": "10.jpg", "y/b.jpg": "15.jpg", "x/c.jpg": "20.jpg", "y/a.jpg": "25.jpg", "x/d.jpg": "30.jpg", "x/d.xmp": "30.xmp",
		},
		"{dir}/{seq:by=folder}{ext}": {
			"y/b.jpg": "y/1.jpg", "y/a.jpg": "y/2.jpg", "x/e.jpg": "x/1.jpg", "x/c.jpg": "x/2.jpg", "x/d.jpg": "x/3.jpg", "x/d.xmp": "x/3.xmp",
		},
		`{date:%d??"none"}/{seq:2,by=prefix}_{seq}-{seq:by=day}{ext}`: {
			"x/e.jpg": "none/01_1-1.jpg", "y/b.jpg": "01/01_2-1.jpg", "x/c.jpg": "02/01_3-1.jpg", "y/a.jpg": "02/02_4-2.jpg",
			"x/d.jpg": "03/01_5-1.jpg", "x/d.xmp": "03/01_5-1.xmp",
		},
		"{parent}/a-{seq:by=prefix}[-{date:%d}]-{seq:by=prefix}{ext}": {
			"y/b.jpg": "y/a-1-01-1.jpg", "y/a.jpg": "y/a-2-02-1.jpg", "x/e.jpg": "x/a-1-1.jpg", "x/c.jpg": "x/a-2-02-1.jpg",
			"x/d.jpg": "x/a-3-03-1.jpg", "x/d.xmp": "x/a-3-03-1.xmp",
		},
		// What an optional section holds before a counter counts too.
		"[{date:%d}/{seq:by=prefix}_]{parent}{seq:by=prefix}{ext}": {
			"x/e.jpg": "x1.jpg", "y/b.jpg": "01/1_y1.jpg", "x/c.jpg": "02/1_x1.jpg", "y/a.jpg": "02/2_y1.jpg",
			"x/d.jpg": "03/1_x1.jpg", "x/d.xmp": "03/1_x1.xmp",
		},
	}
	for template, want := range tests {
		for _, memory := range []int{0, 1} { // all at once, and every item in a run of its own
			t.Run(fmt.Sprint(template, " ", memory), func(t *testing.T) {
				w := newWorld()
				w.put(t, objects)
				b := renameBatch(idA, template, batch.ConflictStop)
				w.inspect(t, b, nil, func(archive.Key) bool { return false })
				_, rows := w.plan(t, b, planning.Options{Memory: memory})
				if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
					t.Errorf("plan differs (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A shifted clock counts for names and for the order of numbers.
func TestClockShifts(t *testing.T) {
	at := func(wall, model string) metadata.Facts {
		return metadata.Facts{Model: model, Capture: metadata.Time{Wall: wall, Source: "ExifIFD:DateTimeOriginal"}}
	}
	w := newWorld()
	w.put(t, []object{{key: "a.jpg"}, {key: "b.jpg"}})
	w.facts["a.jpg 0"], w.facts["b.jpg 1"] = at("2024-05-03T10:00:00.5", "R5"), at("2024-05-03T09:00:00", "X100")
	b := renameBatch(idA, "{seq}-{date:%H%M%S.%L}-{batch}{ext}", batch.ConflictStop)
	b.Renaming.Shifts = []naming.Shift{{Camera: "r5", Seconds: -2 * 3600}}
	w.inspect(t, b, nil, func(archive.Key) bool { return false })
	p, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{
		"a.jpg": "1-080000.500-" + string(idA) + ".jpg", "b.jpg": "2-090000.000-" + string(idA) + ".jpg",
	}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("plan differs (-want +got):\n%s", diff)
	}
	sources := map[string]int64{"ExifIFD:DateTimeOriginal -2h0m0s": 1, "ExifIFD:DateTimeOriginal": 1}
	if diff := cmp.Diff(sources, p.Summary.DateSources); diff != "" {
		t.Errorf("sources differ (-want +got):\n%s", diff)
	}
}
