package report_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/report"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func sum(t testing.TB, a digest.Algorithm, seed byte) digest.Digest {
	t.Helper()
	d, err := digest.New(a, bytes.Repeat([]byte{seed}, a.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func ptr[T any](v T) *T { return &v }

// fullRecord has every field.
func fullRecord(t testing.TB) batch.Record {
	r := batch.Record{
		Object: archive.Object{
			Key:      "in/caf\xe9\tÅ.jpg",
			Identity: archive.Identity{Size: 1234, MTime: 1700000000123456789, Inode: 77, ETag: "abc", Version: "v1"},
		},
		Outcome: batch.Done, Message: "renamed",
		Tags: metadata.Tags{
			"IFD0:Make":          raw(`"Canon"`),
			"ExifIFD:FNumber":    raw(`"1.10"`),
			"XMP-dc:Subject":     raw(`["a","b \u00e9"]`),
			"XMP-x:Struct":       raw(`{"A":"1"}`),
			"IFD0:Bad":           raw("\"x\xff\""),
			"XMP-x:Con\xfftrols": raw(`"tab\tnul\u0000"`),
		},
		Facts: &metadata.Facts{
			Capture: metadata.Time{Wall: "2024-05-01T10:11:12.345", Offset: "+02:00", Source: "ExifIFD:DateTimeOriginal"},
			Make:    "Canon", Model: "EOS R5", Lens: "RF50", Serial: "0012", Width: 8192, Height: 5464, Duration: 1.5,
			MIME: "image/jpeg", Latitude: ptr(0.0), Longitude: ptr(-12.25),
		},
		FromStore: []digest.Algorithm{digest.CRC32, digest.SHA256},
		Sidecars:  []archive.Key{"in/caf\xe9\tÅ.jpg.xmp", "in/b.xmp"},
		ExifTool:  "13.59", Warnings: []string{"minor"}, To: "out/2024.jpg", Epoch: 3,
	}
	for i, a := range digest.Algorithms() {
		r.Digests = append(r.Digests, sum(t, a, byte(i+1)))
	}
	return r
}

func TestCatalogueRoundTrip(t *testing.T) {
	full := fullRecord(t)
	bare := batch.Record{
		Object:  archive.Object{Key: "plain.jpg"},
		Outcome: batch.Failed, Reason: batch.ReasonFormat, Message: "ExifTool: not a JPEG",
	}
	var buf bytes.Buffer
	w := report.NewCatalogueWriter(&buf, report.CatalogueOptions{})
	for _, r := range []batch.Record{full, bare} {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []report.CatalogueRow
	for row, err := range report.Catalogue(bytes.NewReader(buf.Bytes()), int64(buf.Len())) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, row)
	}
	want := []report.CatalogueRow{
		{
			Key: `in/caf\xe9\u{9}Å.jpg`, KeyRaw: []byte("in/caf\xe9\tÅ.jpg"), To: "out/2024.jpg", Outcome: "done", Message: "renamed",
			Size: 1234, MTime: 1700000000123456789, Inode: 77, ETag: "abc", Version: "v1",
			CRC32: "01010101", CRC32C: "02020202", MD5: strings.Repeat("03", 16), SHA1: strings.Repeat("04", 20),
			SHA256: strings.Repeat("05", 32), SHA512: strings.Repeat("06", 64), BLAKE3: strings.Repeat("07", 32),
			XXH364: strings.Repeat("08", 8), XXH3128: strings.Repeat("09", 16), CRC64NVME: strings.Repeat("0a", 8), FromStore: "crc32,sha256",
			CaptureWall: "2024-05-01T10:11:12.345", CaptureOffset: "+02:00", CaptureSource: "ExifIFD:DateTimeOriginal",
			CaptureTime: time.Date(2024, 5, 1, 8, 11, 12, 345e6, time.UTC).UnixNano(),
			Make:        "Canon", Model: "EOS R5", Lens: "RF50", Serial: "0012", Width: 8192, Height: 5464, Duration: 1.5,
			MIME: "image/jpeg", Latitude: ptr(0.0), Longitude: ptr(-12.25), ExifTool: "13.59",
			Tags: map[string]string{
				"IFD0:Make": "Canon", "ExifIFD:FNumber": "1.10", "XMP-dc:Subject": `["a","b \u00e9"]`, "XMP-x:Struct": `{"A":"1"}`,
				"IFD0:Bad": "x\uFFFD", "XMP-x:Con\uFFFDtrols": "tab\tnul\x00",
			},
			Sidecars: []string{`in/caf\xe9\u{9}Å.jpg.xmp`, "in/b.xmp"},
		},
		{Key: "plain.jpg", Outcome: "failed", Reason: "format", Message: "ExifTool: not a JPEG", Tags: map[string]string{}, Sidecars: []string{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	full := fullRecord(t)
	delete(full.Tags, "IFD0:Bad") // JSON texts that are not UTF-8 do not survive
	delete(full.Tags, "XMP-x:Con\xfftrols")
	want := []batch.Record{full, {Object: archive.Object{Key: "<&>.jpg"}, Outcome: batch.Skipped, Reason: batch.ReasonSymlink}}
	var buf bytes.Buffer
	w, err := report.NewRecordWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range want {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []batch.Record
	for r, err := range report.Records(bytes.NewReader(buf.Bytes())) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b digest.Digest) bool { return a == b })); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}

	t.Run("cut short", func(t *testing.T) {
		var last error
		for _, err := range report.Records(bytes.NewReader(buf.Bytes()[:buf.Len()/2])) {
			last = err
		}
		if last == nil {
			t.Error("half a file was read without an error")
		}
	})
}

func TestTables(t *testing.T) {
	hostile := []archive.Key{"=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "＝1", `a\b`, `"quoted", twice`, "a;=1+1", `, "=1`, "caf\xe9", "a-b=c@d+e", "line\nfeed"}
	var failures, duplicates, plan bytes.Buffer
	fw, err := report.NewFailureWriter(&failures)
	check(t, err)
	dw, err := report.NewDuplicateWriter(&duplicates)
	check(t, err)
	pw, err := report.NewPlanWriter(&plan)
	check(t, err)
	for i, key := range hostile {
		n := int64(i)
		check(t, fw.Add(batch.Record{
			Object:  archive.Object{Key: key, Identity: archive.Identity{Size: n}},
			Outcome: batch.Failed, Reason: batch.ReasonIO, Message: "=HYPERLINK; try again",
		}))
		check(t, dw.Add(report.Duplicate{Group: 1, Number: n + 1, Of: int64(len(hostile)), Size: 9, Digest: sum(t, digest.SHA256, 1), Key: key}))
		check(t, pw.Add(batch.Row{N: n, From: key, To: "x/" + key, DateSource: "ExifIFD:DateTimeOriginal"}))
	}
	check(t, fw.Add(batch.Record{Object: archive.Object{Key: "fine"}, Outcome: batch.Done}))
	check(t, pw.Add(batch.Row{From: "unsafe", To: "a_", Changed: []string{"one", "=two"}}))
	check(t, pw.Add(batch.Row{From: "taken", Outcome: batch.Failed, Reason: batch.ReasonExists, Message: "taken by y"}))
	check(t, fw.Close())
	check(t, dw.Close())
	check(t, pw.Close())
	if got, want := fw.Rows(), int64(len(hostile)); got != want {
		t.Errorf("failures: %d rows, want %d", got, want)
	}
	golden(t, report.FailuresName, failures.Bytes())
	golden(t, report.DuplicatesName, duplicates.Bytes())
	golden(t, report.PlanName, plan.Bytes())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCatalogueRowGroups(t *testing.T) {
	const limit = 64 << 10
	var buf bytes.Buffer
	w := report.NewCatalogueWriter(&buf, report.CatalogueOptions{RowGroup: limit})
	for i := range 500 {
		check(t, w.Add(batch.Record{
			Object:  archive.Object{Key: archive.Key(fmt.Sprintf("%05d", i))},
			Outcome: batch.Done, Tags: metadata.Tags{"a:b": raw(`"` + strings.Repeat("v", 2000) + `"`)},
		}))
	}
	check(t, w.Close())
	groups := rowGroups(t, buf.Bytes())
	if len(groups) < 500*2000/limit {
		t.Fatalf("%d row groups, want at least %d", len(groups), 500*2000/limit)
	}
	for i, size := range groups {
		if size > limit*5/4 {
			t.Errorf("row group %d holds %d bytes uncompressed, limit %d", i, size, limit)
		}
	}
	n := 0
	for row, err := range report.Catalogue(bytes.NewReader(buf.Bytes()), int64(buf.Len())) {
		check(t, err)
		if want := fmt.Sprintf("%05d", n); row.Key != want {
			t.Fatalf("row %d has key %s, want %s", n, row.Key, want)
		}
		n++
	}
	if n != 500 {
		t.Errorf("%d rows, want 500", n)
	}
}
