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

// TestCorpus compares the pool with ExifTool itself, file by file and value by value, on a folder of real files.
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
			p := newPool(t, exiftool.Options{Processes: 2})
			faults := make(map[batch.Reason]int)
			differing := 0
			for paths := range slices.Chunk(corpusFiles(t, root), 100) {
				want := direct(t, extra, paths)
				for _, path := range paths {
					r := read(t, p, level, path)
					faults[r.Fault]++
					if r.Fault == batch.ReasonCrashed && strings.Contains(r.FaultMessage, "Out of memory!") {
						t.Logf("%s needs more memory than a pool allows: %s", path, r.FaultMessage)
						continue
					}
					if diff := cmp.Diff(want[path], r.Tags); diff != "" {
						differing++
						t.Errorf("%s: fault %q (%s), warnings %q: -exiftool +pool:\n%s", path, r.Fault, r.FaultMessage, r.Warnings, diff)
					}
				}
			}
			t.Logf("%d differ; faults: %v", differing, faults)
		})
	}
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
	args := slices.Concat([]string{"-config", "", "-j", "-G1", "-struct", "-api", "largefilesupport=1"}, extra, paths)
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
		tags = metadata.WithoutAlias(tags)
		for name, value := range tags {
			tags[name] = canonical(t, value)
		}
		found[source] = tags
	}
	return found
}

// canonical spells JSON as the pool does: no blanks, members in order.
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
