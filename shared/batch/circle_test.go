package batch_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// rowsOf parses "group: from > to, from > to; from > to": rows of groups, all of one chain; a row without a new name stays.
func rowsOf(chain int64, text string) (rows []batch.Row) {
	for part := range strings.SplitSeq(text, "; ") {
		group, moves, ok := strings.Cut(part, ": ")
		if !ok {
			group, moves = "", part
		}
		for move := range strings.SplitSeq(moves, ", ") {
			from, to, _ := strings.Cut(move, " > ")
			r := batch.Row{From: archive.Key(from), To: archive.Key(to), Group: archive.Key(group), Chain: chain}
			if to == "" {
				r.Outcome = batch.Skipped
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func TestBonds(t *testing.T) {
	for name, tt := range map[string]struct {
		rows    string
		want    []int
		circles []bool
	}{
		"chain":               {"c > d; b > c; a > b", []int{1, 1, 1}, []bool{false, false, false}},
		"two":                 {"a > b; b > a", []int{2}, []bool{true}},
		"three":               {"b > c; a > b; c > a", []int{3}, []bool{true}},
		"two circles":         {"a > b; b > a; c > d; d > c", []int{2, 2}, []bool{true, true}},
		"groups":              {"a: a > b, ax > bx; b: b > a, bx > ax", []int{4}, []bool{true}},
		"a group and one":     {"a: a > b, ax > bx; b > a", []int{3}, []bool{true}},
		"behind and before":   {"x > y; a > b; b > a; c > x", []int{1, 2, 1}, []bool{false, true, false}},
		"waits for a circle":  {"a: a > b, ax > bx; b > a; c > ax", []int{3, 1}, []bool{true, false}},
		"by groups only":      {"a: a > b, ax > n; b: b > c, bx > ax", []int{4}, []bool{true}},
		"group":               {"a: a > n, ax > nx; b > m", []int{2, 1}, []bool{false, false}},
		"the other one stays": {"a > b; b", []int{1, 1}, []bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			rows := rowsOf(1, tt.rows)
			got := batch.Bonds(rows)
			if !slices.Equal(got, tt.want) {
				t.Fatalf("Bonds = %v, want %v", got, tt.want)
			}
			for i, n := range got {
				if batch.Circular(rows[:n]) != tt.circles[i] {
					t.Errorf("Circular(rows %d) = %t, want %t", i, !tt.circles[i], tt.circles[i])
				}
				rows = rows[n:]
			}
		})
	}
	rows := append(rowsOf(1, "a > b"), rowsOf(2, "b > a")...)
	if got := batch.Bonds(rows); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("Bonds of two chains = %v, want 1 and 1", got)
	}
}
