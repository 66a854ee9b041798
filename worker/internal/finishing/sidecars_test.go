package finishing_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
)

// Sidecars are named across segments, whichever comes first, and by no object that cannot be addressed.
func TestSidecarsAreNamed(t *testing.T) {
	keys := [][]archive.Key{
		{"a.XMP", "a.jpg", "a.jpg-2"}, {"a.jpg.xmp", "a.xmp", "b.CR2", "b.JPG"}, {"b.JPG.xmp", "b.xmp", "c.xmp", "d//e.jpg", "d//e.xmp"},
	}
	want := map[archive.Key][]archive.Key{
		"a.jpg": {"a.jpg.xmp", "a.XMP", "a.xmp"}, "b.CR2": {"b.xmp"}, "b.JPG": {"b.JPG.xmp"},
	}
	verify := func(t *testing.T, f *fixture) {
		t.Helper()
		r := f.result()
		got := map[archive.Key][]archive.Key{}
		for i, rec := range r.finals {
			if len(rec.Sidecars) != len(r.rows[i].Sidecars) {
				t.Errorf("%s: the record has the sidecars %q, the catalogue %q", rec.Key, rec.Sidecars, r.rows[i].Sidecars)
			}
			if rec.Sidecars != nil {
				got[rec.Key] = rec.Sidecars
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("sidecars (-want +got):\n%s", diff)
		}
	}
	fixtureOf := func(t *testing.T, kind batch.Kind) *fixture {
		f := newFixture(t, kind)
		for n, keys := range keys {
			var records []batch.Record
			for _, k := range keys {
				records = append(records, done(t, k, 100, 1))
			}
			f.segment(n, listed(keys...)...)
			f.part(batch.StepInspect, n, records...)
		}
		f.seal(batch.StepInspect, len(keys))
		return f
	}
	t.Run("inspected", func(t *testing.T) {
		f := fixtureOf(t, batch.Inspect)
		check(t, f.finish())
		verify(t, f)
	})
	t.Run("renamed", func(t *testing.T) {
		f := fixtureOf(t, batch.Rename)
		var rows []batch.Row
		var records []batch.Record
		for _, keys := range keys {
			for _, k := range keys {
				rows = append(rows, batch.Row{N: int64(len(rows)), From: k, To: "new/" + k, Message: "a note"})
				records = append(records, moved(k, "new/"+k))
			}
		}
		rows[1].Sidecar = "a.xmp"
		f.plan(rows)
		f.part(batch.StepRename, 0, records...)
		check(t, f.finish())
		verify(t, f)
		r := f.result()
		if got := r.finals[1]; got.Key != "a.jpg" || got.To != "new/a.jpg" || got.Message != "a note" {
			t.Errorf("record %+v; want that of a.jpg with the plan's message", got)
		}
		if got, want := strings.Split(r.text[report.PlanName], "\n")[2], "a.jpg,new/a.jpg,done,,a note,,a.xmp,"; got != want {
			t.Errorf("plan has %q, want %q", got, want)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		f := newFixture(t, batch.Inspect)
		f.cancel()
		for n, keys := range keys {
			f.segment(n, listed(keys...)...)
		}
		check(t, f.finish())
		verify(t, f)
	})
}
