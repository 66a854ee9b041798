package listing_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/listing"
)

func readKeys(text string, format listing.Format) (keys []string, err error) {
	for named, e := range listing.ReadManifest(strings.NewReader(text), format, nil) {
		if e != nil {
			return keys, e
		}
		keys = append(keys, string(named.Key))
	}
	return keys, nil
}

func TestReadManifest(t *testing.T) {
	tests := []struct {
		name, text string
		format     listing.Format // as which auto reads it too
		want       []string
	}{
		{"lines", "b.jpg\nd/a.jpg\n", listing.FormatLines, []string{"b.jpg", "d/a.jpg"}},
		{"lines of find", "./b.jpg\r\n\r\n./d/a b.jpg", listing.FormatLines, []string{"b.jpg", "d/a b.jpg"}},
		{"raw bytes and backslashes", "a\\x41\xff,\"\n", listing.FormatLines, []string{"a\\x41\xff,\""}},
		{"a line with a brace", "{key}.jpg\n", listing.FormatLines, []string{"{key}.jpg"}},
		{"empty", "", listing.FormatLines, nil},
		{"NUL", "a\nb\x00\x00./c", listing.FormatNUL, []string{"a\nb", "c"}},
		{"JSONL", "{\"size\":1,\"key\":\"a\\\\x0ab\"}\n\n {\"key\":\"c\\u00e9\"}\n", listing.FormatJSONL, []string{"a\nb", "cé"}},
		{"byte order mark", "\ufeff{\"key\":\"a\"}", listing.FormatJSONL, []string{"a"}},
		{"CSV", "size,key\r\n1,\"a,\"\"b\"\r\n2,c\\xff\r\n", listing.FormatCSV, []string{`a,"b`, "c\xff"}},
		{"CSV of keys", "key\na\n\nb", listing.FormatCSV, []string{"a", "b"}},
		{"CSV with byte order mark", "\ufeff\"key\",x\na,1\n", listing.FormatCSV, []string{"a"}},
	}
	for _, tt := range tests {
		for _, format := range []listing.Format{tt.format, listing.FormatAuto} {
			t.Run(tt.name+"/"+string(format), func(t *testing.T) {
				got, err := readKeys(tt.text, format)
				if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
					t.Errorf("err = %v; keys (-want +got):\n%s", err, diff)
				}
			})
		}
	}
}

func TestReadManifestRefuses(t *testing.T) {
	long := strings.Repeat("x", 17<<20)
	tests := []struct {
		name, text string
		format     listing.Format
		keys       int // before the error
		want       string
	}{
		{"absolute", "a\n/mnt/b\n", "auto", 1, `line 2: invalid key "/mnt/b": keys are relative`},
		{"escape", "a\n\nb/../../c\n", "auto", 1, "line 3"},
		{"long key", strings.Repeat("x", 5000), "auto", 0, "line 1"},
		{"long line", "a\n" + long, "lines", 1, "line 2: it is longer"},
		{"UTF-16", "\xff\xfea\x00\n\x00", "auto", 0, "UTF-16"},
		{"unknown format", "a", "xml", 0, `unknown format "xml"`},
		{"JSON syntax", "{\"key\":\"a\"}\n{\"key\":", "auto", 1, "line 2"},
		{"JSON without key", "{\"key\":\"a\"}\n{\"name\":\"b\"}", "auto", 1, `line 2: it has no "key"`},
		{"JSON key is no text", "{\"key\":1}", "auto", 0, "line 1"},
		{"JSON not UTF-8", "{\"key\":\"\xff\"}", "jsonl", 0, "line 1: it is not UTF-8"},
		{"JSON bad escape", `{"key":"a\\b"}`, "auto", 0, "line 1"},
		{"CSV without column", "a,b\n1,2\n", "csv", 0, `no column is named "key"; there are ["a" "b"]`},
		{"CSV whose lines end with CR", "key,size,x\ra,1,\r", "auto", 0, "its lines end with a carriage return alone"},
		{"CSV without header", "", "csv", 0, "no header"},
		{"CSV ragged", "key,b\n1,2\n1\n", "auto", 1, "line 3"},
		{"CSV bad quote", "key\na\n\"b\nc", "auto", 1, "line"},
		{"CSV bad key", "b,key\n1,2\n\n1,../x\n", "auto", 1, "line 4"},
		{"CSV not UTF-8", "key\n\xff\n", "csv", 0, "line 2: it is not UTF-8"},
		{"CSV endless quote", "key\na\n\"" + long, "auto", 1, "it is longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readKeys(tt.text, tt.format)
			if !errors.Is(err, listing.ErrManifest) || !strings.Contains(err.Error(), tt.want) || len(got) != tt.keys {
				t.Errorf("%d keys, err = %v; want %d, %q", len(got), err, tt.keys, tt.want)
			}
		})
	}
}

// A reader that fails is not a manifest that ends.
func TestReadManifestReaderFails(t *testing.T) {
	broken := errors.New("pipe broke")
	for _, text := range []string{"", "a\n", "key\na\n", "{\"key\":\"a\"}\n", "a\x00"} {
		for _, size := range []int{0, 70_000} {
			r := io.MultiReader(strings.NewReader(text+strings.Repeat(text, size)), iotest.ErrReader(broken))
			var last error
			for _, err := range listing.ReadManifest(r, listing.FormatAuto, nil) {
				last = err
			}
			if !errors.Is(last, broken) {
				t.Errorf("manifest %q…: err = %v, want %v", text, last, broken)
			}
		}
	}
}

func TestReadManifestMayBeEndedEarly(t *testing.T) {
	for _, text := range []string{"a\nb\n", "key\na\nb\n", "{\"key\":\"a\"}\n{\"key\":\"b\"}\n"} {
		for named, err := range listing.ReadManifest(strings.NewReader(text), listing.FormatAuto, nil) {
			if named.Key != "a" || err != nil {
				t.Errorf("first key = %q, %v", named.Key, err)
			}
			break
		}
	}
}

func FuzzReadManifest(f *testing.F) {
	for _, text := range []string{
		"a\nb\n", "a\x00b", "{\"key\":\"a\",\"size\":1.50}\n", "key,size\na,1\n\"b\n\",2\n", "{\"key\":\"a\\\\x00\"}\n", "\ufeffkey\n=a\n", "\xff\xfea", "./a\r\n",
	} {
		for i := range listing.Formats() {
			f.Add([]byte(text), i)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		format := listing.Formats()[uint(n)%uint(len(listing.Formats()))]
		var columns []string
		if format == listing.FormatCSV || format == listing.FormatJSONL {
			columns = []string{"size", "note"}[:n&1]
		}
		var keys []archive.Key
		ended := false
		for named, err := range listing.ReadManifest(bytes.NewReader(data), format, columns) {
			if ended {
				t.Fatal("the sequence goes on after an error")
			}
			if err != nil {
				ended = true
				continue
			}
			if _, err := archive.ParseKey(string(named.Key)); err != nil {
				t.Fatalf("key %q: %v", named.Key, err)
			}
			for column, text := range named.Columns {
				if !slices.Contains(columns, column) || text == "" || !utf8.ValidString(text) || len(text) > 16<<10 {
					t.Fatalf("column %q of %q: %q", column, named.Key, text)
				}
			}
			keys = append(keys, named.Key)
		}
		if len(keys) > len(data) {
			t.Fatalf("%d keys in %d bytes", len(keys), len(data))
		}
		for _, format := range listing.Formats() {
			roundTrip(t, keys, format)
		}
	})
}

// roundTrip writes keys as a manifest and reads them again.
func roundTrip(t *testing.T, keys []archive.Key, format listing.Format) {
	t.Helper()
	var buf bytes.Buffer
	end := "\n"
	switch format {
	case listing.FormatJSONL:
		enc := json.NewEncoder(&buf)
		for _, k := range keys {
			if err := enc.Encode(map[string]any{"key": k}); err != nil {
				t.Fatal(err)
			}
		}
	case listing.FormatCSV:
		w := csv.NewWriter(&buf)
		rows := [][]string{{"n", "key"}}
		for _, k := range keys {
			rows = append(rows, []string{"1", k.Text()})
		}
		if err := w.WriteAll(rows); err != nil {
			t.Fatal(err)
		}
	case listing.FormatNUL:
		end = "\x00"
		fallthrough
	case listing.FormatLines:
		for _, k := range keys {
			if end == "\n" && strings.ContainsAny(string(k), "\r\n") {
				return
			}
			// A leading mark or NUL would mean something else, and so would ./ in front of a key.
			buf.WriteString("./" + string(k) + end)
		}
	default:
		return
	}
	var got []archive.Key
	for named, err := range listing.ReadManifest(&buf, format, nil) {
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		got = append(got, named.Key)
	}
	if !slices.Equal(got, keys) {
		t.Fatalf("%s: %q, want %q", format, got, keys)
	}
}
