package runtime_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// intent is what somebody wants names to be, as ExifTool is told it and as Reshelf is.
type intent struct {
	exiftool []string
	template string
	// tags are those that the expression reads, where a file may have several of one name.
	tags []string
}

func intents() []intent {
	dated := func(format, expression string) []string { return []string{"-d", format, "-testname<" + expression} }
	one := func(expression string) []string { return []string{"-testname<" + expression} }
	return []intent{
		{dated("%Y%m%d_%H%M%S.%%le", "DateTimeOriginal"), "{dir}/{date(DateTimeOriginal):%Y%m%d_%H%M%S}{ext|lower}", []string{"DateTimeOriginal"}},
		{dated("%Y%m%d_%H%M%S.%%le", "DateTimeOriginal"), "{dir}/{date:%Y%m%d_%H%M%S}{ext|lower}", []string{"DateTimeOriginal"}},
		{dated("%Y-%m-%d %H.%M.%S.%%e", "CreateDate"), "{dir}/{date(CreateDate):%Y-%m-%d %H.%M.%S}{ext}", []string{"CreateDate"}},
		{dated("%Y%m%d", "${CreateDate}_%f.%e"), "{dir}/{date(CreateDate):%Y%m%d}_{name}{ext}", []string{"CreateDate"}},
		{dated("%Y%m%d-%H%M%S%3f.%%e", "SubSecDateTimeOriginal"), "{dir}/{date(DateTimeOriginal):%Y%m%d-%H%M%S.%L}{ext}", nil},
		{dated("%Y-%j_%%f.%%e", "FileModifyDate"), "{dir}/{mtime:%Y-%j}_{name}{ext}", nil},
		{dated("%Y-%m-%d", "${DateTimeOriginal}_${Model;s/ /_/g}.%e"), `{dir}/{date(DateTimeOriginal):%Y-%m-%d}_{Model|replace(" ","_")}{ext}`, []string{"DateTimeOriginal", "Model"}},
		{one("${Make}_${Model}.%e"), "{dir}/{Make}_{Model}{ext}", []string{"Make", "Model"}},
		{one("${Make}_${Model}.%e"), "{dir}/{make}_{model}{ext}", []string{"Make", "Model"}},
		{one("${Composite:LensID;s(/)(_)g}.%e"), "{dir}/{Composite:LensID}{ext}", nil},
		{one("${LensModel}.%e"), "{dir}/{LensModel}{ext}", []string{"LensModel"}},
		{[]string{"-testname=%f_x.%e"}, "{dir}/{name}_x{ext}", nil},
		{[]string{"-testname=%-.2f_x.%ue"}, `{dir}/{name|regex("..$","")}_x{ext|upper}`, nil},
		{one("%f_x.${FileTypeExtension}"), "{dir}/{name}_x{realext}", nil},
		{one("${ImageWidth}x${ImageHeight}.%e"), "{dir}/{width}x{height}{ext}", []string{"ImageWidth", "ImageHeight"}},
		{one("${ImageSize}.%e"), "{dir}/{width}x{height}{ext}", []string{"ImageWidth", "ImageHeight"}},
		{one("${ISO}_${FNumber}.%e"), "{dir}/{ISO}_{FNumber}{ext}", []string{"ISO", "FNumber"}},
		{one("${Artist}.%e"), "{dir}/{Artist}{ext}", []string{"Artist"}},
		{one("${Title}.%e"), "{dir}/{Title}{ext}", []string{"Title"}},
		{one("${FileSize#}.%e"), "{dir}/{size}{ext}", nil},
		{one(`${GPSLatitude#;$_=sprintf("%.4f",$_)}.%e`), "{dir}/{lat:4}{ext}", []string{"GPSLatitude"}},
	}
}

// apart copies files, each into a folder of its own under a plain name, so that no name is taken and nothing belongs together.
func apart(t *testing.T, source string, every int) (dir string, keys []archive.Key) {
	t.Helper()
	dir = t.TempDir()
	seen := 0
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if seen++; seen%every != 0 {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder := fmt.Sprintf("%04d", len(keys))
		key := archive.Key(folder + "/Img1" + filepath.Ext(path))
		keys = append(keys, key)
		return errors.Join(os.Mkdir(filepath.Join(dir, folder), 0o755), os.WriteFile(filepath.Join(dir, string(key)), raw, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir, keys
}

// byExifTool are the names that ExifTool would give.
func byExifTool(t *testing.T, dir string, args []string) map[archive.Key]string {
	t.Helper()
	cmd := exec.Command("exiftool", append(args, "-r", ".")...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && errs.Len() == 0 { // it ends with 1 if there was nothing to do for a file
		t.Fatal(err)
	}
	names := map[archive.Key]string{}
	for _, m := range regexp.MustCompile(`(?m)^'\./(.*?)' --> '(.*)'$`).FindAllStringSubmatch(out.String(), -1) {
		names[archive.Key(m[1])] = strings.TrimPrefix(m[2], "./")
	}
	return names
}

// byReshelf are the names of a plan.
func byReshelf(t *testing.T, dir string, records []batch.Record, template string) map[archive.Key]string {
	t.Helper()
	ctx := t.Context()
	st, err := storeurl.New("").Open(ctx, root(t, dir), storeurl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	led := ledger.New(memstore.New(archive.Root{}))
	b := batch.Batch{ID: id, Archive: root(t, dir), Renaming: &batch.RenameOptions{Template: template, OnConflict: batch.ConflictSkip}}
	ref := batch.Ref{Batch: id, Step: batch.StepInspect, Generation: 1}
	var seg batch.Segment
	w, err := ledger.NewPartWriter(ref, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, r := range records {
		seg.Objects = append(seg.Objects, batch.Listed{Object: r.Object})
		err = errors.Join(err, w.Add(r))
	}
	_, failed := led.CreateSegment(ctx, ref, seg)
	_, _, notMade := led.CreatePart(ctx, w)
	err = errors.Join(err, failed, notMade, led.Seal(ctx, id, batch.StepInspect, 1, 1), planning.Plan(ctx, hold{}, led, st, b, 1, planning.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := led.Plan(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	names := map[archive.Key]string{}
	for r, err := range led.Rows(ctx, p) {
		if err != nil {
			t.Fatal(err)
		}
		if r.To != "" {
			names[r.From] = string(r.To)
		}
	}
	return names
}

// hold is a claim that nothing ends.
type hold struct{}

func (hold) Held() error          { return nil }
func (hold) Cancelled() bool      { return false }
func (hold) Advance(int64, int64) {}

// Why names differ.
const (
	bySlash   = "a slash in a tag: Reshelf writes `_`, ExifTool makes folders, below the working directory"
	bySafety  = "a character that is not safe everywhere is `_` in Reshelf"
	byBlanks  = "blanks at the ends of a tag, which Reshelf leaves out"
	byTag     = "several tags have that name, or none is a date, and another one is taken"
	byCutting = "Reshelf cuts sub-seconds, ExifTool rounds them"
	byLenses  = "lenses that it may be, which ExifTool tells in another order each time"
	byImage   = "the file holds several images, and the template takes the size of the main one (Composite:ImageSize)"
)

// whyOtherwise explains that an object has two names, "" if it cannot.
func (in intent) whyOtherwise(t *testing.T, r batch.Record, theirs, ours string) string {
	t.Helper()
	folder := string(r.Key.Dir()) + "/"
	name, inFolder := strings.CutPrefix(theirs, folder)
	safe := folder + portable(t, name)
	switch {
	case safe == ours && (!inFolder || strings.Contains(name, "/")):
		return bySlash
	case folder+strings.TrimSpace(name) == ours:
		return byBlanks
	case safe == ours:
		return bySafety
	case in.tags == nil && nextTo(theirs, ours):
		return byCutting
	case eitherWay(theirs) == eitherWay(ours):
		return byLenses
	case slices.Contains(in.tags, "ImageWidth") && ours == fmt.Sprintf("%s%s%s", folder, bare(r.Tags["Composite:ImageSize"]), filepath.Ext(ours)):
		return byImage
	case slices.ContainsFunc(in.tags, func(tag string) bool { return ambiguous(r, tag) }):
		return byTag
	}
	return ""
}

// eitherWay is a name that may be of several lenses, with these in order.
func eitherWay(name string) string {
	ext := filepath.Ext(name)
	folder, stem := filepath.Split(strings.TrimSuffix(name, ext))
	lenses := strings.Split(stem, " or ")
	slices.Sort(lenses)
	return folder + strings.Join(lenses, " or ") + ext
}

// bare is the text of a tag.
func bare(raw json.RawMessage) string { return strings.Trim(string(raw), `"`) }

// portable is a text of a tag as Reshelf makes a name of it.
func portable(t *testing.T, name string) string {
	t.Helper()
	tmpl, err := naming.Parse("{csv:N}")
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Name(naming.Values{Key: "x", Columns: map[string]string{"N": name}})
	if err != nil {
		t.Fatal(err)
	}
	return string(got.Key)
}

// nextTo reports whether the last digits of two names differ by one.
func nextTo(a, b string) bool {
	number := regexp.MustCompile(`\.(\d{3})\.`)
	x, y := number.FindStringSubmatch(a), number.FindStringSubmatch(b)
	if x == nil || y == nil || number.ReplaceAllString(a, "") != number.ReplaceAllString(b, "") {
		return false
	}
	m, _ := strconv.Atoi(x[1]) // they are digits
	n, _ := strconv.Atoi(y[1])
	return m == n+1
}

// ambiguous reports whether an object has several texts for a tag, or one that is to be a date and is none.
func ambiguous(r batch.Record, tag string) bool {
	texts := map[string]bool{}
	for name, raw := range r.Tags {
		if strings.HasSuffix(name, ":"+tag) {
			texts[string(raw)] = true
		}
	}
	noDate := false
	for text := range texts {
		noDate = noDate || strings.Contains(tag, "Date") && !regexp.MustCompile(`^"\d{4}:\d\d:\d\d \d\d:\d\d`).MatchString(text)
	}
	return len(texts) > 1 || noDate
}

// compare checks that all names of all intents are the same, or that it is known why not. It returns a row of a table for each
// intent.
func compare(t *testing.T, dir string, keys []archive.Key) (table []string) {
	t.Helper()
	records, err := preview(t, "", dir, keys...)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range intents() {
		theirs, ours := byExifTool(t, dir, in.exiftool), byReshelf(t, dir, records, in.template)
		both, why := 0, map[string]int{}
		for i, k := range keys {
			a, ok := theirs[k]
			b, too := ours[k]
			if !ok || !too {
				continue
			}
			both++
			if a == b {
				continue
			}
			reason := in.whyOtherwise(t, records[i], a, b)
			if why[reason]++; reason == "" {
				t.Errorf("%q gives %q the name %q, %s gives it %q", in.exiftool, k, a, in.template, b)
			}
		}
		same := both
		for _, n := range why {
			same -= n
		}
		if same == 0 {
			t.Errorf("%q and %s: of %d names none is the same", in.exiftool, in.template, both)
		}
		row := fmt.Sprintf("| `%s` | `%s` | %d | %d |", strings.Join(in.exiftool, " "), in.template, both, same)
		for _, reason := range slices.Sorted(maps.Keys(why)) {
			row += fmt.Sprintf(" %d: %s;", why[reason], reason)
		}
		table = append(table, strings.TrimSuffix(row, ";")+" |")
	}
	return table
}

// TestNamesLikeExifTools compares the names of a plan with those that ExifTool would give by the same intent, for two pictures that
// were made for it.
func TestNamesLikeExifTools(t *testing.T) {
	dir := t.TempDir()
	keys := []archive.Key{"0/Img1.jpg", "1/Img1.JPG"}
	for i, tags := range [][]string{
		{"-DateTimeOriginal=2024:05:03 14:05:09", "-CreateDate=2024:05:03 14:05:10", "-SubSecTimeOriginal=25", "-Make=Acme", "-Model=One Two", "-LensModel=50mm", "-GPSLatitude=37.98381"},
		{"-DateTimeOriginal=2023:01:31 00:00:00", "-CreateDate=2023:01:31 00:00:00", "-SubSecTimeOriginal=2346", "-Make=A/B", "-Model=C:D", "-LensModel=f/2.8", "-XMP:Model=E"},
	} {
		name := filepath.Join(dir, string(keys[i]))
		var picture bytes.Buffer
		err := errors.Join(jpeg.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 4)), nil), os.Mkdir(filepath.Dir(name), 0o755), os.WriteFile(name, picture.Bytes(), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, "-Artist=Ann", "-Title=Sea", "-ISO=100", "-FNumber=2.8", "-GPSLatitudeRef=N", "-GPSLongitude=23.7", "-GPSLongitudeRef=E", "-q", "-overwrite_original", name)
		if out, err := exec.Command("exiftool", tags...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, row := range compare(t, dir, keys) {
		t.Log(row)
	}
}

// TestNamesLikeExifToolsCorpus does the same with real files: every eighth one, or every nth as RESHELF_NAMES_EVERY says. Its table
// of every one is in docs/exiftool.md.
func TestNamesLikeExifToolsCorpus(t *testing.T) {
	corpus := os.Getenv("RESHELF_CORPUS")
	if corpus == "" {
		t.Skip("RESHELF_CORPUS is not set")
	}
	every, err := strconv.Atoi(cmp.Or(os.Getenv("RESHELF_NAMES_EVERY"), "8"))
	if err != nil {
		t.Fatal(err)
	}
	dir, keys := apart(t, corpus, every)
	for _, row := range compare(t, dir, keys) {
		t.Log(row)
	}
}
