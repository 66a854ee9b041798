package naming_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

// block is one fenced block of docs/templates.md.
type block struct {
	info  string
	line  int
	lines []string
}

func docBlocks(t *testing.T) []block {
	t.Helper()
	f, err := os.Open("../../docs/templates.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []block
	inside := false
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		info, fence := strings.CutPrefix(s.Text(), "```")
		switch {
		case fence && !inside:
			out = append(out, block{info: info, line: n})
			inside = true
		case fence:
			inside = false
		case inside:
			b := &out[len(out)-1]
			b.lines = append(b.lines, s.Text())
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// object is one that examples use.
type object struct {
	naming.Values
	options naming.Options
}

func docObject(t *testing.T, b block) object {
	t.Helper()
	var o struct {
		Key      archive.Key
		Original string
		Size     int64
		MTime    time.Time
		Seq      int64
		Facts    metadata.Facts
		Tags     metadata.Tags
		Digests  []digest.Digest
		Sidecar  *naming.Sidecar
		Batch    string
		Counters []int64
		Columns  map[string]string
		Options  naming.Options
	}
	if err := json.Unmarshal([]byte(strings.Join(b.lines, "\n")), &o); err != nil {
		t.Fatalf("line %d: %v", b.line, err)
	}
	return object{naming.Values{
		Key: o.Key, Original: o.Original, Size: o.Size, MTime: o.MTime, Seq: o.Seq, Facts: o.Facts, Tags: o.Tags, Digests: o.Digests, Sidecar: o.Sidecar,
		Batch: o.Batch, Counters: o.Counters, Columns: o.Columns,
	}, o.Options}
}

func TestDocumentation(t *testing.T) {
	objects := map[string]object{}
	examples := 0
	for _, b := range docBlocks(t) {
		what, object, _ := strings.Cut(b.info, " ")
		switch what {
		case "json":
			objects[object] = docObject(t, b)
		case "example":
			v, ok := objects[object]
			if !ok {
				t.Fatalf("line %d: no object %q", b.line, object)
			}
			for i, line := range b.lines {
				examples++
				t.Run(fmt.Sprintf("line %d", b.line+1+i), func(t *testing.T) { docExample(t, line, v) })
			}
		case "error":
			for i := 0; i < len(b.lines); i += 2 {
				examples++
				t.Run(fmt.Sprintf("line %d", b.line+1+i), func(t *testing.T) { docError(t, b.lines[i], b.lines[i+1]) })
			}
		}
	}
	if examples < 150 {
		t.Errorf("ran %d examples; has the form of the documentation changed?", examples)
	}
}

func docExample(t *testing.T, line string, v object) {
	source, want, ok := strings.Cut(line, " => ")
	source = strings.TrimSpace(source)
	if !ok {
		t.Fatalf("%q: want TEMPLATE => NAME", line)
	}
	tmpl, err := naming.ParseWith(source, v.options)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Name(v.Values)
	if message, ok := strings.CutPrefix(want, "! "); ok {
		if err == nil || err.Error() != message {
			t.Errorf("%s: got error %v, want %s", source, err, message)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Key) != want {
		t.Errorf("%s: got %q, want %q", source, got.Key, want)
	}
}

// docError compares with the caret and the start of the message.
func docError(t *testing.T, source, want string) {
	_, err := naming.Parse(source)
	var syntax *naming.SyntaxError
	if !errors.As(err, &syntax) {
		t.Fatalf("%s: got error %v, want a SyntaxError", source, err)
	}
	got := fmt.Sprintf("%s column %d: %s", syntax.Caret(), syntax.Column, syntax.Problem)
	if got != source+"\n"+want {
		t.Errorf("got\n%s\nwant\n%s\n%s", got, source, want)
	}
	if syntax.Want == "" {
		t.Errorf("%s: the error does not say what was expected", source)
	}
}

// Each field and filter that there is has an example.
func TestDocumentationIsComplete(t *testing.T) {
	var all strings.Builder
	var grammar []string
	for _, b := range docBlocks(t) {
		switch {
		case strings.HasPrefix(b.info, "example"):
			for _, line := range b.lines {
				source, _, _ := strings.Cut(line, " => ")
				all.WriteString(source + "\n")
			}
		case b.info == "ebnf":
			grammar = b.lines
		}
	}
	for _, name := range naming.FieldNames() {
		if !strings.Contains(all.String(), "{"+name) {
			t.Errorf("no example for the field %q", name)
		}
	}
	for _, name := range naming.FilterNames() {
		if !strings.Contains(all.String(), "|"+name) {
			t.Errorf("no example for the filter %q", name)
		}
	}
	for _, c := range strings.Split(naming.DateConversions, "") {
		page, err := os.ReadFile("../../docs/templates.md")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "`%"+c+"`") {
			t.Errorf("the conversion %%%s is not explained", c)
		}
	}
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(source)) {
		if rule, ok := strings.CutPrefix(line, "//\t"); ok {
			want = append(want, strings.TrimSuffix(rule, "\n"))
		}
	}
	if !slices.Equal(grammar, want) {
		t.Errorf("the grammar in docs/templates.md differs from doc.go's:\n%s", strings.Join(grammar, "\n"))
	}
}
