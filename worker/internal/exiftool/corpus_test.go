package exiftool_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// TestCorpus compares the pool with ExifTool itself, file by file and value by value, on a folder of real files: read
// whole, and in parts.
func TestCorpus(t *testing.T) {
	root := os.Getenv("RESHELF_CORPUS")
	if root == "" {
		t.Skip("RESHELF_CORPUS is not set")
	}
	flags := map[batch.Level][]string{
		batch.LevelNormal:   nil,
		batch.LevelExtended: {"-ee", "-a", "-u"},
	}
	for level, extra := range flags {
		t.Run(string(level), func(t *testing.T) {
			// Each way has a pool of its own: ExifTool names some tags otherwise when it meets them again.
			whole, parts := newPool(t, exiftool.Options{}), newPool(t, exiftool.Options{})
			faults := make(map[batch.Reason]int)
			var before []string
			for paths := range slices.Chunk(corpusFiles(t, root), 100) {
				want := direct(t, extra, paths)
				for _, path := range paths {
					r := read(t, whole, level, path)
					faults[r.Fault]++
					before = append(before, path)
					for way, got := range map[string]exiftool.Result{"whole": r, "in parts": readInParts(t, parts, level, path)} {
						if diff := compare(t, path, want[path], got); diff != "" && !isMood(t, extra, before, got) {
							t.Errorf("%s, read %s: fault %q (%s), warnings %q: -exiftool +pool:\n%s", path, way, got.Fault, got.FaultMessage, got.Warnings, diff)
						}
					}
				}
			}
			t.Logf("faults: %v", faults)
		})
	}
}

// compare is how a result differs from what ExifTool itself says.
func compare(t *testing.T, path string, want metadata.Tags, r exiftool.Result) string {
	t.Helper()
	if r.Fault == batch.ReasonCrashed && strings.Contains(r.FaultMessage, "Out of memory!") {
		t.Logf("%s needs more memory than a pool allows: %s", path, r.FaultMessage)
		return ""
	}
	return cmp.Diff(want, canonicalTags(t, r.Tags))
}

// isMood reports whether ExifTool's own answer for the last of paths depends on what it has read before, and r is what it says
// when it reads that one alone, or after the others.
func isMood(t *testing.T, extra, paths []string, r exiftool.Result) bool {
	t.Helper()
	last := paths[len(paths)-1]
	for _, before := range [][]string{nil, paths[:len(paths)-1]} {
		if cmp.Equal(direct(t, extra, append(slices.Clone(before), last))[last], canonicalTags(t, r.Tags)) {
			t.Logf("%s: ExifTool's own answer depends on what it has read before", last)
			return true
		}
	}
	return false
}

func corpusFiles(t *testing.T, root string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) == 0 {
		t.Fatalf("corpus %s: got %d files, %v", root, len(paths), err)
	}
	return paths
}

// direct is what ExifTool itself says about files under their own names.
func direct(t *testing.T, extra, paths []string) map[string]metadata.Tags {
	t.Helper()
	args := slices.Concat([]string{"-config", "", "-j", "-G1", "-struct", "-api", "LargeFileSupport=1"}, extra, paths)
	cmd := exec.CommandContext(t.Context(), "exiftool", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/nonexistent", "PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0"}
	out, err := cmd.Output()
	var raws []json.RawMessage
	if jsonErr := json.Unmarshal(out, &raws); jsonErr != nil {
		t.Fatalf("exiftool: %v, %v", err, jsonErr)
	}
	found := make(map[string]metadata.Tags)
	for _, raw := range raws {
		source, tags, err := metadata.DecodeObject([]byte(strings.TrimSpace(string(raw))))
		if err != nil {
			t.Fatal(err)
		}
		found[source] = canonicalTags(t, metadata.WithoutAlias(tags))
	}
	return found
}

func canonicalTags(t *testing.T, tags metadata.Tags) metadata.Tags {
	t.Helper()
	if tags == nil {
		return nil
	}
	out := make(metadata.Tags, len(tags))
	for name, value := range tags {
		out[name] = canonical(t, value)
	}
	return out
}

// canonical spells JSON so that equal values are equal: no blanks, members in order.
func canonical(t *testing.T, value json.RawMessage) json.RawMessage {
	t.Helper()
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return json.RawMessage(strings.TrimSuffix(b.String(), "\n"))
}
