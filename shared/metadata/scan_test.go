package metadata_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/metadata"
)

func TestReadAnswer(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"integer", `1`, `"1"`},
		{"trailing zero", `[1.10, -0.0]`, `["1.10","-0.0"]`},
		{"beyond float64", `[1e999,123456789012345.1234567890123456]`, `["1e999","123456789012345.1234567890123456"]`},
		{"exponents", `[1E+5, 2e-07]`, `["1E+5","2e-07"]`},
		{"booleans", `[true,false ,null]`, `["true","false",null]`},
		{"not JSON, but printed", `[007,+1,.5,1.,inf,-nan,٣]`, `["007","+1",".5","1.","inf","-nan","٣"]`},
		{"a newline that Perl's $ let through", "[12\n,3]", `["12","3"]`},
		{"strings stay", `{"1":"2, true: [3] \" 4 \\","b":"\\\"5\/\b\f\n\r\t\u00aF"}`, `{"1":"2, true: [3] \" 4 \\","b":"\\\"5\/\b\f\n\r\t\u00aF"}`},
		{"structures", "[1,{\n \"b\" : 2},{},[ ]]", `["1",{"b":"2"},{},[]]`},
		{"not UTF-8", "\"\xff\"", "\"\xff\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(fmt.Sprintf("[{\n  \"SourceFile\": \"a \\\"b\\\"\",\n  \"A:B\": %s\n}]\n", tt.in))
			before := string(in)
			source, object, err := metadata.ReadAnswer(in)
			want := `{"SourceFile":"a \"b\"","A:B":` + tt.want + `}`
			if err != nil || source != `a "b"` || string(object) != want {
				t.Errorf("got %q, %s, %v; want %s", source, object, err, want)
			}
			if string(in) != before {
				t.Errorf("the argument became %s", in)
			}
		})
	}
}

func TestReadAnswerErrors(t *testing.T) {
	for _, in := range []string{
		"", " ", "{", `[`, `[{`, `[{}`, `[{}]]`, `[{}] 1`, `[]`, `[null]`, `[1]`, `[{},{}]`, `{}`, `[[]]`, "\x00", `Warning: [{}]`,
		`[{"a"}]`, `[{"a":}]`, `[{"a":1,}]`, `[{,}]`, `[{"a" 1}]`, `[{"a":1 2}]`, `[{"a":"b"1}]`, `[{"a":1"b"}]`, `[{"a":[1,]}]`, `[{"a":[1}]`,
		`[{'a':1}]`, `[{a:1}]`, `[{"a":"` + "\n" + `"}]`, `[{"a":"\x"}]`, `[{"a":"\u12g4"}]`, `[{"a":"\u12`, `[{"a":"\`, `[{"a":"`,
		`[{"a":` + strings.Repeat("[", 100_000),
	} {
		if _, object, err := metadata.ReadAnswer([]byte(in)); !errors.Is(err, metadata.ErrJSON) || object != nil {
			t.Errorf("ReadAnswer(%.40q): got %.40q, %v", in, object, err)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{
		`{"SourceFile":"a","b":1.10,"c":[true,false,null,1e999],"d":{"e":"f\\\"g"}}`, `{"a":12` + "\n}", `{"a":"\`, `{"a":[007,inf]}`, "{\"a\":\"\xff\"}",
		`{"a":[0,-1,2.50,"3",[4],{"5":6}],"SourceFile":1,"SourceFile":"\u00e9"}`, `{} `,
	} {
		f.Add([]byte("[" + s + "]"))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		source, out, err := metadata.ReadAnswer(in)
		var files []map[string]any
		if err != nil {
			if json.Unmarshal(in, &files) == nil && len(files) == 1 && files[0] != nil || !errors.Is(err, metadata.ErrJSON) {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q, which is not JSON", in, out)
		}
		againSource, again, err := metadata.ReadAnswer(append(append([]byte("["), out...), ']'))
		if err != nil || againSource != source || !bytes.Equal(again, out) {
			t.Errorf("a second time: got %q, %q, %v; want %q, %q", againSource, again, err, source, out)
		}
		if _, _, err := metadata.DecodeObject(out); err != nil {
			t.Errorf("DecodeObject(%q): %v", out, err)
		}
		if !json.Valid(in) {
			return
		}
		if got, want := []any{decode(t, out)}, texts(decode(t, in)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %v, want %v", in, got, want)
		}
	})
}

func FuzzDecodeObject(f *testing.F) {
	f.Add([]byte(`{"SourceFile":"a","ExifIFD:DateTimeOriginal":"2024:05:01 12:34:56","Composite:ImageSize":"4x3","QuickTime:Duration":"1.5 s"}`))
	f.Add([]byte(`{"Composite:GPSLatitude":"51 deg 30' 3.00\" N","Composite:GPSLongitude":"0 deg 7' 0.10\" W","XMP-dc:Subject":[1,{"a":2}]}`))
	f.Add([]byte(`{"\u0041":1,"A":[2 ],"` + "\xff\xfe" + `":"` + "\xc3" + `"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		source, tags, err := metadata.DecodeObject(in)
		if err != nil {
			if !errors.Is(err, metadata.ErrJSON) {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		checkFacts(t, tags)
		got, err := json.Marshal(tags)
		if err != nil {
			t.Fatalf("%q gave tags that are not JSON: %v", in, err)
		}
		if !json.Valid(in) {
			return
		}
		want := texts(decode(t, bytes.ToValidUTF8(in, []byte("\uFFFD")))).(map[string]any)
		if s, _ := want["SourceFile"].(string); s != source {
			t.Errorf("%q: source %q, want %q", in, source, s)
		}
		delete(want, "SourceFile")
		if got := decode(t, got); !reflect.DeepEqual(got, any(want)) {
			t.Errorf("%q: got %v, want %v", in, got, want)
		}
	})
}

func BenchmarkDecodeObject(b *testing.B) {
	raw, err := json.Marshal(camera())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, _, err := metadata.DecodeObject(raw); err != nil {
			b.Fatal(err)
		}
	}
}
