package planning_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// shift names objects after their days, so that an object of day 2 at 01.jpg wants 02.jpg.
const shift = "{dir}/{date:%d}{ext}"

func TestChains(t *testing.T) {
	at := func(key archive.Key, day int) object { return object{key: key, day: day} }
	all := []batch.Conflict{batch.ConflictStop, batch.ConflictSkip, batch.ConflictNumber}
	tests := map[string]struct {
		objects  []object
		policies []batch.Conflict
		want     []string // in the order of the plan
		chains   int64    // rows in chains
	}{
		"three": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 3), at("n/03.jpg", 4)}, policies: all,
			want: []string{"n/03.jpg>n/04.jpg", "n/02.jpg>n/03.jpg", "n/01.jpg>n/02.jpg"}, chains: 3,
		},
		"two, and one beside them": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 3), at("n/a.jpg", 9)}, policies: all,
			want: []string{"n/02.jpg>n/03.jpg", "n/01.jpg>n/02.jpg", "n/a.jpg>n/09.jpg"}, chains: 2,
		},
		"a group waits for a group": {
			objects: []object{at("n/01.cr2", 2), at("n/01.jpg", 2), at("n/02.cr2", 3), at("n/02.jpg", 3)}, policies: all,
			want: []string{"n/02.cr2>n/03.cr2", "n/02.jpg>n/03.jpg", "n/01.cr2>n/02.cr2", "n/01.jpg>n/02.jpg"}, chains: 4,
		},
		"names that differ in case": {
			objects: []object{at("n/01.JPG", 3), at("n/a.jpg", 1)}, policies: all,
			want: []string{"n/01.JPG>n/03.JPG", "n/a.jpg>n/01.jpg"}, chains: 2,
		},
		"two exchange their names": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 1)}, policies: all,
			want: []string{"n/02.jpg>n/01.jpg", "n/01.jpg>n/02.jpg"}, chains: 2,
		},
		"three in a circle": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 3), at("n/03.jpg", 1)}, policies: all,
			want: []string{"n/03.jpg>n/01.jpg", "n/02.jpg>n/03.jpg", "n/01.jpg>n/02.jpg"}, chains: 3,
		},
		"groups exchange their names": {
			objects: []object{at("n/01.cr2", 2), at("n/01.jpg", 2), at("n/02.cr2", 1), at("n/02.jpg", 1)}, policies: all,
			want: []string{"n/02.cr2>n/01.cr2", "n/02.jpg>n/01.jpg", "n/01.cr2>n/02.cr2", "n/01.jpg>n/02.jpg"}, chains: 4,
		},
		"a group and one exchange their names, and one waits for a name that is left": {
			objects: []object{at("n/01.cr2", 2), {key: "n/01.xmp"}, at("n/02.cr2", 1), at("n/a.cr2", 9)}, policies: all,
			want: []string{"n/02.cr2>n/01.cr2", "n/01.cr2>n/02.cr2", "n/01.xmp>n/02.xmp", "n/a.cr2>n/09.cr2"}, chains: 3,
		},
		"two chains before two circles": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 1), at("n/03.jpg", 4), at("n/04.jpg", 3), at("n/05.jpg", 6), at("n/06.jpg", 7)}, policies: all,
			want: []string{
				"n/02.jpg>n/01.jpg", "n/01.jpg>n/02.jpg", "n/04.jpg>n/03.jpg", "n/03.jpg>n/04.jpg", "n/06.jpg>n/07.jpg", "n/05.jpg>n/06.jpg",
			}, chains: 6,
		},
		"a circle whose names differ in case": {
			objects: []object{at("n/01.JPG", 2), at("n/02.jpg", 1)}, policies: all[1:2],
			want: []string{"n/01.JPG skipped: target-exists", "n/02.jpg skipped: target-exists"},
		},
		"one wants a name of two that exchange theirs": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 1), at("n/a.jpg", 1)}, policies: all[1:2],
			want: []string{"n/01.jpg skipped: target-exists", "n/02.jpg skipped: same-target", "n/a.jpg skipped: same-target"},
		},
		"and gets a number": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 1), at("n/a.jpg", 1)}, policies: all[2:],
			want: []string{"n/02.jpg>n/01.jpg", "n/01.jpg>n/02.jpg", "n/a.jpg>n/01_2.jpg"}, chains: 2,
		},
		"one of a circle cannot move": {
			objects:  []object{at("n/01.cr2", 2), at("n/01.jpg", 2), at("n/02.cr2", 1), {key: "n/02.jpg", excluded: true}},
			policies: all[:1],
			want:     []string{"n/01.cr2 failed: target-exists", "n/01.jpg failed: target-exists", "n/02.cr2 failed: target-exists"},
		},
		"the last cannot move": {
			objects:  []object{at("n/01.jpg", 2), at("n/02.jpg", 3), at("n/03.jpg", 4), {key: "n/04.jpg", excluded: true}},
			policies: all[:1],
			want:     []string{"n/01.jpg failed: target-exists", "n/02.jpg failed: target-exists", "n/03.jpg failed: target-exists"},
		},
		"the last has its name": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 2)}, policies: all[:1],
			want: []string{"n/01.jpg failed: target-exists", "n/02.jpg skipped: unchanged"},
		},
		"of two that want a name the first waits": {
			objects: []object{at("n/02.jpg", 3), at("n/a.jpg", 2), at("n/b.jpg", 2)}, policies: all[2:],
			want: []string{"n/02.jpg>n/03.jpg", "n/a.jpg>n/02.jpg", "n/b.jpg>n/02_2.jpg"}, chains: 2,
		},
		"numbers where the last cannot move": {
			objects: []object{at("n/01.jpg", 2), at("n/02.jpg", 3), {key: "n/03.jpg", excluded: true}}, policies: all[2:],
			want: []string{"n/01.jpg>n/02_2.jpg", "n/02.jpg>n/03_2.jpg"},
		},
		"a folder in the place of one that leaves": {
			objects: []object{at("n/01", 2), at("n/01.d", 3)}, policies: all[:1],
			want: []string{"n/01>n/02", "n/01.d>n/03.d"},
		},
	}
	for name, tt := range tests {
		for _, policy := range tt.policies {
			t.Run(name+"/"+string(policy), func(t *testing.T) {
				w := newWorld()
				w.put(t, tt.objects)
				b := renameBatch(idA, shift, policy)
				w.inspect(t, b, nil, func(k archive.Key) bool {
					return slices.ContainsFunc(tt.objects, func(o object) bool { return o.key == k && o.excluded })
				})
				p, rows := w.plan(t, b, planning.Options{})
				var got []string
				for _, r := range rows {
					text := string(r.From) + ">" + string(r.To)
					if !r.Moves() {
						text = string(r.From) + " " + outcome(r)
					}
					got = append(got, text)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" || p.Summary.Chained != tt.chains {
					t.Errorf("%d rows in chains, want %d; rows (-want +got):\n%s", p.Summary.Chained, tt.chains, diff)
				}
				before := w.contents(t)
				w.apply(t, rows)
				checkMoved(t, before, w.contents(t), rows)
			})
		}
	}
}

// A chain is one segment however long it is, and bounded all the same.
func TestLongChains(t *testing.T) {
	tests := map[string]struct {
		objects, moves int
	}{
		"longer than a segment": {2_500, 2_500},
		"too long":              {20_001, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			var objects []object
			for i := range tt.objects {
				objects = append(objects, object{key: archive.Key(fmt.Sprintf("n/%06d.jpg", i)), day: 1})
			}
			w.put(t, objects)
			b := renameBatch(idA, "{dir}/{seq:6}{ext}", batch.ConflictSkip)
			w.inspect(t, b, nil, nil)
			p, _ := w.plan(t, b, planning.Options{Memory: 64 << 10})
			if p.Summary.Moves != int64(tt.moves) {
				t.Errorf("%d moves, want %d; %v", p.Summary.Moves, tt.moves, p.Summary.Skipped)
			}
			if tt.moves > 1 && (len(p.Segments) != 1 || p.Summary.Chained != int64(tt.moves)) {
				t.Errorf("%d segments, %d rows in chains, want 1 and %d", len(p.Segments), p.Summary.Chained, tt.moves)
			}
		})
	}
}
