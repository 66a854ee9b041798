package runtime

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/store"
)

// Finding is one line of the doctor's report.
type Finding struct {
	Name   string `json:"name"`
	State  string `json:"state"` // "ok", "warn" or "fail"
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // what to do, where State is not "ok"
}

// Doctor examines what a worker of this machine needs, and an archive if one is given. It changes nothing in the archive.
func Doctor(ctx context.Context, program string, root archive.Root) []Finding {
	out := []Finding{perl(), readSample(ctx, program), space("scratch", os.TempDir())}
	if !root.IsZero() {
		out = append(out, examine(ctx, root)...)
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

// readSample has ExifTool read a file whose tags are known: a program that answers, but wrongly, is found here.
func readSample(ctx context.Context, program string) Finding {
	f := Finding{Name: "ExifTool", State: "fail", Remedy: "install it: apt-get install libimage-exiftool-perl"}
	version, err := sampleVersion(ctx, program)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	return Finding{Name: "ExifTool", State: "ok", Detail: "version " + version + ", reads a known sample right"}
}

// sample is an XMP packet (ISO 16684-1) with one exact value.
const sample = `<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>` +
	`<rdf:Description rdf:about='' xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Model='1.10'/></rdf:RDF></x:xmpmeta>`

// sampleWithin bounds the wait for a program that may never answer.
const sampleWithin = 20 * time.Second

func sampleVersion(ctx context.Context, program string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleWithin)
	defer cancel()
	dir, err := os.MkdirTemp("", "reshelf-doctor-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "sample.xmp"), []byte(sample), 0o600); err != nil {
		return "", err
	}
	root, err := archive.FileRoot(dir)
	if err != nil {
		return "", err
	}
	for r, err := range Preview(ctx, program, root, []archive.Key{"sample.xmp"}, batch.LevelNormal, 0) {
		if err != nil {
			return "", err
		}
		return r.ExifTool, checkSample(r.Tags)
	}
	return "", fmt.Errorf("no answer: %w", ctx.Err())
}

func checkSample(tags metadata.Tags) error {
	if got, _ := tags.Text("XMP-tiff:Model"); got != "1.10" {
		return fmt.Errorf("it reads the model of a known sample as %q, want \"1.10\"", got)
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

func examine(ctx context.Context, root archive.Root) []Finding {
	st, err := openArchive(ctx, root)
	if err != nil {
		return []Finding{{"archive", "fail", err.Error(), "check the path and whether it is mounted"}}
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
	p := st.Properties()
	rename := Finding{Name: "renames", State: "ok", Detail: "safe, by " + p.RenameMethod}
	if !p.GuardedRename {
		rename = Finding{"renames", "warn", "not safe while others write, by " + p.RenameMethod, p.Remedy}
	}
	return append(out, rename)
}
