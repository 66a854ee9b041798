package naming_test

import (
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

func BenchmarkName(b *testing.B) {
	tmpl := parse(b, "{date:%Y/%m}/{date:%Y%m%d-%H%M%S}_{model|slug}{ext}")
	v := naming.Values{Key: "inbox/IMG_1234.CR3", Facts: metadata.Facts{
		Model: "Canon EOS R5", Capture: metadata.Time{Wall: "2024-05-03T14:05:09.25", Source: "x"},
	}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tmpl.Name(v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFold(b *testing.B) {
	for _, key := range []archive.Key{"2024/05/IMG_1234.CR3", "Φωτογραφίες/Ελένη.jpg"} {
		b.Run(key.Text(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				naming.Fold(key)
			}
		})
	}
}

func BenchmarkGroupKey(b *testing.B) {
	g := naming.DefaultGroups()
	b.ReportAllocs()
	for b.Loop() {
		g.Key("2024/05/IMG_1234.CR3.xmp")
	}
}
