package batch

import (
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
)

// Circles: rows of a chain whose objects get one another's names, so that no order is right. They stand one after the other in a
// plan, with all rows of their groups, and those of other objects that these groups wait for and that wait for them.

// Bonds says how many rows, one after the other, are carried out as a whole: those of a circle or of a group, which move together or
// not at all, those of a chain whose objects have names in between, or one. The rows are those of one chain or group, or any number of
// these, in the order of a plan.
func Bonds(rows []Row) []int {
	held, parked := map[archive.Key]int{}, map[int64]bool{}
	for i, r := range rows {
		if r.Chain != 0 && r.Moves() {
			held[r.From] = i
			parked[r.Chain] = parked[r.Chain] || r.Park != ""
		}
	}
	var out []int
	for begin := 0; begin < len(rows); {
		end := begin + 1
		for i := begin; i < end; i++ {
			if other, ok := held[rows[i].To]; ok && rows[i].Moves() && rows[i].Chain != 0 && rows[i].Chain == rows[other].Chain {
				end = max(end, other+1)
			}
			for end < len(rows) && (rows[end].Together(rows[end-1]) || parked[rows[begin].Chain] && rows[end].Chain == rows[begin].Chain) {
				end++
			}
		}
		out = append(out, end-begin)
		begin = end
	}
	return out
}

// Parked reports whether objects of the rows have names in between.
func Parked(rows []Row) bool {
	return slices.ContainsFunc(rows, func(r Row) bool { return r.Park != "" })
}

// Circular reports whether among rows that Bonds keeps together some are to get the names of others.
func Circular(rows []Row) bool {
	held := map[archive.Key]bool{}
	for _, r := range rows {
		held[r.From] = held[r.From] || r.Chain != 0 && r.Moves()
	}
	for _, r := range rows {
		if r.Moves() && r.To != r.From && held[r.To] {
			return true
		}
	}
	return false
}
