package metadata_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/metadata"
)

// plain are tags as encoding/json knows them by itself.
type plain map[string]json.RawMessage

func encode(t testing.TB, v any, html bool) string {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(html)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// TestTagsAreWrittenAsMapsAre compares with encoding/json, in records too, where absent tags are left out.
func TestTagsAreWrittenAsMapsAre(t *testing.T) {
	for _, tags := range []metadata.Tags{
		nil, {}, {"IFD0:Make": json.RawMessage(`"Canon"`)},
		{"b": json.RawMessage(`"2"`), "a": json.RawMessage(`["1",{"z":"<&>"}]`), "": json.RawMessage(`null`), "nil": nil},
		{"<&>": json.RawMessage(`"<&>"`), "<é\u2028\xff\x00\"\\": json.RawMessage("\"é\u2028\""), "spaced": json.RawMessage(` [ "a" , "b" ] `)},
	} {
		for _, html := range []bool{true, false} {
			type record[T any] struct {
				Tags   T `json:"tags,omitempty"`
				Always T `json:"always"`
			}
			want := encode(t, record[plain]{plain(tags), plain(tags)}, html)
			if got := encode(t, record[metadata.Tags]{tags, tags}, html); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
	if _, err := json.Marshal(metadata.Tags{"a": json.RawMessage("{")}); err == nil {
		t.Error("what is not JSON was written")
	}
}

func TestTagsAreReadAsMapsAre(t *testing.T) {
	for _, in := range []string{
		`{"tags":{"IFD0:Make":"Canon","a":["1",{"z":"<&>"}],"n":null,"e":"\u0041\"","\u0041":"","A":"last"}}`, `{"tags":{}}`, `{"tags":null}`, `{}`,
	} {
		var want struct{ Tags plain }
		var got struct{ Tags metadata.Tags }
		if err := json.Unmarshal([]byte(in), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(in), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]json.RawMessage(want.Tags), map[string]json.RawMessage(got.Tags)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
	for _, in := range []string{`{"tags":[]}`, `{"tags":"a"}`, `{"tags":{"a":}}`, `{"tags":{"a":"b"`} {
		var got struct{ Tags metadata.Tags }
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("%s was read as %v", in, got.Tags)
		}
	}
}

// BenchmarkTagsJSON writes and reads the tags of a camera's picture, as Tags and as a map without methods.
func BenchmarkTagsJSON(b *testing.B) {
	tags := metadata.Tags{}
	for i := range 120 {
		tags[fmt.Sprintf("Canon:TagNumber%d", i*7919%1000)] = json.RawMessage(fmt.Sprintf(`"a value %d"`, i))
	}
	text := []byte(encode(b, tags, false))
	for name, v := range map[string]any{"map": plain(tags), "tags": tags} {
		b.Run("write/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				encode(b, v, false)
			}
		})
	}
	b.Run("read/map", func(b *testing.B) { benchmarkRead[plain](b, text) })
	b.Run("read/tags", func(b *testing.B) { benchmarkRead[metadata.Tags](b, text) })
}

func benchmarkRead[T any](b *testing.B, text []byte) {
	b.ReportAllocs()
	for b.Loop() {
		var v T
		if err := json.Unmarshal(text, &v); err != nil {
			b.Fatal(err)
		}
	}
}
