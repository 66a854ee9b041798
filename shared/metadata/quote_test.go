package metadata_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/reshelf/reshelf/shared/metadata"
)

func TestQuoteScalars(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"integer", `{"a": 1}`, `{"a": "1"}`},
		{"trailing zero", `{"a":1.10,"b":-0.0}`, `{"a":"1.10","b":"-0.0"}`},
		{"beyond float64", `[1e999,123456789012345.1234567890123456]`, `["1e999","123456789012345.1234567890123456"]`},
		{"exponents", `[1E+5, 2e-07]`, `["1E+5", "2e-07"]`},
		{"booleans", `[true,false ,null]`, `["true","false" ,null]`},
		{"not JSON, but printed", `[007,+1,.5,1.,inf,-nan,٣]`, `["007","+1",".5","1.","inf","-nan","٣"]`},
		{"a newline that Perl's $ let through", "{\"a\":12\n,\"b\":3}", "{\"a\":\"12\"\n,\"b\":\"3\"}"},
		{"strings stay", `{"1":"2, true: [3] \" 4 \\","b":"\\\"5"}`, `{"1":"2, true: [3] \" 4 \\","b":"\\\"5"}`},
		{"structures", "{\"a\":[1,{\n \"b\":2}]}", "{\"a\":[\"1\",{\n \"b\":\"2\"}]}"},
		{"alone", `7`, `"7"`},
		{"already quoted", `"7"`, `"7"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			got, err := metadata.QuoteScalars(in)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
			if string(in) != tt.in {
				t.Errorf("the argument became %s", in)
			}
		})
	}
}

func TestQuoteScalarsErrors(t *testing.T) {
	for _, in := range []string{
		"", " ", "{", `"`, `"\`, `"a\"`, "1 2", `"a"1`, `1"a"`, `{"a" 1}`, `[1,]`, "[1]]", `{"a":b c}`, "\x00", "{'a':1}", "\"\n\"",
	} {
		if out, err := metadata.QuoteScalars([]byte(in)); !errors.Is(err, metadata.ErrJSON) || out != nil {
			t.Errorf("QuoteScalars(%q): got %s, %v", in, out, err)
		}
	}
}

func FuzzQuoteScalars(f *testing.F) {
	for _, s := range []string{
		`{"SourceFile":"a","b":1.10,"c":[true,false,null,1e999],"d":{"e":"f\\\"g"}}`, `{"a":12` + "\n}", `"\`, "[007,inf]", "\"\xff\"",
		`[0,-1,2.50,"3",[4],{"5":6}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := metadata.QuoteScalars(in)
		if err != nil {
			if json.Valid(in) || !errors.Is(err, metadata.ErrJSON) {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q, which is not JSON", in, out)
		}
		if again, err := metadata.QuoteScalars(out); err != nil || !bytes.Equal(again, out) {
			t.Errorf("a second time: got %q, %v; want %q", again, err, out)
		}
		if !json.Valid(in) {
			return
		}
		if got, want := decode(t, out), texts(decode(t, in)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %v, want %v", in, got, want)
		}
	})
}

func FuzzDecodeObject(f *testing.F) {
	f.Add([]byte(`{"SourceFile":"a","ExifIFD:DateTimeOriginal":"2024:05:01 12:34:56","Composite:ImageSize":"4x3","QuickTime:Duration":"1.5 s"}`))
	f.Add([]byte(`{"Composite:GPSLatitude":"51 deg 30' 3.00\" N","Composite:GPSLongitude":"0 deg 7' 0.10\" W","XMP-dc:Subject":[1,{"a":2}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, tags, err := metadata.DecodeObject(in)
		if err != nil {
			if !errors.Is(err, metadata.ErrJSON) {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		checkFacts(t, tags)
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
