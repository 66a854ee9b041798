package editing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/producer/internal/editing"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

const (
	base   = batch.ID("01arz3ndektsv4rrffq69g5fav")
	edited = batch.ID("01arz3ndektsv4rrffq69g5faw")
)

// seal stores a plan with these rows.
func seal(t interface{ Fatal(...any) }, led *ledger.Ledger, rows []batch.Row) batch.Plan {
	p := batch.Plan{V: batch.Version, Batch: base, Epoch: 1}
	for part := range slices.Chunk(rows, 1000) {
		seg, err := led.WritePlanRows(context.Background(), base, 1, len(p.Segments), part)
		if err != nil {
			t.Fatal(err)
		}
		p.Segments = append(p.Segments, seg)
	}
	return p
}

// stored are the rows of an edited plan as the ledger has them.
func stored(t interface{ Fatal(...any) }, led *ledger.Ledger, id batch.ID) map[archive.Key]archive.Key {
	out := map[archive.Key]archive.Key{}
	for n, err := range listing.Spooled(context.Background(), led, id) {
		if err != nil {
			t.Fatal(err)
		}
		out[n.Key] = ""
		if text := n.Columns[batch.ColumnTo]; text != "" {
			if out[n.Key], err = archive.ParseKeyText(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// TestStoreKeepsWhatWasWritten: whatever keys hold, in whatever order rows are, the ledger has what the file says.
func TestStoreKeepsWhatWasWritten(t *testing.T) {
	key := rapid.OneOf(
		rapid.SampledFrom([]string{"=1", "a;@b", `\`, "caf\xe9", "\x01", "a/b", "a//b", "\ufeffa", "a\n"}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 6), func(b []byte) string { return string(b) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		led := ledger.New(memstore.New(archive.Root{}))
		var rows []batch.Row
		for i, from := range rapid.SliceOfNDistinct(key, 0, 20, rapid.ID).Draw(t, "keys") {
			rows = append(rows, batch.Row{N: int64(i), From: archive.Key(from), To: "n/" + archive.Key(fmt.Sprint(i))})
		}
		p := seal(t, led, rows)
		want := map[archive.Key]archive.Key{}
		var counts editing.Counts
		var text bytes.Buffer
		w, err := report.NewPlanWriter(&text)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range rapid.Permutation(indices(rows)).Draw(t, "order") {
			r := rows[i]
			_, unusable := archive.ParseKey(string(r.From))
			counts.Rows++
			switch rapid.IntRange(0, 3).Draw(t, "fate") {
			case 0:
				counts.LeftOut++
				continue
			case 1:
				r.To = ""
				counts.LeftOut++
			case 2:
				if unusable == nil {
					r.To = archive.Key(key.Filter(func(s string) bool { _, err := archive.ParseKey(s); return err == nil }).Draw(t, "to"))
					counts.Renamed++
				}
			}
			if unusable != nil {
				if r.To != "" {
					r.To = ""
					counts.LeftOut++
				}
			} else {
				want[r.From] = r.To
			}
			if err := w.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := editing.Store(context.Background(), led, edited, p, &text)
		if err != nil || got != counts {
			t.Fatalf("%+v, %v; want %+v", got, err, counts)
		}
		if diff := cmp.Diff(want, stored(t, led, edited)); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}

func indices(rows []batch.Row) []int {
	out := []int{}
	for i := range rows {
		out = append(out, i)
	}
	return out
}

func TestStoreRefuses(t *testing.T) {
	rows := []batch.Row{{From: "a", To: "x"}, {From: "b/", To: ""}, {From: "c", To: "z"}}
	tests := map[string]struct{ text, err string }{
		"a stranger":                     {"a,x\nq,y\n", `line 3, column "from": q: the plan has no such row;`},
		"the first of several strangers": {"zz,x\na,x\nb,y\n", `line 2, column "from": zz: the plan has no such row (and 1 more such lines)`},
		"a stranger behind all":          {"zz,x\n", `line 2, column "from": zz`},
		"a row twice":                    {"a,x\nc,z\na,x\n", `line 4, column "from": a: the row is there twice, also in line 2`},
		"a row twice with two names":     {"a,y\na,x\n", `line 3, column "from": a: the row is there twice, also in line 2`},
		"what nothing can rename":        {"b/,y\n", `line 2, column "from": b/: the object cannot be renamed`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			led := ledger.New(memstore.New(archive.Root{}))
			p := seal(t, led, rows)
			_, err := editing.Store(t.Context(), led, edited, p, strings.NewReader("from,to\n"+tt.text))
			if !errors.Is(err, editing.ErrRow) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			for n, err := range listing.Spooled(t.Context(), led, edited) {
				if !errors.Is(err, store.ErrNotExist) {
					t.Errorf("%s is stored, %v", n.Key, err)
				}
			}
		})
	}
}

// TestStoreStreams: rows of a plan that does not fit into a sort's memory, in any order; the scratch is gone afterwards.
func TestStoreStreams(t *testing.T) {
	const n = 120_000
	led := ledger.New(memstore.New(archive.Root{}))
	var rows []batch.Row
	for i := range n {
		rows = append(rows, batch.Row{N: int64(i), From: archive.Key(fmt.Sprintf("in/%07d.jpg", i)), To: archive.Key(fmt.Sprintf("n/%07d.jpg", i))})
	}
	p := seal(t, led, rows)
	var text strings.Builder
	text.WriteString("to,from\n")
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		if i%3 != 0 {
			fmt.Fprintf(&text, "m/%d.jpg,%s\n", i, rows[i].From.Text())
		}
	}
	got, err := editing.Store(t.Context(), led, edited, p, strings.NewReader(text.String()))
	if want := (editing.Counts{Rows: n, Renamed: n / 3 * 2, LeftOut: n / 3}); err != nil || got != want {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
	if there := stored(t, led, edited); len(there) != n/3*2 || there["in/0000001.jpg"] != "m/1.jpg" {
		t.Errorf("%d rows are stored", len(there))
	}
	for e, err := range led.Store().List(t.Context(), store.ListOptions{Prefix: string(ledger.Key(edited, ""))}) {
		if err != nil || !strings.Contains(string(e.Key), "/manifest/") || strings.Contains(string(e.Key), "/sort/") {
			t.Errorf("%s was left behind (%v)", e.Key, err)
		}
	}
}

// TestDivide: each row that moves is on one side, what belongs together on the same one; the sample is as large as it should be,
// and the same for the same plan.
func TestDivide(t *testing.T) {
	const rest = batch.ID("01arz3ndektsv4rrffq69g5fax")
	rapid.Check(t, func(t *rapid.T) {
		var rows []batch.Row
		moving := int64(0)
		groups, tied := map[archive.Key]archive.Key{}, map[archive.Key]bool{}
		for i := range rapid.IntRange(0, 30).Draw(t, "units") {
			group := archive.Key(fmt.Sprintf("k%03d", i))
			size := rapid.IntRange(1, 4).Draw(t, "size")
			moves := rapid.IntRange(0, 3).Draw(t, "moves") > 0
			chain := int64(max(0, rapid.IntRange(-5, 1).Draw(t, "chain")))
			for j := range size {
				r := batch.Row{N: int64(len(rows)), From: archive.Key(fmt.Sprintf("%s.%d\xff", group, j)), To: archive.Key(fmt.Sprintf("n/%s.%d=\xff", group, j))}
				if size > 1 {
					r.Group = group + ".0\xff"
				}
				r.Chain = chain
				tied[group] = chain != 0
				if r.Outcome = batch.Skipped; moves {
					r.Outcome = ""
					moving++
				}
				groups[r.From] = group
				rows = append(rows, r)
			}
		}
		free := int64(0)
		for _, r := range rows {
			if r.Moves() && !tied[groups[r.From]] {
				free++
			}
		}
		n := int64(rapid.IntRange(1, 40).Draw(t, "n"))
		divide := func(digest string) (sample, others map[archive.Key]archive.Key) {
			led := ledger.New(memstore.New(archive.Root{}))
			drawn, left, err := editing.Divide(context.Background(), led, edited, rest, seal(t, led, rows), digest, n)
			if err != nil {
				t.Fatal(err)
			}
			sample, others = stored(t, led, edited), stored(t, led, rest)
			if drawn != int64(len(sample)) || left != int64(len(others)) || drawn+left != moving {
				t.Fatalf("%d and %d of %d, stored %d and %d", drawn, left, moving, len(sample), len(others))
			}
			if drawn < min(n, free) || drawn > free || drawn > n+3 {
				t.Errorf("a sample of %d has %d rows", n, drawn)
			}
			return sample, others
		}
		sample, others := divide("00")
		in := map[archive.Key]bool{}
		for from := range sample {
			if in[groups[from]] = true; tied[groups[from]] {
				t.Errorf("%s is in the sample, and is tied to others", from)
			}
		}
		for from := range others {
			if in[groups[from]] {
				t.Errorf("%s is not in the sample, and something that belongs to it is", from)
			}
		}
		for _, r := range rows {
			to, ok := sample[r.From]
			if !ok {
				to, ok = others[r.From]
			}
			if ok != r.Moves() || ok && to != r.To {
				t.Errorf("%s goes to %q, %v; want %q, %v", r.From, to, ok, r.To, r.Moves())
			}
		}
		if again, _ := divide("00"); !cmp.Equal(sample, again) {
			t.Errorf("the same plan gives another sample")
		}
	})
}

// TestSamplesAreRandom: another plan gives another sample, and every place of a plan comes up.
func TestSamplesAreRandom(t *testing.T) {
	var rows []batch.Row
	for i := range 40 {
		rows = append(rows, batch.Row{N: int64(i), From: archive.Key(fmt.Sprintf("%02d", i)), To: archive.Key(fmt.Sprintf("n/%02d", i))})
	}
	seen := map[archive.Key]int{}
	for plan := range 100 {
		led := ledger.New(memstore.New(archive.Root{}))
		if _, _, err := editing.Divide(t.Context(), led, edited, "01arz3ndektsv4rrffq69g5fax", seal(t, led, rows), fmt.Sprint(plan), 10); err != nil {
			t.Fatal(err)
		}
		for from := range stored(t, led, edited) {
			seen[from]++
		}
	}
	for _, r := range rows { // 25 are expected; one in 10^7 samples has less than 5 or more than 50
		if seen[r.From] < 5 || seen[r.From] > 50 {
			t.Errorf("%s is in %d of 100 samples of 10 of 40 rows", r.From, seen[r.From])
		}
	}
}
