package main

import (
	"bytes"
	"image"
	"image/jpeg"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tiff is an 8 x 8 grey TIFF 6.0, which a DNG is built on.
func tiff() string {
	entry := func(tag, typ, count, value byte, hi byte) string {
		return string([]byte{tag, hi, typ, 0, count, 0, 0, 0, value, 0, 0, 0})
	}
	const data = 8 + 2 + 8*12 + 4
	return "II*\x00\x08\x00\x00\x00\x08\x00" +
		entry(0x00, 3, 1, 8, 1) + entry(0x01, 3, 1, 8, 1) + entry(0x02, 3, 1, 8, 1) + entry(0x03, 3, 1, 1, 1) +
		entry(0x06, 3, 1, 1, 1) + entry(0x11, 4, 1, data, 1) + entry(0x16, 3, 1, 8, 1) + entry(0x17, 4, 1, 64, 1) +
		"\x00\x00\x00\x00" + string(make([]byte, 64))
}

func jpg(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tag has ExifTool write tags.
func (b *bench) tag(name string, tags ...string) {
	b.t.Helper()
	args := append([]string{"-config", "", "-q", "-overwrite_original"}, tags...)
	if out, err := exec.CommandContext(b.t.Context(), "exiftool", append(args, filepath.Join(b.archive, name))...).CombinedOutput(); err != nil {
		b.t.Fatalf("exiftool %v %s: %v\n%s", tags, name, err, out)
	}
}

// sidecars makes an archive of pictures with sidecars, all of them ExifTool's own.
func sidecars(t *testing.T) *bench {
	b := newBench(t, map[string]string{
		"roll/IMG_1.DNG": tiff(), "roll/IMG_1.JPG": jpg(t), "roll/IMG_2.JPG": jpg(t), "roll/IMG_3.JPG": jpg(t), "roll/IMG_4.JPG": jpg(t),
		"roll/IMG_2.xmp": "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/19", "roll/IMG_4.xmp": jpg(t),
	})
	for name, date := range map[string]string{
		"IMG_1.DNG": "2024:05:03 13:05:09", "IMG_1.JPG": "2024:05:03 13:05:09", "IMG_2.JPG": "2024:05:03 13:06:00",
		"IMG_3.JPG": "2024:05:03 13:07:00", "IMG_4.JPG": "2024:05:03 13:08:00",
	} {
		b.tag("roll/"+name, "-DateTimeOriginal="+date, "-OffsetTimeOriginal=+01:00", "-SubSecTimeOriginal=25", "-Model=Acme 1", "-XMP-dc:Title=own")
	}
	// The raw file's clock was an hour late, the other sidecar only copies.
	b.tag("roll/IMG_1.xmp", "-XMP-exif:DateTimeOriginal=2024:05:03 14:05:09", "-XMP-dc:Title=Parade", "-XMP-tiff:Model=ACME")
	b.tag("roll/IMG_3.JPG.xmp", "-XMP-exif:DateTimeOriginal=2024:05:03 13:07:00", "-XMP-xmp:CreateDate=2024:06:01 10:00:00", "-XMP-tiff:Model=Acme 1")
	return b
}

const bySidecar = "{date:%Y/%m}/{date:%d-%H%M%S.%L}_{model}[_{Title}]{ext}"

func TestSidecars(t *testing.T) {
	b := sidecars(t)
	before := b.files()
	b.want(0, nil, "inspect", b.archive)
	for key, want := range map[string]string{
		"roll/IMG_1.DNG": `"sidecars":["roll/IMG_1.xmp"]`, "roll/IMG_2.JPG": `"sidecars":["roll/IMG_2.xmp"]`, "roll/IMG_3.JPG": `"sidecars":["roll/IMG_3.JPG.xmp"]`,
		"roll/IMG_1.JPG": "", "roll/IMG_1.xmp": "",
	} {
		b.wantRecord(key, want)
	}

	b.want(3, []string{
		"Note: the names of 1 object follow their XMP sidecars", "Note: 2 objects named without their XMP sidecars",
		"Dates are from: 6 ExifIFD:DateTimeOriginal, 3 sidecar:XMP-exif:DateTimeOriginal",
	}, "rename", b.archive, bySidecar)
	b.want(0, []string{
		`roll/IMG_1.JPG,2024/05/03-140509.000_Acme 1_Parade.JPG,,,,sidecar:XMP-exif:DateTimeOriginal,roll/IMG_1.xmp`,
		`roll/IMG_2.JPG,2024/05/03-130600.250_Acme 1_own.JPG,,,its sidecar roll/IMG_2.xmp was not used: ExifTool says XMP format error`,
		`roll/IMG_3.JPG,2024/05/03-130700.250_Acme 1_own.JPG,,,,ExifIFD:DateTimeOriginal,,` + "\n",
		`roll/IMG_4.JPG,2024/05/03-130800.250_Acme 1_own.JPG,,,its sidecar roll/IMG_4.xmp was not used: it is not XMP but image/jpeg,`,
	}, "plan", "last", "--csv")
	b.want(0, []string{"9 objects renamed"}, "apply", "last")
	want := map[string]string{}
	for from, to := range map[string]string{
		"IMG_1.DNG": "03-140509.000_Acme 1_Parade.DNG", "IMG_1.JPG": "03-140509.000_Acme 1_Parade.JPG", "IMG_1.xmp": "03-140509.000_Acme 1_Parade.xmp",
		"IMG_2.JPG": "03-130600.250_Acme 1_own.JPG", "IMG_2.xmp": "03-130600.250_Acme 1_own.xmp",
		"IMG_3.JPG": "03-130700.250_Acme 1_own.JPG", "IMG_3.JPG.xmp": "03-130700.250_Acme 1_own.JPG.xmp",
		"IMG_4.JPG": "03-130800.250_Acme 1_own.JPG", "IMG_4.xmp": "03-130800.250_Acme 1_own.xmp",
	} {
		want["2024/05/"+to] = before["roll/"+from]
	}
	if diff := cmp.Diff(want, b.files()); diff != "" {
		t.Errorf("after the rename:\n%s", diff)
	}
	b.wantRecord("roll/IMG_4.JPG", `"message":"its sidecar roll/IMG_4.xmp was not used`)
	b.want(0, []string{"rename   0 objects", "9 unchanged"}, "rename", b.archive, bySidecar)
	b.want(0, []string{"9 objects renamed back"}, "undo", "last", "--yes")
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Errorf("after undo:\n%s", diff)
	}
}

// A sidecar in which there is nothing but zeros costs its own record only.
func TestBrokenSidecar(t *testing.T) {
	b := newBench(t, map[string]string{"a.JPG": jpg(t), "a.xmp": string(make([]byte, 5000)), "b.xmp": string(make([]byte, 5000))})
	b.tag("a.JPG", "-DateTimeOriginal=2024:05:03 13:05:09")
	before := b.files()
	const template = "{date:%H%M}{ext}"
	b.want(3, []string{"rename   2 objects", "fail     1 object: 1 not-inspected", "Note: 1 object named without"}, "rename", b.archive, template)
	b.want(1, []string{"2 objects: 2 format"}, "apply", "last")
	if diff := cmp.Diff(map[string]string{"1305.JPG": before["a.JPG"], "1305.xmp": before["a.xmp"], "b.xmp": before["b.xmp"]}, b.files()); diff != "" {
		t.Errorf("after the rename:\n%s", diff)
	}
	b.wantRecord("a.xmp", `"to":"1305.xmp"`)
	b.wantRecord("a.JPG", `"message":"its sidecar a.xmp was not used: it was not inspected: format, exiftool says: Entire file is binary zeros"`)
	b.want(0, []string{"2 objects renamed back"}, "undo", "last", "--yes")
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Errorf("after undo:\n%s", diff)
	}
}

// wantRecord checks that a text is in the final record of an object, in the last report; "" that no sidecars are in it.
func (b *bench) wantRecord(key, text string) {
	b.t.Helper()
	for line := range strings.Lines(b.want(0, nil, "report", "last", "--format", "jsonl").stdout) {
		if !strings.HasPrefix(line, `{"key":"`+key+`"`) {
			continue
		}
		if !strings.Contains(line, text) || text == "" && strings.Contains(line, `"sidecars"`) {
			b.t.Errorf("record of %s: want %q in %s", key, text, line)
		}
		return
	}
	b.t.Errorf("no record of %s", key)
}

func TestSidecarsAreIgnored(t *testing.T) {
	b := sidecars(t)
	o := b.want(3, []string{"Dates are from: 9 ExifIFD:DateTimeOriginal"}, "rename", b.archive, bySidecar, "--ignore-sidecars")
	if strings.Contains(o.stdout, "sidecar") {
		t.Errorf("the plan speaks of sidecars: %s", o.stdout)
	}
	b.want(0, []string{"roll/IMG_1.xmp,2024/05/03-130509.250_Acme 1_own.xmp,"}, "plan", "last", "--csv")
}

func TestTrySidecars(t *testing.T) {
	b := sidecars(t)
	t.Chdir(b.archive)
	const template = "{date:%H%M}_{Title}{ext}"
	b.want(0, []string{
		"roll/IMG_1.DNG -> 1405_Parade.DNG  (date from sidecar:XMP-exif:DateTimeOriginal)\n", "roll/IMG_1.JPG -> 1405_Parade.JPG",
		"roll/IMG_1.xmp -> 1405_Parade.xmp", "roll/IMG_4.JPG -> 1308_own.JPG  (date from ExifIFD:DateTimeOriginal; its sidecar roll/IMG_4.xmp was not used: it is not XMP but image/jpeg)",
	}, "try", template, "roll/IMG_1.DNG", "roll/IMG_1.JPG", "roll/IMG_1.xmp", "roll/IMG_4.JPG", "roll/IMG_4.xmp")
	b.want(0, []string{`"to":"1405_Parade.DNG","dateSource":"sidecar:XMP-exif:DateTimeOriginal","sidecar":"roll/IMG_1.xmp"`},
		"try", "--json", template, "roll/IMG_1.DNG", "roll/IMG_1.xmp")
	b.want(0, []string{"roll/IMG_1.DNG -> 1305_own.DNG"}, "try", template, "roll/IMG_1.DNG")
	b.want(0, []string{"roll/IMG_1.DNG -> 1305_own.DNG"}, "try", "--ignore-sidecars", template, "roll/IMG_1.DNG", "roll/IMG_1.xmp")
	b.want(1, []string{"roll/IMG_1.xmp: it moves only together with roll/IMG_1.DNG: no value for {lens}"}, "try", "{lens}", "roll/IMG_1.DNG", "roll/IMG_1.xmp")
	b.want(0, []string{"roll/IMG_1.DNG -> 2.DNG", "roll/IMG_2.JPG -> 1.JPG"}, "try", "{seq}{ext}[{model}]", "roll/IMG_1.DNG", "roll/IMG_1.xmp", "roll/IMG_2.JPG")
}
