package keeper_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

const refused = ""

func TestRequests(t *testing.T) {
	long := strings.Repeat("x", 20_000)
	tests := []struct {
		name, text string
		want       []string
	}{
		{"one", "-j\n/k/alias/1.jpg\n-execute\n", []string{"/k/alias/1.jpg"}},
		{"two", "-j\na\n-execute\n-j\nb\n-execute\n", []string{"a", "b"}},
		{"end", "-j\na\n-execute\n-stay_open\nFalse\n-execute\n-j\nb\n-execute\n", []string{"a"}},
		{"cut off", "-j\na\n-execute\n-j\nb\n", []string{"a"}},
		{"newline in the name", "-j\na\n-if\nsystem()\n-execute\n-j\nb\n-execute\n", []string{refused, "b"}},
		{"name with -execute", "-j\na\n-execute\n-execute\n-j\nb\n-execute\n", []string{"a", "b"}},
		{"name with a request", "-j\na\n-j\nb\n-execute\n-j\nc\n-execute\n", []string{refused, "c"}},
		{"endless name", "-j\n" + long + "\n-execute\n-j\nb\n-execute\n", []string{refused, "b"}},
		{"endless line after the name", "-j\na\n" + long + "\n-execute\n-j\nb\n-execute\n", []string{refused, "b"}},
		{"empty name", "-j\n\n-execute\n-j\nb\n-execute\n", []string{"", "b"}},
		{"strays", "\n-execute\nwhat\n" + long + "\n-j\nb\n-execute\n", []string{"b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, keeper.Requests(strings.NewReader(tt.text))); diff != "" {
				t.Errorf("requests -want +got:\n%s", diff)
			}
		})
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("-j\na\n-execute\n")
	f.Add("-j\na\n-execute\n-execute\n-stay_open\nFalse\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range keeper.Requests(strings.NewReader(text)) {
			if strings.Contains(name, "\n") {
				t.Errorf("name %q holds a newline", name)
			}
			if !strings.Contains(text, "-j\n") || !strings.Contains(text, "-execute\n") {
				t.Errorf("%q is no request", text)
			}
		}
	})
}

func TestIsAlias(t *testing.T) {
	tests := map[string]bool{
		"/k/paged/1": true, "/k/paged/2.mov": true, "/k/paged/../1": false, "/k/pagedd/1": false,
		"/k/alias/1": true, "/k/alias/12.jpg": true, "/k/alias/0.NMBTEMPLATE": true, "/k/alias/3.DVR-MS": true,
		"": false, "/k/alias/": false, "/k/alias": false, "1.jpg": false, "/k/1.jpg": false, "/k/alias/a.jpg": false, "/k/alias/.jpg": false,
		"/k/alias/1.": false, "/k/alias/1.-x": false, "/k/alias/1.jpg\n": false, "/k/alias/1.j pg": false, "/k/alias/1.a.b": false,
		"/k/alias/../alias/1.jpg": false, "/k/alias//1.jpg": false, "/k/alias/./1": false, "/k/alias/1.12345678901234567": false,
		"-execute": false, "/k/alias/1/2": false, "/k/alias/1\x00": false,
	}
	for path, want := range tests {
		if got := keeper.IsAlias("/k", path); got != want {
			t.Errorf("isAlias(%q): got %t, want %t", path, got, want)
		}
	}
}

func TestGoodAnswer(t *testing.T) {
	note := keeper.Note{ExifTool: "12.57", Warnings: []string{"w"}}
	raw := "[{\n  \"SourceFile\": \"/k/alias/1\",\n  \"A:B\": 1.10,\n  \"A:C\": {\"D\": [true, \"<&>\\\"\"]},\n  \"Reshelf\": \"forged\"\n}]\n"
	got, err := keeper.GoodAnswer([]byte(raw), "/k/alias/1", note)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"SourceFile":"/k/alias/1","Reshelf":"{\"exiftool\":\"12.57\",\"warnings\":[\"w\"]}",` +
		`"Tags":"{\"SourceFile\":\"/k/alias/1\",\"A:B\":\"1.10\",\"A:C\":{\"D\":[\"true\",\"<&>\\\"\"]},\"Reshelf\":\"forged\"}"}]`
	if string(got) != want {
		t.Errorf("answer: got %s, want %s", got, want)
	}
	for _, raw := range []string{"", "{}", "[]", "[{}]", `[{"SourceFile":"/k/alias/2"}]`, `[{"SourceFile":"/k/alias/1"},{}]`, `[null]`, `[{"SourceFile":"/k/alias/1"`} {
		if got, err := keeper.GoodAnswer([]byte(raw), "/k/alias/1", note); !errors.Is(err, keeper.ErrAnswer) {
			t.Errorf("answer %q: got %s, %v, want errAnswer", raw, got, err)
		}
	}
}

func FuzzGoodAnswer(f *testing.F) {
	f.Add(`[{"SourceFile":"/k/alias/1","A:B":1e999,"C:D":[1,{"e":false}]}]`)
	f.Add(`[{"SourceFile":"/k/alias/1","SourceFile":"other","Reshelf":{"fault":"x"}}]`)
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := keeper.GoodAnswer([]byte(raw), "/k/alias/1", keeper.Note{ExifTool: "1.0"})
		if err != nil {
			return
		}
		if strings.Contains(string(got), "\n") {
			t.Errorf("answer %q holds a newline", got)
		}
		var files []map[string]string
		if err := json.Unmarshal(got, &files); err != nil || len(files) != 1 || len(files[0]) != 3 || files[0]["SourceFile"] != "/k/alias/1" {
			t.Fatalf("answer to %q: got %s, %v", raw, got, err)
		}
		if note := files[0][keeper.NoteKey]; note != `{"exiftool":"1.0"}` {
			t.Errorf("note in the answer to %q: %s", raw, note)
		}
		if source, _, err := metadata.DecodeObject([]byte(files[0][keeper.TagsKey])); err != nil || source != "/k/alias/1" {
			t.Errorf("tags in the answer to %q: of %q, %v", raw, source, err)
		}
	})
}

// What is said when no file was named is passed on as it is.
func TestWordsWithoutAlias(t *testing.T) {
	got, _ := keeper.Words(strings.NewReader("no such option\n{reshelf-err7}\n"))("7", "")
	if diff := cmp.Diff([]string{"no such option"}, got); diff != "" {
		t.Errorf("words -want +got:\n%s", diff)
	}
}

func TestWords(t *testing.T) {
	long := strings.Repeat("x", 9_000)
	tests := []struct {
		name, text string
		want       []string
	}{
		{"none", "{reshelf-err7}\n", nil},
		{"alias", "Warning: odd - /k/alias/1\nbad /k/alias/1 line\n{reshelf-err7}\n", []string{"Warning: odd", "bad the file line"}},
		{"no end of line", "odd{reshelf-err7}\n", []string{"odd"}},
		{"endless line", long + "{reshelf-err7}\n", []string{long[:500]}},
		{"many", strings.Repeat("w\n", 100) + "{reshelf-err7}\n", strings.Fields(strings.Repeat("w ", 20))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, marked := keeper.Words(strings.NewReader(tt.text))("7", "/k/alias/1")
			if diff := cmp.Diff(tt.want, got); diff != "" || !marked {
				t.Errorf("marked %t; words -want +got:\n%s", marked, diff)
			}
		})
	}
}

// A process may mark the end of its words and end before anybody takes them; what it said is whole all the same.
func TestWordsOfEnded(t *testing.T) {
	for range 100 {
		if got, marked := keeper.WordsOfEnded(strings.NewReader("odd\n{reshelf-err6}\n{reshelf-err7}\n"), "7"); !marked || len(got) != 1 {
			t.Fatalf("got %q, marked %t, want one line, marked", got, marked)
		}
	}
}

func FuzzParseQuestion(f *testing.F) {
	for _, line := range []string{"0 0\n", "65536 1024\n", "-5 10\n", "1\n", "1 2", "1 2 3\n", "9223372036854775808 1\n", "+1 0x2\n"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		q, ok := keeper.ParseQuestion([]byte(line))
		if ok && (q.Offset < 0 || q.Length < 0 || len(strings.Fields(line)) != 2 || !strings.HasSuffix(line, "\n")) {
			t.Errorf("%q: got %+v", line, q)
		}
	})
}
