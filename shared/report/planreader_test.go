package report_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
)

func readPlan(text string) ([]report.PlannedName, error) {
	var out []report.PlannedName
	for n, err := range report.ReadPlan(strings.NewReader(text)) {
		if err != nil {
			return out, err
		}
		out = append(out, n)
	}
	return out, nil
}

// TestPlanIsReadAsWritten: whatever a key holds, it comes back byte for byte, also from what a spreadsheet makes of the file.
func TestPlanIsReadAsWritten(t *testing.T) {
	special := []string{"=1+1", "-a", "@x", "\t=1", "a;=b", "a, -b", `a\b`, `\u{3d}`, "caf\xe9", "\x01", "a\nb", `"q"`, "\ufeff", "\u202egpj.exe", "＝1", " x ", "'=1"}
	key := rapid.OneOf(rapid.SampledFrom(special), rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 12), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		var rows []batch.Row
		var want []report.PlannedName
		for i := range rapid.IntRange(0, 5).Draw(t, "rows") {
			from, to := archive.Key(key.Draw(t, "from")), archive.Key(key.Draw(t, "to"))
			if _, err := archive.ParseKey(string(to)); err != nil {
				to = ""
			}
			rows = append(rows, batch.Row{From: from, To: to, Message: "a\nmessage, with; all"})
			want = append(want, report.PlannedName{Line: i + 2, From: from, To: to})
		}
		var text bytes.Buffer
		w, err := report.NewPlanWriter(&text)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if err := w.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, as := range []string{text.String(), resaved(t, text.String(), ',', false), resaved(t, text.String(), ';', true), resaved(t, text.String(), '\t', true)} {
			got, err := readPlan(as)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Fatalf("%q is read with %v (-want +got):\n%s", as, err, diff)
			}
		}
	})
}

// resaved is a CSV file as spreadsheets save it: with a byte order mark, CRLF, and what the locale takes for a comma.
func resaved(t *rapid.T, text string, comma rune, mark bool) string {
	cells, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if mark {
		out.WriteString("\ufeff")
	}
	w := csv.NewWriter(&out)
	w.Comma, w.UseCRLF = comma, true
	if err := w.WriteAll(cells); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestReadPlan(t *testing.T) {
	tests := map[string]struct {
		text string
		want []report.PlannedName
		err  string // a part of it
	}{
		"other columns, in any order": {text: "mine,to,from\nx,b,a\n", want: []report.PlannedName{{2, "a", "b"}}},
		"no rows":                     {text: "from,to\n"},
		"an emptied cell":             {text: "from,to\na,\n", want: []report.PlannedName{{2, "a", ""}}},
		"rows of nothing":             {text: "from,to\n,\n\na,b\n,\n", want: []report.PlannedName{{4, "a", "b"}}},
		"quoted without need":         {text: "\"from\",\"to\"\n\"a\",\"b\"\n", want: []report.PlannedName{{2, "a", "b"}}},
		"a key that no store has":     {text: "from,to\na//b,\n", want: []report.PlannedName{{2, "a//b", ""}}},
		"empty":                       {err: "line 1: the file is empty"},
		"no header":                   {text: "a.jpg,b.jpg\n", err: `line 1, column`},
		"no column to":                {text: "from,name\na,b\n", err: `line 1, column "to": there is no such column`},
		"two columns to":              {text: "from,to,to\na,b,c\n", err: `line 1, column "to": there is more than one`},
		"UTF-16":                      {text: "\xff\xfef\x00r\x00o\x00m\x00", err: "line 1: it is not UTF-8"},
		"UTF-16 without a mark":       {text: "f\x00r\x00o\x00m\x00,\x00t\x00o\x00", err: "line 1: it is not UTF-8"},
		"Latin 1":                     {text: "from,to\na,b\nc,caf\xe9\n", err: `line 3, column "to": it is not UTF-8`},
		"no object":                   {text: "from,to\n,b\n", err: `line 2, column "from": it is empty`},
		"out of the archive":          {text: "from,to\na,../b\n", err: `line 2, column "to": invalid key`},
		"an absolute name":            {text: "from,to\na,/etc/passwd\n", err: `line 2, column "to": invalid key`},
		"a folder":                    {text: "from,to\na,b/\n", err: `line 2, column "to": invalid key`},
		"a NUL":                       {text: "from,to\na,\\u{0}\n", err: `line 2, column "to": invalid key`},
		"no escape":                   {text: "from,to\na,b\\c\n", err: `line 2, column "to": invalid key`},
		"no escape in from":           {text: "from,to\n\\q,b\n", err: `line 2, column "from": invalid key`},
		"too long":                    {text: "from,to\na," + strings.Repeat("b", archive.MaxKeyBytes+1) + "\n", err: `line 2, column "to": invalid key`},
		"a cell is missing":           {text: "from,to,outcome\na,b\n", err: "line 2: the row has 2 cells, the header 3"},
		"a cell too many":             {text: "from,to\na,b,c\n", err: "line 2: the row has 3 cells, the header 2"},
		"lines that end with CR":      {text: "from,to,outcome\ra,b,\rc,d,\r", err: "line 1: its lines end with a carriage return alone"},
		"a stray quote":               {text: "from,to\na,b\"c\n", err: "line 2: bare"},
		"a quote that is not closed":  {text: "from,to\na,\"b\n" + strings.Repeat("c,d\n", 5<<20), err: "is a quote not closed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := readPlan(tt.text)
			if tt.err == "" {
				if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				return
			}
			if !errors.Is(err, report.ErrPlan) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}

// TestReadPlanTellsBrokenReadersApart: what the file cannot be blamed for is no ErrPlan.
func TestReadPlanTellsBrokenReadersApart(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("from,to\n"+strings.Repeat("a,b\n", 50_000)), iotest.ErrReader(io.ErrClosedPipe))
	var err error
	for _, err = range report.ReadPlan(broken) {
	}
	if !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, report.ErrPlan) {
		t.Errorf("error %v", err)
	}
}

func FuzzReadPlan(f *testing.F) {
	for _, s := range []string{"from,to\na,b\n", "\ufefffrom;to\r\n\"a\";\r\n", "from\tto\n\\x00\t\\u{3d}1\n", "to,from\n\n,\n\"", "from,to\na,b,c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		names, err := readPlan(text)
		if err != nil && !errors.Is(err, report.ErrPlan) {
			t.Fatalf("error %v is no ErrPlan", err)
		}
		var again bytes.Buffer
		w, err := report.NewPlanWriter(&again)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range names {
			if n.From == "" {
				t.Errorf("row %+v has no object", n)
			}
			if _, err := archive.ParseKey(string(n.To)); err != nil && n.To != "" {
				t.Errorf("row %+v: %v", n, err)
			}
			names[i].Line = i + 2
			if err := w.Add(batch.Row{From: n.From, To: n.To}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := readPlan(again.String())
		if diff := cmp.Diff(names, got); err != nil || diff != "" {
			t.Errorf("written and read again: %v (-want +got):\n%s", err, diff)
		}
	})
}
