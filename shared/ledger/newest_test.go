package ledger_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// submittedAt is the id of a batch submitted at t: the first ten characters are the time, as ULIDs have it.
func submittedAt(t time.Time, n int) batch.ID {
	const crockford = "0123456789abcdefghjkmnpqrstvwxyz"
	var b strings.Builder
	for shift := 45; shift >= 0; shift -= 5 {
		b.WriteByte(crockford[t.UnixMilli()>>shift&31])
	}
	return batch.ID(fmt.Sprintf("%s%016d", b.String(), n))
}

func put(t *testing.T, st store.Store, keys ...archive.Key) {
	t.Helper()
	for _, key := range keys {
		if err := st.Create(t.Context(), key, strings.NewReader("{}\n")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewest(t *testing.T) {
	now := time.Now()
	year := 365 * 24 * time.Hour
	tests := []struct {
		name string
		ages []time.Duration // oldest first
		n    int
	}{
		{"empty", nil, 5},
		{"fewer than asked for", []time.Duration{2 * year, year, time.Minute}, 5},
		{"as many as asked for", []time.Duration{2 * year, year, time.Minute}, 3},
		{"all in the last hour", []time.Duration{50 * time.Minute, 40 * time.Minute, 2 * time.Minute, time.Minute}, 2},
		{"in several spans", []time.Duration{5 * year, 100 * time.Hour, 9 * time.Hour, 7 * time.Hour, time.Minute}, 4},
		{"all of one moment, long ago", []time.Duration{year, year, year, year, year, year, year}, 3},
		{"before 1970", []time.Duration{100 * year, time.Hour}, 2},
		{"by a clock that is ahead", []time.Duration{time.Minute, -time.Hour, -year}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := openStore(t)
			var want []batch.ID
			for i, age := range tt.ages {
				id := submittedAt(time.UnixMilli(max(0, now.Add(-age).UnixMilli())), i)
				put(t, st, ledger.Key(id, "batch.json"), ledger.Key(id, "events", "0000000001.json"), ledger.Key(id, "report", "a", "batch.json"))
				want = append(want, id)
			}
			interrupted := submittedAt(now, 999)
			put(t, st, ledger.Key(interrupted, "manifest", "0"), "batches/README/batch.json", "other/batch.json")
			slices.Reverse(want)
			want = want[:min(tt.n, len(want))]
			got, err := ledger.New(st).Newest(t.Context(), tt.n)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("newest %d (-want +got):\n%s", tt.n, diff)
			}
		})
	}
}

func openStore(t *testing.T) store.Store {
	t.Helper()
	st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// counting counts the entries that listings yield.
type counting struct {
	store.Store
	entries int
}

func (c *counting) List(ctx context.Context, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range c.Store.List(ctx, o) {
			c.entries++
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestNewestReadsLittle(t *testing.T) {
	root, err := archive.FileRoot("/memory")
	if err != nil {
		t.Fatal(err)
	}
	st := &counting{Store: memstore.New(root)}
	const batches, n = 5_000, 20
	now := time.Now()
	for i := range batches {
		id := submittedAt(now.Add(-time.Duration(i)*3*time.Hour), i)
		put(t, st, ledger.Key(id, "batch.json"), ledger.Key(id, "events", "0000000001.json"))
	}
	got, err := ledger.New(st).Newest(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != n {
		t.Errorf("got %d batches, want %d", len(got), n)
	}
	if st.entries > 20*n {
		t.Errorf("read %d entries of %d batches to find the newest %d, want at most %d", st.entries, batches, n, 20*n)
	}
}

func TestNewestFails(t *testing.T) {
	st := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := ledger.New(st).Newest(ctx, 3); err == nil {
		t.Errorf("got %v and no error from a context that has ended", got)
	}
}
