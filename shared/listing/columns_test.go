package listing_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/listing"
)

func readNamed(text string, columns ...string) (out []listing.Named, err error) {
	for named, e := range listing.ReadManifest(strings.NewReader(text), listing.FormatAuto, columns) {
		if e != nil {
			return out, e
		}
		out = append(out, named)
	}
	return out, nil
}

func TestReadManifestColumns(t *testing.T) {
	tests := []struct {
		name, text string
		columns    []string
		want       []listing.Named
	}{
		{"CSV", "Box,key,Of\n7,a,\"Ann, \"\"B\"\"\n\t../x\"\n,b,\n", []string{"Of", "Box"}, []listing.Named{
			{"a", map[string]string{"Box": "7", "Of": "Ann, \"B\"\n\t../x"}}, {"b", nil},
		}},
		{"the key as a column", "key\na\n", []string{"key"}, []listing.Named{{"a", map[string]string{"key": "a"}}}},
		{"columns that nobody asked for", "Box,key\n7,a\n", nil, []listing.Named{{"a", nil}}},
		{
			"JSONL", `{"key":"a","n":1.50,"t":"x\u0000\n","b":true,"no":null,"deep":{"n":1}}` + "\n" + `{"key":"b","N":1}` + "\n", []string{"n", "t", "b", "no"},
			[]listing.Named{{"a", map[string]string{"n": "1.50", "t": "x\x00\n", "b": "true"}}, {"b", nil}},
		},
		{"JSONL has members by their exact names", `{"key":"a","Key":"b","KEY":["c"],"t":"1","T":"2"}`, []string{"t"}, []listing.Named{{"a", map[string]string{"t": "1"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readNamed(tt.text, tt.columns...)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("err = %v; objects (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestReadManifestRefusesColumns(t *testing.T) {
	long := strings.Repeat("x", 10<<10)
	tests := []struct{ name, text, want string }{
		{"no such column", "key,box\na,1\n", `line 1: no column is named "Box"; there are ["key" "box"]`},
		{"a column twice", "key,Box,Of,Box\na,1,2,3\n", `line 1: more than one column is named "Box"`},
		{"the key twice", "key,Box,Of,key\na,1,2,b\n", `line 1: more than one column is named "key"`},
		{"a member twice", `{"key":"a","Box":1,"Box":2}`, `line 1: more than one member is named "Box"`},
		{"the key twice in JSON", `{"key":"a","key":"b"}`, `line 1: more than one member is named "key"`},
		{"more than an object", `{"key":"a"} {"key":"b"}`, `line 1: it is more than a JSON object`},
		{"cut off", "{\"key\":\"a\"}\n{\"key\":\"b\"\n", `line 2: unexpected EOF`},
		{"blanks", "{\"key\":\"a\"}\n  \n", `line 2: unexpected EOF`},
		{"no object", `["key",{"key":"a"}]`, `it has no columns`},
		{"lines", "a\nb\n", `it has no columns, so there is no "Box"`},
		{"NUL", "a\x00b\x00", `it has no columns, so there is no "Box"`},
		{"not UTF-8", "key,Box,Of\na,1,2\n\nb,\xff,\n", `line 4: its column "Box" is not UTF-8`},
		{"too much", "key,Box,Of\na,1,2\nb," + long + "," + long + "\n", `line 3: its columns up to "Of" hold 20485 bytes; at most 16384`},
		{"too much in JSON", `{"key":"a","Box":"` + long + `","Of":"` + long + `"}`, `line 1: its columns up to "Of"`},
		{"a list", `{"key":"a","Box":[1]}`, `line 1: member "Box": it holds others`},
		{"an object", `{"key":"a","Box":{}}`, `line 1: member "Box": it holds others`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readNamed(tt.text, "Box", "Of")
			if !errors.Is(err, listing.ErrManifest) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v; want %q", err, tt.want)
			}
		})
	}
}

// What a manifest says is kept with its keys, whatever is in it.
func TestSpoolColumns(t *testing.T) {
	led, b := newLedger(t), newBatch(t, manifestBatch)
	objects := []listing.Named{
		{"a\tb\n", map[string]string{"Box": "7\t\n\\", "Of\t": "\u2028<&>\x00"}}, {"b", nil}, {"c", map[string]string{"Box": "8"}},
	}
	shuffled := func(yield func(listing.Named, error) bool) {
		for _, i := range []int{2, 0, 1, 2} {
			if !yield(objects[i], nil) {
				return
			}
		}
	}
	for range 2 {
		if n, err := listing.Spool(t.Context(), led, b.ID, shuffled); n != 3 || err != nil {
			t.Fatalf("Spool = %d, %v; want 3", n, err)
		}
	}
	var got []listing.Named
	for named, err := range listing.Spooled(t.Context(), led, b.ID) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, named)
	}
	if diff := cmp.Diff(objects, got); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if _, _, err := list(t, led, newArchive(t, "c"), b, listing.Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a\tb\n", "b", "c"}, keysOf(segments(t, led, b.ID))); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

func TestSpoolRefusesOtherColumns(t *testing.T) {
	led, b := newLedger(t), newBatch(t, manifestBatch)
	for _, second := range []map[string]string{{"Box": "8"}, nil} {
		_, err := listing.Spool(t.Context(), led, b.ID, func(yield func(listing.Named, error) bool) {
			_ = yield(listing.Named{Key: "a\n", Columns: map[string]string{"Box": "7"}}, nil) && yield(listing.Named{Key: "a\n", Columns: second}, nil)
		})
		if !errors.Is(err, listing.ErrManifest) || !strings.Contains(err.Error(), `it names `+archive.Key("a\n").Text()+` more than once`) {
			t.Errorf("err = %v, want %v", err, listing.ErrManifest)
		}
	}
}

// A header is as long as whoever wrote it likes; an error about it is not.
func TestReadManifestLongHeader(t *testing.T) {
	_, err := readNamed("key,"+strings.Repeat(strings.Repeat("x", 1000)+",", 1000)+"\n", "Box")
	if err == nil || len(err.Error()) > 10_000 {
		t.Errorf("the error has %d bytes: %.100v", len(fmt.Sprint(err)), err)
	}
}
