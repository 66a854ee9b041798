package planning_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// Names are made of what the manifest says of the principal, whatever else it says.
func TestColumns(t *testing.T) {
	box := func(key archive.Key, box string) listing.Named {
		return listing.Named{Key: key, Columns: map[string]string{"Box": box}}
	}
	manifest := []listing.Named{
		box("a b.jpg", "1"), box("a.jpg", "2/3"), box("a.xmp", "companions follow"), {Key: "c.jpg"}, box("d.jpg", ".. "), box("excluded.jpg", "4"), box("z/a.jpg", "5"),
	}
	objects := []object{
		{key: "a b.jpg"}, {key: "a.jpg"}, {key: "a.xmp"}, {key: "c.jpg"}, {key: "d.jpg"}, {key: "excluded.jpg", excluded: true}, {key: "z/a.jpg"},
	}
	want := map[archive.Key]string{
		"a b.jpg": "1-1_1.jpg", "a.jpg": "2_3-1_2.jpg", "a.xmp": "2_3-1_2.xmp", "c.jpg": "none-1_3.jpg", "d.jpg": "_.-1_4.jpg", "z/a.jpg": "5-1_5.jpg",
	}
	for _, memory := range []int{0, 1} { // all at once, and every item in a run of its own
		t.Run(fmt.Sprint(memory), func(t *testing.T) {
			w := newWorld()
			w.put(t, objects)
			b := renameBatch(idA, `{csv:Box??"none"}-{seq:by=prefix}_{seq}{ext}`, batch.ConflictStop)
			b.Manifest = true
			_, err := listing.Spool(t.Context(), w.led, b.ID, func(yield func(listing.Named, error) bool) {
				for _, o := range manifest {
					if !yield(o, nil) {
						return
					}
				}
			})
			check(t, err)
			w.inspect(t, b, nil, func(k archive.Key) bool { return k == "excluded.jpg" })
			_, rows := w.plan(t, b, planning.Options{Memory: memory})
			if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
				t.Errorf("plan differs (-want +got):\n%s", diff)
			}
		})
	}
}
