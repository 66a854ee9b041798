package runtime

import (
	"context"
	_ "embed" // the sample
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// Finding is one line of the doctor's report.
type Finding struct {
	Name   string `json:"name"`
	State  string `json:"state"` // "ok", "warn" or "fail"
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // what to do, where State is not "ok"
}

// Doctor examines what a worker of this machine needs, and an archive if one is given. It changes nothing in the archive; in
// a bucket it tries out what the server does, on scratch objects that it removes again.
func Doctor(ctx context.Context, stores *storeurl.Opener, program string, root archive.Root) []Finding {
	out := append([]Finding{perl()}, examineExifTool(ctx, program)...)
	out = append(out, space("scratch", os.TempDir()))
	if !root.IsZero() {
		out = append(out, examine(ctx, stores, root)...)
	}
	return out
}

func perl() Finding {
	path, err := exec.LookPath("perl")
	if err != nil {
		return Finding{"perl", "fail", "not found", "install it: apt-get install perl"}
	}
	return Finding{Name: "perl", State: "ok", Detail: path}
}

// examineExifTool has ExifTool read a file whose tags are known: a program that answers, but wrongly, is found here.
func examineExifTool(ctx context.Context, program string) []Finding {
	version, gaps, err := readSample(ctx, program)
	if errors.Is(err, errTemporary) {
		return []Finding{{"temporary files", "fail", err.Error(), "make the folder, or room in it, or name another one with TMPDIR"}}
	}
	if err != nil {
		return []Finding{{"ExifTool", "fail", err.Error(), "install it (Debian: apt-get install libimage-exiftool-perl; newer: exiftool.org, or the npm package exiftool-vendored.pl), or name another with --exiftool"}}
	}
	out := []Finding{{Name: "ExifTool", State: "ok", Detail: "version " + version + ", reads a known sample right"}}
	if hangs := exiftool.KnownHangs(version); len(hangs) > 0 {
		detail := fmt.Sprintf("version %s is known to hang on some files of these formats: %s. Such a file costs its time limit, twice, and fails", version, strings.Join(hangs, ", "))
		out = append(out, Finding{"ExifTool's age", "warn", detail, "install a newer one (exiftool.org, or the npm package exiftool-vendored.pl) and name it with --exiftool"})
	}
	confinement := Finding{Name: "confinement", State: "ok", Detail: "ExifTool can read files, and nothing else"}
	if len(gaps) > 0 {
		confinement = Finding{"confinement", "warn", strings.Join(gaps, "; "), "use Linux 6.12 or newer with Landlock, and allow seccomp filters; until then inspect only files that you trust"}
	}
	return append(out, confinement)
}

// sample is a photograph of 16 by 8 pixels with Exif, GPS and XMP.
//
//go:embed doctor.jpg
var sample []byte

// sampleTags are some tags of sample, spelled as ExifTool spells them. A version that cannot tell these cannot be trusted
// with others: numbers must keep their digits, times their fractions and zones, places their hemispheres, text its letters.
func sampleTags() map[string]string {
	return map[string]string{
		"File:FileType":                    "JPEG",
		"File:ImageWidth":                  "16",
		"IFD0:Model":                       "1.10",
		"IFD0:Orientation":                 "Rotate 90 CW",
		"ExifIFD:DateTimeOriginal":         "2024:02:29 23:59:59",
		"Composite:SubSecDateTimeOriginal": "2024:02:29 23:59:59.007+05:30",
		"Composite:GPSLatitude":            `33 deg 30' 0.00" S`,
		"Composite:GPSLongitude":           `151 deg 15' 0.00" E`,
		"XMP-dc:Title":                     "Größe <1>",
	}
}

// sampleWithin bounds the wait for a program that may never answer.
const sampleWithin = 20 * time.Second

// errTemporary: no file could be made in the folder for temporary files. It is no fault of ExifTool's.
var errTemporary = errors.New("the folder for temporary files cannot be used")

func readSample(ctx context.Context, program string) (version string, gaps []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sampleWithin)
	defer cancel()
	dir, err := os.MkdirTemp("", "reshelf-doctor-")
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", errTemporary, err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sample.jpg")
	if err := os.WriteFile(path, sample, 0o600); err != nil {
		return "", nil, fmt.Errorf("%w: %w", errTemporary, err)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	pool, remove, err := privatePool(program, []string{dir})
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", errTemporary, err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	r, err := pool.Read(ctx, batch.LevelNormal, file, "sample.jpg")
	switch {
	case err != nil:
		return "", nil, err
	case r.Fault != "":
		return "", nil, fmt.Errorf("it cannot read a known sample: %s", r.FaultMessage)
	}
	return r.Version, pool.Status().Gaps, checkSample(r.Tags)
}

func checkSample(tags metadata.Tags) error {
	known := sampleTags()
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if got, _ := tags.Text(name); got != known[name] {
			return fmt.Errorf("it reads %s of a known sample as %q, want %q", name, got, known[name])
		}
	}
	return nil
}

func space(what, dir string) Finding {
	f := Finding{Name: what, State: "ok"}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Finding{what, "fail", fmt.Sprintf("%s: %v", dir, err), "make the folder, or set TMPDIR"}
	}
	free := int64(s.Bavail) * s.Bsize
	f.Detail = fmt.Sprintf("%s: %d MB free", dir, free>>20)
	if free < 1<<30 {
		f.State, f.Remedy = "warn", "keep at least 1 GB free"
	}
	return f
}

func examine(ctx context.Context, stores *storeurl.Opener, root archive.Root) []Finding {
	st, err := stores.Open(ctx, root, storeurl.Options{})
	if err != nil {
		remedy := "check the path and whether it is mounted"
		if root.Scheme() == archive.SchemeS3 {
			remedy = "check the bucket, the endpoint and the credentials"
		}
		return []Finding{{"archive", "fail", err.Error(), remedy}}
	}
	defer st.Close()
	out := []Finding{{Name: "archive", State: "ok", Detail: root.String()}}
	for e, err := range st.List(ctx, store.ListOptions{}) {
		if err != nil {
			out[0] = Finding{"archive", "fail", err.Error(), "check access for this user"}
		} else if e.Kind == store.Unreadable {
			out[0] = Finding{"archive", "warn", fmt.Sprintf("%s: %v", e.Key.Text(), e.Err), "check access for this user"}
		}
		break
	}
	if root.Scheme() == archive.SchemeS3 {
		return append(out, examineBucket(ctx, stores, root)...)
	}
	p := st.Properties()
	rename := Finding{Name: "renames", State: "ok", Detail: "safe, by " + p.RenameMethod}
	if !p.GuardedRename {
		rename = Finding{"renames", "warn", "not safe while others write, by " + p.RenameMethod, p.Remedy}
	}
	out = append(out, rename, examineNames(p))
	if p.FoldsCase {
		out = append(out, Finding{Name: "case of names", State: "ok", Detail: "folds case: two names that differ only in it are one; to change it takes a name in between"})
	}
	return out
}

// examineNames says whether objects can get names that others of their batch have.
func examineNames(p store.Properties) Finding {
	switch {
	case p.Exchange:
		return Finding{Name: "names in use", State: "ok", Detail: "an object can get the name that another one leaves, and two can exchange theirs"}
	case p.AtomicRename:
		return Finding{"names in use", "warn", "an object can get the name that another one leaves, but two cannot exchange theirs",
			"give one of them another name first, where a plan says so"}
	case p.Parks:
		return Finding{Name: "names in use", State: "ok", Detail: "an object can get the name that another one leaves, and two can exchange theirs, by way of names in between"}
	}
	return Finding{"names in use", "warn", "a name counts as taken until the batch is over, also where its object leaves it", "rename again afterwards, where a plan says so"}
}

// examineBucket finds out what the server of a bucket does.
func examineBucket(ctx context.Context, stores *storeurl.Opener, root archive.Root) []Finding {
	traits, err := stores.Examine(ctx, root, nil)
	if err != nil {
		return []Finding{{"renames", "warn", err.Error(), "to rename, these credentials must be able to write and delete objects; to inspect, reading is enough"}}
	}
	var out []Finding
	for _, t := range traits {
		f := Finding{Name: t.Name, State: "ok", Detail: t.Detail}
		if !t.OK {
			f.State, f.Remedy = "warn", t.Remedy
		}
		out = append(out, f)
	}
	return out
}
