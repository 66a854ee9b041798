package planning

import (
	"fmt"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// bound stands for maxWaits.
const bound = 1000

type idle struct{}

func (idle) Held() error          { return nil }
func (idle) Cancelled() bool      { return false }
func (idle) Advance(int64, int64) {}

type testRound struct {
	*resolver
	units, verdicts *extsort.Sorter
}

func newRound() *testRound {
	st := memstore.New(archive.Root{})
	b := batch.Batch{ID: "01arz3ndektsv4rrffq69g5fav"}
	r := &resolver{planner: &planner{desk: newDesk(idle{}, ledger.New(st), st, b, 1, Options{Memory: 256 << 20})}, maxWaits: bound, solveAt: 10}
	return &testRound{r, r.sorter("units"), r.sorter("verdicts")}
}

// add adds a unit of n rows whose rows await these names.
func (r *testRound) add(t *testing.T, captured string, inode uint64, key archive.Key, rows int, awaits ...archive.Key) {
	t.Helper()
	u := &unit{Captured: captured}
	for i := range rows {
		from := key
		if i > 0 {
			from = archive.Key(fmt.Sprintf("%s.%d", key, i))
		}
		u.Rows = append(u.Rows, batch.Row{From: from, To: "to/" + from, Want: archive.Identity{Inode: inode + uint64(i)}})
	}
	raw := fmt.Appendf(nil, `{"c":%q,"r":[`, captured)
	for i, row := range u.Rows {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = fmt.Appendf(raw, `{"n":0,"from":%q,"to":%q,"want":{"inode":%d}}`, row.From, row.To, row.Want.Inode)
	}
	raw = append(raw, "]}"...)
	if err := r.units.Add(t.Context(), []byte(u.id()), raw); err != nil {
		t.Fatal(err)
	}
	for i, a := range awaits {
		if err := r.verdicts.Add(t.Context(), []byte(u.id()), fmt.Appendf(nil, `{"i":%d,"r":"target-exists","m":"x","k":%q}`, i, a)); err != nil {
			t.Fatal(err)
		}
	}
}

// Where units wait for more than maxWaits names across one place, those that wait for what is behind it stay. What is not connected with them moves.
func TestUnitsBeyondTheBoundStay(t *testing.T) {
	r := newRound()
	key := func(kind string, i int) archive.Key { return archive.Key(fmt.Sprintf("%s/%07d", kind, i)) }
	const far = 2 * bound
	inode := uint64(0)
	add := func(captured string, key archive.Key, awaits ...archive.Key) {
		inode++
		r.add(t, captured, inode, key, 1, awaits...)
	}
	add("0", "before", "before too")
	add("0", "before too")
	for i := range far {
		add("1", key("first", i), key("last", i))
	}
	for i := range far - 1 {
		add("2", key("last", i))
	}
	add("2", key("last", far-1), "stays") // an object that no unit moves
	add("3", "behind", "behind too")
	add("3", "behind too")

	c, err := r.findChains(t.Context(), r.units, r.verdicts)
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	for i := range 2*far + 4 {
		m, err := c.of(int64(i))
		if err != nil {
			t.Fatal(err)
		}
		switch apart := i < 2 || i > 2*far+1; {
		case apart && m.fate != moves:
			t.Errorf("unit %d is connected with none of those that are too many: got fate %d", i, m.fate)
		case !apart && (i < 2+far || i == 2*far+1) && m.fate == moves:
			t.Errorf("unit %d is granted, which waits for one of too many", i)
		}
	}
}

// The bytes that a chain takes when it is stored are bounded as its rows are.
func TestChainsAreBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		rows, bytes int32
		want        fate
	}{
		"short":          {1, 1, moves},
		"many rows":      {maxChain, 1, chainTooLong},
		"many bytes":     {1, maxChainBytes, chainTooLong},
		"as many as fit": {maxChain - 1, maxChainBytes - 1, moves},
	} {
		t.Run(name, func(t *testing.T) {
			g := &graph{}
			g.wait(end{unit: 1, file: 1, rows: tt.rows, bytes: tt.bytes}, end{unit: 2, file: 2, rows: 1, bytes: 1})
			g.solve(true)
			if got := g.units[g.place(1)].fate; got != tt.want {
				t.Errorf("the one that waits: got fate %d, want %d", got, tt.want)
			}
			if got := g.units[g.place(2)].fate; got != moves && got != notInChain {
				t.Errorf("the one that it waits for: got fate %d, want that it may move", got)
			}
		})
	}
}

// A circle is found however many units it has, those that wait for it come after it, and it is bounded like a chain.
func TestLongCircles(t *testing.T) {
	for name, tt := range map[string]struct {
		units    int64
		exchange bool
		want     fate
	}{
		"as long as can be": {maxChain - 1, true, moves},
		"too long":          {maxChain, true, chainTooLong},
		"no exchange":       {3, false, inCircle},
	} {
		t.Run(name, func(t *testing.T) {
			g := &graph{}
			at := func(i int64) end { return end{unit: i, file: uint64(i) + 1, rows: 1, bytes: 1} }
			for i := range tt.units {
				g.wait(at(i), at((i+1)%tt.units))
			}
			g.wait(at(tt.units), at(0)) // behind the circle
			g.solve(tt.exchange)
			last := int32(-1)
			for i := range tt.units {
				u := g.units[g.place(i)]
				if u.fate != tt.want {
					t.Fatalf("unit %d: fate %d, want %d", i, u.fate, tt.want)
				}
				last = max(last, u.order)
			}
			if u := g.units[g.place(tt.units)]; tt.want == moves && (u.fate != moves || u.order != last+1) || tt.want == inCircle && u.fate != stays {
				t.Errorf("the unit behind the circle: fate %d, order %d, the last of the circle has %d", u.fate, u.order, last)
			}
		})
	}
}

// The longest circle and the longest chain of a bucket, of which all is chosen and one object has changed, take no time to speak of.
func TestUndoOfTheLongestChain(t *testing.T) {
	u := &undoer{desk: &desk{}}
	name := func(i int) archive.Key { return archive.Key(fmt.Sprintf("f/%06d.jpg", i)) }
	for what, first := range map[string]int{"chain": maxChain, "circle": 0} {
		all, marks := make([]*away, maxChain), make([]mark, maxChain)
		for i := range all {
			to := name(i + 1)
			if i == maxChain-1 {
				to = name(first)
			}
			all[i] = &away{row: batch.Row{From: name(i), To: to}, back: batch.Row{From: to, To: name(i)}, at: to}
			all[i].from.Taken = true
			marks[i].chosen = true
		}
		settle(&all[maxChain/2].back, batch.Failed, batch.ReasonChanged, "it has changed")
		began, groups := time.Now(), together(all)
		for n, is := range u.withCircles(all, groups, marks) {
			if !is {
				t.Fatalf("%s: object %d is not chosen", what, n)
			}
		}
		u.clearHomes(all, groups, nil)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %v", what, took)
		}
		for i, a := range all {
			if a.back.Moves() {
				t.Fatalf("%s: object %d moves", what, i)
			}
		}
	}
}
