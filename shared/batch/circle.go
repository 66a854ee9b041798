package batch

import "github.com/reshelf/reshelf/shared/archive"

// Circles: rows of a chain whose objects get one another's names, so that no order is right. They stand one after the other in a
// plan, with all rows of their groups, and those of other objects that these groups wait for and that wait for them.

// Bonds says how many rows, one after the other, move as a whole or not at all: those of a circle or of a group, or one. The
// rows are those of one chain or group, or any number of these, in the order of a plan.
func Bonds(rows []Row) []int {
	held := map[archive.Key]int{}
	for i, r := range rows {
		if r.Chain != 0 && r.Moves() {
			held[r.From] = i
		}
	}
	var out []int
	for begin := 0; begin < len(rows); {
		end := begin + 1
		for i := begin; i < end; i++ {
			if other, ok := held[rows[i].To]; ok && rows[i].Moves() && rows[i].Chain != 0 && rows[i].Chain == rows[other].Chain {
				end = max(end, other+1)
			}
			for end < len(rows) && rows[end].Together(rows[end-1]) {
				end++
			}
		}
		out = append(out, end-begin)
		begin = end
	}
	return out
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
