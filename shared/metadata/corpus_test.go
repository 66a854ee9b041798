package metadata_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/reshelf/reshelf/shared/metadata"
)

// TestCorpus reads a folder of real files, where there is one, with the real ExifTool.
func TestCorpus(t *testing.T) {
	corpus := os.Getenv("RESHELF_CORPUS")
	if corpus == "" {
		t.Skip("RESHELF_CORPUS is not set")
	}
	tool, err := exec.LookPath("exiftool")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool, "-j", "-G1", "-struct", "-r", filepath.Join(corpus, "exifr")).Output()
	if len(out) == 0 {
		t.Fatalf("exiftool printed nothing: %v", err)
	}
	counts := make(map[string]int)
	sources := make(map[string]int)
	for _, raw := range objects(t, out) {
		source, tags, err := metadata.DecodeObject(raw)
		if err != nil || source == "" {
			t.Errorf("DecodeObject: got source %q, %v", source, err)
			continue
		}
		sameValues(t, source, raw)
		count(counts, metadata.Derive(tags))
		sources[metadata.Derive(tags).Capture.Source]++
		checkFacts(t, tags)
	}
	t.Logf("facts found: %v", counts)
	t.Logf("capture times by source: %v", sources)
	if counts["files"] == 0 || counts["capture"] == 0 || counts["width"] == 0 {
		t.Errorf("too little was found: %v", counts)
	}
}

func objects(t *testing.T, out []byte) []json.RawMessage {
	t.Helper()
	var raws []json.RawMessage
	if err := json.Unmarshal(out, &raws); err != nil {
		t.Fatal(err)
	}
	return raws
}

// sameValues checks that quoting changes bare scalars into the same text and nothing else.
func sameValues(t *testing.T, source string, raw []byte) {
	t.Helper()
	_, quoted, err := metadata.ReadAnswer(append(append([]byte("["), raw...), ']'))
	if err != nil {
		t.Errorf("%s: %v", source, err)
		return
	}
	if got, want := decode(t, quoted), texts(decode(t, raw)); !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\ngot  %v\nwant %v", source, got, want)
	}
}

func decode(t *testing.T, raw []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

// texts turns numbers and booleans into their text.
func texts(v any) any {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	case []any:
		for i := range v {
			v[i] = texts(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = texts(v[k])
		}
	}
	return v
}

func count(counts map[string]int, f metadata.Facts) {
	for name, found := range map[string]bool{
		"files": true, "capture": f.Capture.Source != "", "subsec": len(f.Capture.Wall) > 19,
		"offset": f.Capture.Offset != "", "make": f.Make != "", "model": f.Model != "", "lens": f.Lens != "",
		"serial": f.Serial != "", "width": f.Width > 0, "duration": f.Duration > 0, "mime": f.MIME != "",
		"place": f.Latitude != nil,
	} {
		if found {
			counts[name]++
		}
	}
}
