package planning

import (
	"context"
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
	r := &resolver{planner: &planner{desk: newDesk(idle{}, ledger.New(st), st, b, 1, Options{Memory: 256 << 20})}, maxWaits: bound}
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

// A unit whose conditions are beyond maxWaits does not move, nor does one that waits for it.
func TestUnitsBeyondTheBoundStay(t *testing.T) {
	r := newRound()
	r.add(t, "0", 1, "first", 1, "last")
	for i := range bound - 1 {
		r.add(t, "1", uint64(10+i), archive.Key(fmt.Sprintf("%07d", i)), 1, "nothing")
	}
	r.add(t, "2", 2, "last", 1, "stays") // "stays" is an object that no unit moves
	c, err := r.findChains(context.Background(), r.units, r.verdicts)
	if err != nil {
		t.Fatal(err)
	}
	first, last := c.of(0), c.of(bound)
	if last.fate == moves {
		t.Errorf("the unit that waits for an object that stays is granted")
	}
	if first.fate == moves {
		t.Errorf("the unit that waits for it is granted")
	}
}

// maxWaits bounds conditions, of which a unit has up to one for each of its rows.
func TestBoundCountsConditions(t *testing.T) {
	r := newRound()
	const rows = 10
	units := bound/rows + 20
	awaits := make([]archive.Key, rows)
	for u := range units {
		for i := range awaits {
			awaits[i] = archive.Key(fmt.Sprintf("n/%d.%d", u, i))
		}
		r.add(t, "1", uint64(1+u*rows), archive.Key(fmt.Sprintf("%07d", u)), rows, awaits...)
	}
	movers, waits := r.sorter("movers"), r.sorter("waits")
	if err := r.spread(context.Background(), r.units, r.verdicts, movers, waits); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range waits.Sorted(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n > bound {
		t.Errorf("%d conditions of %d units are held in memory, want at most %d", n, units, bound)
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
			g.wait(end{unit: 1, inode: 1, rows: tt.rows, bytes: tt.bytes}, end{unit: 2, inode: 2, rows: 1, bytes: 1})
			c := g.solve(true)
			if got := c.of(1).fate; got != tt.want {
				t.Errorf("the one that waits: got fate %d, want %d", got, tt.want)
			}
			if got := c.of(2).fate; got != moves && got != notInChain {
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
			at := func(i int64) end { return end{unit: i, inode: uint64(i) + 1, rows: 1, bytes: 1} }
			for i := range tt.units {
				g.wait(at(i), at((i+1)%tt.units))
			}
			g.wait(at(tt.units), at(0)) // behind the circle
			c := g.solve(tt.exchange)
			last := int32(-1)
			for i := range tt.units {
				u := c.of(i)
				if u.fate != tt.want {
					t.Fatalf("unit %d: fate %d, want %d", i, u.fate, tt.want)
				}
				last = max(last, u.order)
			}
			if u := c.of(tt.units); tt.want == moves && (u.fate != moves || u.order != last+1) || tt.want == inCircle && u.fate != stays {
				t.Errorf("the unit behind the circle: fate %d, order %d, the last of the circle has %d", u.fate, u.order, last)
			}
		})
	}
}

// The longest circle and the longest chain of a bucket, of which all is chosen and one object has changed, take no time to speak of.
func TestUndoOfTheLongestChain(t *testing.T) {
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
		for n, is := range withCircles(all, groups, marks) {
			if !is {
				t.Fatalf("%s: object %d is not chosen", what, n)
			}
		}
		clearHomes(all, groups, nil)
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
