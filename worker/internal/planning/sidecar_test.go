package planning_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// tagged makes tags of pairs.
func tagged(pairs ...string) metadata.Tags {
	tags := metadata.Tags{}
	for i := 0; i < len(pairs); i += 2 {
		raw, _ := json.Marshal(pairs[i+1]) // a string always has a JSON form
		tags[pairs[i]] = raw
	}
	return tags
}

// xmp are the tags that ExifTool reads in an XMP sidecar.
func xmp(pairs ...string) metadata.Tags {
	return tagged(append(pairs, "File:MIMEType", "application/rdf+xml")...)
}

// sidecarOf is an XMP sidecar that says on which day its object was taken.
func sidecarOf(day int) metadata.Tags {
	return xmp("XMP-exif:DateTimeOriginal", fmt.Sprintf("2024:01:%02d 10:00:00", day))
}

// taken is an object whose own date is that of the day.
func taken(key archive.Key, day int) object {
	return object{key: key, tags: tagged("ExifIFD:DateTimeOriginal", fmt.Sprintf("2024:01:%02d 10:00:00", day), "File:MIMEType", "image/x")}
}

// want is what a test says about a row.
type want struct {
	to, source string
	sidecar    archive.Key
	message    string
}

func TestPlanSidecars(t *testing.T) {
	const own, said = "ExifIFD:DateTimeOriginal", "sidecar:XMP-exif:DateTimeOriginal"
	tests := map[string]struct {
		objects  []object
		template string // {date:%d}{ext} if empty
		ignore   bool
		want     map[archive.Key]want
	}{
		"corrected": {
			objects: []object{taken("a.jpg", 1), {key: "a.xmp", tags: sidecarOf(2)}, taken("b.jpg", 1)},
			want: map[archive.Key]want{
				"a.jpg": {"02.jpg", said, "a.xmp", ""}, "a.xmp": {"02.xmp", said, "a.xmp", ""}, "b.jpg": {to: "01.jpg", source: own},
			},
		},
		"repeated": {
			objects: []object{taken("a.jpg", 1), {key: "a.xmp", tags: sidecarOf(1)}},
			want:    map[archive.Key]want{"a.jpg": {to: "01.jpg", source: own}, "a.xmp": {to: "01.xmp", source: own}},
		},
		"only the sidecar knows": {
			objects: []object{{key: "a.jpg"}, {key: "a.jpg.xmp", tags: sidecarOf(2)}},
			want:    map[archive.Key]want{"a.jpg": {"02.jpg", said, "a.jpg.xmp", ""}, "a.jpg.xmp": {"02.jpg.xmp", said, "a.jpg.xmp", ""}},
		},
		"the whole name before the stem": {
			objects: []object{taken("a.jpg", 1), {key: "a.XMP", tags: sidecarOf(2)}, {key: "a.jpg.xmp", tags: sidecarOf(3)}},
			want: map[archive.Key]want{
				"a.jpg": {"03.jpg", said, "a.jpg.xmp", ""}, "a.XMP": {"03.XMP", said, "a.jpg.xmp", ""},
				"a.jpg.xmp": {"03.jpg.xmp", said, "a.jpg.xmp", ""},
			},
		},
		"a raw file's, not its JPEG's": {
			objects: []object{taken("a.nef", 1), {key: "a.jpg.xmp", tags: sidecarOf(3)}, taken("a.jpg", 1)},
			want: map[archive.Key]want{
				"a.nef": {to: "01.nef", source: own}, "a.jpg": {to: "01.jpg", source: own}, "a.jpg.xmp": {to: "01.jpg.xmp", source: own},
			},
		},
		"a raw file's": {
			objects: []object{taken("a.nef", 1), {key: "a.xmp", tags: sidecarOf(3)}, taken("a.jpg", 2)},
			want: map[archive.Key]want{
				"a.nef": {"03.nef", said, "a.xmp", ""}, "a.jpg": {"03.jpg", said, "a.xmp", ""}, "a.xmp": {"03.xmp", said, "a.xmp", ""},
			},
		},
		"no XMP": {
			objects: []object{taken("a.jpg", 1), {key: "a.xmp", tags: tagged("ExifIFD:DateTimeOriginal", "2024:01:09 10:00:00", "File:MIMEType", "image/jpeg")}},
			want: map[archive.Key]want{
				"a.jpg": {to: "01.jpg", source: own, message: "its sidecar a.xmp was not used: it is not XMP but image/jpeg"},
				"a.xmp": {to: "01.xmp", source: own},
			},
		},
		"the other one is XMP": {
			objects: []object{taken("a.jpg", 1), {key: "a.xmp", tags: sidecarOf(2)}, {key: "a.jpg.xmp"}},
			want: map[archive.Key]want{
				"a.jpg": {"02.jpg", said, "a.xmp", "its sidecar a.jpg.xmp was not used: nothing could be read in it"},
				"a.xmp": {"02.xmp", said, "a.xmp", ""}, "a.jpg.xmp": {"02.jpg.xmp", said, "a.xmp", ""},
			},
		},
		"cut off": {
			objects: []object{taken("01.jpg", 1), {key: "01.xmp", tags: xmp("ExifTool:Warning", "XMP format error (no closing tag for x:xmpmeta)")}},
			want: map[archive.Key]want{
				"01.jpg": {to: "skipped: unchanged", source: own, message: "it has that name already; its sidecar 01.xmp was not used: ExifTool says XMP format error (no closing tag for x:xmpmeta)"},
				"01.xmp": {to: "skipped: unchanged", source: own, message: "it has that name already"},
			},
		},
		"nothing said": {
			objects: []object{taken("a.jpg", 1), {key: "a.xmp", tags: xmp()}},
			want:    map[archive.Key]want{"a.jpg": {to: "01.jpg", source: own}, "a.xmp": {to: "01.xmp", source: own}},
		},
		"not part of the batch": {
			objects: []object{taken("a.jpg", 1), {key: "a.xmp", tags: sidecarOf(2), excluded: true}},
			want:    map[archive.Key]want{"a.jpg": {to: "01.jpg", source: own}},
		},
		"broken": {
			objects: []object{taken("a.jpg", 1), {key: "a.xmp", problem: batch.ReasonFormat}},
			want: map[archive.Key]want{
				"a.jpg": {to: "01.jpg", source: own, message: "its sidecar a.xmp was not used: it was not inspected: format, for this test"},
				"a.xmp": {to: "01.xmp", source: own, message: "it was not inspected: format, for this test; it goes where its object goes"},
			},
		},
		"broken, and its object stays": {
			objects: []object{taken("01.jpg", 1), {key: "01.xmp", problem: batch.ReasonKilled}}, ignore: true,
			want: map[archive.Key]want{
				"01.jpg": {to: "skipped: unchanged", source: own, message: "it has that name already"},
				"01.xmp": {to: "skipped: unchanged", source: own, message: "it has that name already; it was not inspected: killed, for this test; it goes where its object goes"},
			},
		},
		"broken, of a companion": {
			objects: []object{taken("a.nef", 1), taken("a.jpg", 1), {key: "a.jpg.xmp", problem: batch.ReasonTimeout}},
			want: map[archive.Key]want{
				"a.nef": {to: "01.nef", source: own}, "a.jpg": {to: "01.jpg", source: own},
				"a.jpg.xmp": {to: "01.jpg.xmp", source: own, message: "it was not inspected: timeout, for this test; it goes where its object goes"},
			},
		},
		"no sidecar, but broken": {
			objects: []object{taken("a.nef", 1), {key: "a.jpg", problem: batch.ReasonFormat}},
			want: map[archive.Key]want{
				"a.nef": {to: "skipped: group", message: "it moves only together with a.jpg, which cannot move: it was not inspected: format, for this test"},
				"a.jpg": {to: "failed: not-inspected", message: "it was not inspected: format, for this test"},
			},
		},
		"broken, of nothing": {
			objects: []object{{key: "a.xmp", problem: batch.ReasonFormat}},
			want:    map[archive.Key]want{"a.xmp": {to: "failed: not-inspected", message: "it was not inspected: format, for this test"}},
		},
		"gone": {
			objects: []object{taken("a.jpg", 1), {key: "a.xmp", problem: batch.ReasonMissing}},
			want: map[archive.Key]want{
				"a.jpg": {to: "skipped: group", message: "it moves only together with a.xmp, which cannot move: it was not inspected: missing, for this test"},
				"a.xmp": {to: "failed: not-inspected", message: "it was not inspected: missing, for this test"},
			},
		},
		"its object is broken": {
			objects: []object{{key: "a.jpg", problem: batch.ReasonFormat}, {key: "a.xmp", tags: sidecarOf(2)}},
			want: map[archive.Key]want{
				"a.jpg": {to: "failed: not-inspected", message: "it was not inspected: format, for this test"},
				"a.xmp": {to: "skipped: group", message: "it moves only together with a.jpg, which cannot move: it was not inspected: format, for this test"},
			},
		},
		"of nothing": {
			objects: []object{{key: "a.xmp", tags: sidecarOf(2)}},
			want:    map[archive.Key]want{"a.xmp": {to: "02.xmp", source: "XMP-exif:DateTimeOriginal"}},
		},
		"tags": {
			objects: []object{
				{key: "a.jpg", tags: tagged("XMP-dc:Title", "own", "File:MIMEType", "image/jpeg")}, {key: "a.xmp", tags: xmp("XMP-dc:Title", "said", "XMP-xmp:Rating", "4")},
			},
			template: "{Title}_{XMP-dc:Title}_{sidecar:XMP-dc:Title}_{Rating}{ext}",
			want: map[archive.Key]want{
				"a.jpg": {to: "said_own_said_4.jpg", sidecar: "a.xmp"}, "a.xmp": {to: "said_own_said_4.xmp", sidecar: "a.xmp"},
			},
		},
		"of no matter to the template": {
			objects:  []object{taken("a.jpg", 1), {key: "a.xmp"}},
			template: "x/{name}{ext}",
			want:     map[archive.Key]want{"a.jpg": {to: "x/a.jpg"}, "a.xmp": {to: "x/a.xmp"}},
		},
		"ignored": {
			objects: []object{taken("a.jpg", 1), {key: "a.jpg.xmp"}, {key: "a.xmp", tags: sidecarOf(2)}}, ignore: true,
			want: map[archive.Key]want{
				"a.jpg": {to: "01.jpg", source: own}, "a.jpg.xmp": {to: "01.jpg.xmp", source: own}, "a.xmp": {to: "01.xmp", source: own},
			},
		},
		"numbered in order of the corrected time": {
			objects:  []object{taken("a.jpg", 1), {key: "a.xmp", tags: sidecarOf(3)}, taken("b.jpg", 2)},
			template: "{seq}{ext}",
			want:     map[archive.Key]want{"a.jpg": {to: "2.jpg"}, "a.xmp": {to: "2.xmp"}, "b.jpg": {to: "1.jpg"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.put(t, tt.objects)
			problems, excluded := map[archive.Key]batch.Reason{}, map[archive.Key]bool{}
			for _, o := range tt.objects {
				problems[o.key], excluded[o.key] = o.problem, o.excluded
			}
			template := tt.template
			if template == "" {
				template = "{date:%d}{ext}"
			}
			b := renameBatch(idA, template, batch.ConflictStop)
			b.Renaming.IgnoreSidecars = tt.ignore
			w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
			p, rows := w.plan(t, b, planning.Options{})
			got := map[archive.Key]want{}
			for _, r := range rows {
				got[r.From] = want{outcome(r), r.DateSource, r.Sidecar, r.Message}
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("plan differs (-want +got):\n%s", diff)
			}
			checkSummary(t, p, rows)
		})
	}
}
