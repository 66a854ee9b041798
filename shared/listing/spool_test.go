package listing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

func keySeq(keys ...string) iter.Seq2[listing.Named, error] {
	return func(yield func(listing.Named, error) bool) {
		for _, k := range keys {
			if !yield(listing.Named{Key: archive.Key(k)}, nil) {
				return
			}
		}
	}
}

func spool(t testing.TB, led *ledger.Ledger, b batch.Batch, keys ...string) {
	t.Helper()
	if _, err := listing.Spool(t.Context(), led, b.ID, keySeq(keys...)); err != nil {
		t.Fatal(err)
	}
}

func TestListManifest(t *testing.T) {
	tests := []struct {
		name     string
		filter   batch.Filter
		keys     []string
		want     []string
		excluded int64
	}{
		{name: "empty"},
		{
			name: "sorted, once each, problems recorded",
			keys: []string{"z", "a", "d", "gone", "d/b", "a", "d/.x/y", ".reshelf-1"},
			want: []string{"a", "d special-file", "d/b", "gone missing", "z"}, excluded: 2,
		},
		{
			name:   "filtered",
			filter: batch.Filter{All: true, Include: []string{"d/**", "gone"}, Exclude: []string{"b"}},
			keys:   []string{"z", "d/b", "d/.x/y", "gone"}, want: []string{"d/.x/y", "gone missing"}, excluded: 2,
		},
	}
	for _, tt := range tests {
		for objects := 1; objects < 5; objects++ {
			t.Run(fmt.Sprint(tt.name, objects), func(t *testing.T) {
				led, b := newLedger(t), newBatch(t, manifestBatch)
				b.Filter = tt.filter
				spool(t, led, b, tt.keys...)
				st := newArchive(t, "a:3", "d/b", "d/.x/y", "other", "z")
				if _, _, err := list(t, led, st, b, listing.Options{Objects: objects, Parallel: 1}); err != nil {
					t.Fatal(err)
				}
				segs := segments(t, led, b.ID)
				var got []string
				for _, s := range segs {
					for _, o := range s.Objects {
						got = append(got, strings.TrimSpace(string(o.Key)+" "+string(o.Problem)))
						if o.Problem == "" && o.Size == 0 || o.Problem != "" && o.Outcome == "" {
							t.Errorf("%+v", o)
						}
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if n := excludedIn(segs); n != tt.excluded {
					t.Errorf("excluded = %d, want %d", n, tt.excluded)
				}
			})
		}
	}
}

// faulty answers Stat as it is told.
type faulty struct {
	store.Store
	stat error
}

func (f faulty) Stat(_ context.Context, key archive.Key) (archive.Object, error) {
	return archive.Object{}, fmt.Errorf("stat %s: %w", key.Text(), f.stat)
}

func TestListManifestFaults(t *testing.T) {
	tests := []struct {
		name    string
		st      store.Store
		problem batch.Reason
		outcome batch.Outcome
		want    error
	}{
		{name: "permission", st: faulty{newArchive(t, "a"), store.ErrPermission}, problem: batch.ReasonUnreadable, outcome: batch.Failed},
		{name: "not a file", st: faulty{newArchive(t, "a"), store.ErrNotRegular}, problem: batch.ReasonSpecial, outcome: batch.Skipped},
		{name: "disk", st: faulty{newArchive(t, "a"), io.ErrUnexpectedEOF}, problem: batch.ReasonIO, outcome: batch.Failed},
		{name: "missing", st: faulty{newArchive(t, "a"), store.ErrNotExist}, problem: batch.ReasonMissing, outcome: batch.Failed},
		{name: "outage", st: faulty{newArchive(t, "a"), store.ErrUnavailable}, want: store.ErrUnavailable},
		{name: "not mounted", st: newArchive(t), want: store.ErrUnavailable},
		{name: "not mounted over litter", st: newArchive(t, ".DS_Store", "lost+found/x"), want: store.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			led, b := newLedger(t), newBatch(t, manifestBatch)
			spool(t, led, b, "a")
			_, _, err := list(t, led, tt.st, b, listing.Options{})
			if !errors.Is(err, tt.want) {
				t.Fatalf("err = %v, want %v", err, tt.want)
			}
			if tt.want != nil {
				if n, err := led.Segments(t.Context(), b.ID, batch.StepInspect, 1); n != 0 || err != nil {
					t.Errorf("%d segments made, %v; want none", n, err)
				}
				return
			}
			o := segments(t, led, b.ID)[0].Objects[0]
			if o.Problem != tt.problem || o.Outcome != tt.outcome || o.Detail == "" || o.Key != "a" {
				t.Errorf("listed %+v; want %s, %s", o, tt.outcome, tt.problem)
			}
		})
	}
}

// crowd lets nobody through Stat before limit calls are waiting there.
type crowd struct {
	store.Store
	limit int

	mu      sync.Mutex
	arrived int           // since the last group was let through
	waiting chan struct{} // closed when a group is let through
	flying  int
	most    int
}

func (c *crowd) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	c.mu.Lock()
	c.arrived++
	c.flying++
	c.most = max(c.most, c.flying)
	gate := c.waiting
	if c.arrived == c.limit {
		c.arrived, c.waiting = 0, make(chan struct{})
		close(gate)
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flying--
	}()
	select {
	case <-gate:
	case <-time.After(30 * time.Second):
		return archive.Object{}, fmt.Errorf("fewer than %d at once: %w", c.limit, store.ErrUnavailable)
	}
	return c.Store.Stat(ctx, key)
}

func TestListManifestLooksUpManyAtOnce(t *testing.T) {
	keys := numbered(32*4, "%03d")
	st := &crowd{Store: newArchive(t, keys...), limit: 32, waiting: make(chan struct{})}
	led, b := newLedger(t), newBatch(t, manifestBatch)
	spool(t, led, b, keys...)
	if _, _, err := list(t, led, st, b, listing.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(segments(t, led, b.ID)); !slices.Equal(got, keys) {
		t.Errorf("keys = %q, want %q", got, keys)
	}
	if st.most != 32 {
		t.Errorf("%d at once, want 32", st.most)
	}
}

func TestListersOfManifest(t *testing.T) {
	b := newBatch(t, manifestBatch)
	st := newArchive(t, photos()...)
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		led := newLedger(t)
		spool(t, led, b, append(wanted(), ".x/1", "b/@eaDir/1", "b/.y", "g/Thumbs.db")...)
		listers := make([]contender, 2)
		for i := range listers {
			listers[i] = contender{st: st, opts: listing.Options{Objects: 1 + rnd.IntN(4), Parallel: 1 + rnd.IntN(4)}}
		}
		outcomes := interleave(t, led.Store(), b, listers, func(waiting []int) (int, move) {
			return waiting[rnd.IntN(len(waiting))], goOn
		})
		segs := segments(t, led, b.ID)
		wholeArchive(t, segs)
		agree(t, outcomes, len(segs))
	}
}

// counting fails every creation and replacement after the first so many.
type counting struct {
	store.Store
	left atomic.Int64
}

func (c *counting) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if c.left.Add(-1) < 0 {
		return errKilled
	}
	return c.Store.Create(ctx, key, body)
}

func TestSpool(t *testing.T) {
	// More than two shards.
	keys := numbered(5000, strings.Repeat("long-", 500)+"%06d.jpg")
	shuffled := slices.Clone(keys)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(keys), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	shuffled = append(shuffled, keys[:10]...)
	mem := memstore.New(root(t, "/ledger"))
	b := newBatch(t, manifestBatch)
	for made := int64(0); ; made++ {
		st := &counting{Store: mem}
		st.left.Store(made)
		n, err := listing.Spool(t.Context(), ledger.New(st), b.ID, keySeq(shuffled...))
		if err == nil {
			if n != int64(len(keys)) || made < 3 {
				t.Errorf("%d keys with %d creations; want %d with more", n, made, len(keys))
			}
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
	}
	led := ledger.New(mem)
	if n, err := listing.Spool(t.Context(), led, b.ID, keySeq(keys...)); n != int64(len(keys)) || err != nil {
		t.Errorf("Spool again = %d, %v; want %d", n, err, len(keys))
	}
	if _, err := listing.Spool(t.Context(), led, b.ID, keySeq("other")); !errors.Is(err, store.ErrExist) {
		t.Errorf("Spool other keys: %v, want %v", err, store.ErrExist)
	}
	left := 0
	for e, err := range mem.List(t.Context(), store.ListOptions{Prefix: string(ledger.Key(b.ID, "manifest", "sort"))}) {
		t.Errorf("left behind: %s, %v", e.Key, err)
		left++
	}
	if _, _, err := list(t, led, newArchive(t, keys[0]), b, listing.Options{Objects: 1000}); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(segments(t, led, b.ID)); !slices.Equal(got, keys) {
		t.Errorf("%d keys listed, want %d", len(got), len(keys))
	}
}

func TestSpoolRefuses(t *testing.T) {
	bad := errors.New("bad line")
	failing := func(yield func(listing.Named, error) bool) {
		_ = yield(listing.Named{Key: "a"}, nil) && yield(listing.Named{}, bad)
	}
	led, b := newLedger(t), newBatch(t, manifestBatch)
	if _, err := listing.Spool(t.Context(), led, b.ID, failing); !errors.Is(err, bad) {
		t.Errorf("err = %v, want %v", err, bad)
	}
	if _, err := listing.Spool(t.Context(), led, b.ID, keySeq("a//b")); !errors.Is(err, archive.ErrKey) {
		t.Errorf("err = %v, want %v", err, archive.ErrKey)
	}
	if _, _, err := list(t, led, newArchive(t), b, listing.Options{}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("List without a manifest: %v, want %v", err, store.ErrNotExist)
	}
}

func TestListRefusesDamagedManifest(t *testing.T) {
	for _, part := range []string{"shards/", "sealed.json"} {
		t.Run(part, func(t *testing.T) {
			led, b := newLedger(t), newBatch(t, manifestBatch)
			spool(t, led, b, "a", "b")
			prefix := string(ledger.Key(b.ID, "manifest")) + "/" + part
			for e, err := range led.Store().List(t.Context(), store.ListOptions{Prefix: prefix}) {
				if err == nil {
					err = led.Store().Replace(t.Context(), e.Key, strings.NewReader("{}x"))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := list(t, led, newArchive(t, "a"), b, listing.Options{}); !errors.Is(err, ledger.ErrCorrupt) {
				t.Errorf("err = %v, want %v", err, ledger.ErrCorrupt)
			}
		})
	}
}
