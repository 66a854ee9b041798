package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// TestSidecarsCorrectDates renames pictures of which some have an XMP sidecar with another date, and undoes it, on a fleet.
func TestSidecarsCorrectDates(t *testing.T) {
	localAndS3(t, func(t *testing.T, at place) {
		f := newFleetAt(t, programs, at)
		sidecars := f.drawSidecars(60, 5)
		before := f.draw(60)
		identities := f.identities()
		f.start("w1")
		f.start("w2")
		out, code := f.reshelf("rename", f.archive.String(), template, "--on-conflict", "number", "--yes")
		if note := fmt.Sprintf("the names of %d objects follow their XMP sidecars", len(sidecars)); code > 1 || !strings.Contains(out, note) {
			t.Fatalf("rename: exit %d, want %q in\n%s", code, note, out)
		}
		f.checkRecords(f.newest(), len(before), before)
		f.checkNames(f.newest(), before, f.sums())
		f.checkSidecars(f.newest(), sidecars)
		f.undo(f.newest(), before)
		f.checkVersions(identities)
	})
}

// drawSidecars puts a sidecar beside each of the pictures 0, every, … below n, and returns the objects by sidecar.
func (f *fleet) drawSidecars(n, every int) map[archive.Key]archive.Key {
	f.t.Helper()
	out := map[archive.Key]archive.Key{}
	for i := 0; i < n; i += every {
		stem := fmt.Sprintf("card%d/DCIM/IMG_%05d", i%4, i)
		sidecar := archive.Key(stem + []string{".xmp", ".jpg.xmp"}[i%2])
		out[sidecar] = archive.Key(stem + ".jpg")
		path := filepath.Join(f.drawn, string(sidecar))
		f.must(os.MkdirAll(filepath.Dir(path), 0o755))
		f.must(os.WriteFile(path, fmt.Appendf(nil, `<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>`+
			`<rdf:Description rdf:about='' xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:DateTimeOriginal='1987-06-01T12:00:%02d'/>`+
			`</rdf:RDF></x:xmpmeta>`, i), 0o644))
	}
	return out
}

// checkSidecars checks that objects with sidecars got the date of these, with them, and others did not.
func (f *fleet) checkSidecars(id batch.ID, sidecars map[archive.Key]archive.Key) {
	f.t.Helper()
	corrected := map[archive.Key]archive.Key{}
	for sidecar, object := range sidecars {
		corrected[object], corrected[sidecar] = sidecar, ""
	}
	for _, r := range f.finals(id) {
		sidecar, ok := corrected[r.Key]
		if got := strings.HasPrefix(string(r.To), "1987/06/19870601-1200"); got != ok {
			f.t.Errorf("%s is now %s; has a sidecar: %v", r.Key.Text(), r.To.Text(), ok)
		}
		switch {
		case sidecar == "" && r.Sidecars != nil, sidecar != "" && (len(r.Sidecars) != 1 || r.Sidecars[0] != sidecar):
			f.t.Errorf("%s: sidecars %q, want %q", r.Key.Text(), r.Sidecars, sidecar)
		case sidecar != "" && r.Facts.Capture.Source != "ExifIFD:DateTimeOriginal":
			f.t.Errorf("%s: the record's date is from %s, want its own", r.Key.Text(), r.Facts.Capture.Source)
		}
	}
}
