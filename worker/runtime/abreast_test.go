package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/dispatch"
	"github.com/reshelf/reshelf/worker/runtime"
)

// segment is a claimed segment of objects "00", "01", … in memory, whose opening can be watched and stopped.
type segment struct {
	store.Store
	t        *testing.T
	redis    *redistest.Server
	ledger   *ledger.Ledger
	flow     *flow.Flow
	log      *slog.Logger
	batch    batch.Batch
	parallel int
	// opening, if set, is called whenever object n is opened. An error of it is that of the store.
	opening func(ctx context.Context, n int) error

	mu                sync.Mutex
	opened, now, most int
}

func newSegment(t *testing.T, parallel, objects int) *segment {
	t.Helper()
	s := &segment{t: t, redis: redistest.Start(t), ledger: ledger.New(memstore.New(archive.Root{})), parallel: parallel}
	s.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s.batch = batch.Batch{
		V: batch.Version, ID: id, Kind: batch.Inspect, Archive: root(t, "/archive"), Level: batch.LevelNone, Digests: digest.DefaultSet(),
		Pool: "default", Priority: batch.Normal, Submitted: time.Now().UTC(),
	}
	s.Store = memstore.New(s.batch.Archive)
	var err error
	s.flow, err = runtime.NewFlow(s.redis.Client(), "reshelf", s.ledger, s.log)
	s.must(err)
	s.must(s.flow.Submit(t.Context(), s.batch))
	seg := batch.Segment{End: true}
	for n := range objects {
		key := archive.Key(fmt.Sprintf("%02d", n))
		s.must(s.Create(t.Context(), key, strings.NewReader("content")))
		o, err := s.Stat(t.Context(), key)
		s.must(err)
		seg.Objects = append(seg.Objects, batch.Listed{Object: o})
	}
	h, err := s.ledger.CreateSegment(t.Context(), s.ref(), seg)
	s.must(err)
	s.must(s.flow.Made(t.Context(), s.batch, h))
	return s
}

func (s *segment) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *segment) ref() batch.Ref {
	return batch.Ref{Batch: id, Step: batch.StepInspect, Generation: 1}
}

func (s *segment) Properties() store.Properties {
	p := s.Store.Properties()
	p.Parallel = s.parallel
	return p
}

func (s *segment) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	s.mu.Lock()
	s.opened++
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	}()
	n, err := strconv.Atoi(string(key))
	if err != nil {
		return nil, err
	}
	if s.opening != nil {
		if err := s.opening(ctx, n); err != nil {
			return nil, err
		}
	}
	return s.Store.Open(ctx, key, offset, length, want)
}

// begun waits until n objects were opened, and a little longer for one too many.
func (s *segment) begun(ctx context.Context, n int) int {
	opened := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.opened
	}
	for start := time.Now(); opened() < n && time.Since(start) < 10*time.Second && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	return opened()
}

// inspect has the segment inspected under a claim of an attempt.
func (s *segment) inspect(ctx context.Context, claims *flow.Claims, attempt int) (*ledger.PartWriter, error) {
	s.t.Helper()
	x, err := claims.Take(ctx, batch.Task{V: batch.Version, Batch: id, Step: batch.StepInspect, Generation: 1, Attempt: attempt})
	s.must(err)
	w, err := ledger.NewPartWriter(s.ref(), x.Claim.Epoch)
	s.must(err)
	s.t.Cleanup(w.Close)
	return w, runtime.Inspect(ctx, s.flow, dispatch.Job{Batch: s.batch, Execution: x, Archive: s}, w)
}

func (s *segment) claims() *flow.Claims { return flow.NewClaims(s.flow.Live(), "worker", s.log) }

func (s *segment) keys(w *ledger.PartWriter) []archive.Key {
	s.t.Helper()
	_, _, err := s.ledger.CreatePart(s.t.Context(), w)
	s.must(err)
	var out []archive.Key
	for r, err := range s.ledger.Part(s.t.Context(), s.ref()) {
		s.must(err)
		out = append(out, r.Key)
	}
	return out
}

func wantKeys(n int) []archive.Key {
	var out []archive.Key
	for i := range n {
		out = append(out, archive.Key(fmt.Sprintf("%02d", i)))
	}
	return out
}

func TestAsManyObjectsAtOnceAsTheArchiveAsksFor(t *testing.T) {
	for _, tc := range []struct{ parallel, want int }{{0, 1}, {1, 1}, {4, 4}, {100, ledger.MaxInHand}} {
		t.Run(fmt.Sprint(tc.parallel), func(t *testing.T) {
			s := newSegment(t, tc.parallel, 80)
			var once sync.Once
			s.opening = func(ctx context.Context, n int) error {
				if n < tc.want { // none of the first goes on before all are there
					once.Do(func() { s.begun(ctx, tc.want) })
				}
				return nil
			}
			w, err := s.inspect(t.Context(), s.claims(), 1)
			s.must(err)
			if s.most != tc.want {
				t.Errorf("%d objects at once, want %d", s.most, tc.want)
			}
			if diff := cmp.Diff(wantKeys(80), s.keys(w)); diff != "" {
				t.Errorf("keys of the records (-want +got):\n%s", diff)
			}
		})
	}
}

// An object that takes long does not keep the others waiting, but they do not get ahead without bound.
func TestTheOthersGetAheadOfAnObjectThatTakesLong(t *testing.T) {
	s := newSegment(t, 4, 40)
	ahead := 0
	s.opening = func(ctx context.Context, n int) error {
		if n == 0 {
			ahead = s.begun(ctx, 4*runtime.Lead)
		}
		return nil
	}
	w, err := s.inspect(t.Context(), s.claims(), 1)
	s.must(err)
	if ahead != 4*runtime.Lead {
		t.Errorf("%d objects were begun while the first was inspected, want %d", ahead, 4*runtime.Lead)
	}
	if diff := cmp.Diff(wantKeys(40), s.keys(w)); diff != "" {
		t.Errorf("keys of the records (-want +got):\n%s", diff)
	}
}

func TestAnErrorEndsTheOthersAndKeepsWhatIsDone(t *testing.T) {
	s := newSegment(t, 4, 40)
	s.opening = func(ctx context.Context, n int) error {
		switch n {
		case 0, 6:
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond)
			return ctx.Err()
		case 8:
			s.begun(ctx, 12) // 1 to 5, 7, 9 and 10 are done, or nearly
			return store.ErrUnavailable
		case 11:
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	claims := s.claims()
	w, err := s.inspect(t.Context(), claims, 1)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("inspect = %v, want %v", err, store.ErrUnavailable)
	}
	if s.now != 0 || s.opened != 12 {
		t.Errorf("%d objects begun, %d not ended; want 12, and none", s.opened, s.now)
	}
	s.must(s.ledger.SavePartial(t.Context(), w))
	partial, err := s.ledger.Partial(t.Context(), s.ref())
	s.must(err)
	var kept []archive.Key
	for key := range partial {
		kept = append(kept, key)
	}
	slices.Sort(kept)
	if diff := cmp.Diff([]archive.Key{"01", "02", "03", "04", "05", "07", "09", "10"}, kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if h := s.hand(); len(h) != 0 {
		t.Errorf("%v are still in hand", h)
	}

	s.died()
	s.opening, s.opened = nil, 0
	w, err = s.inspect(t.Context(), claims, 2)
	s.must(err)
	if s.opened != 40-len(kept) {
		t.Errorf("the next attempt inspected %d objects, want the %d that were not finished", s.opened, 40-len(kept))
	}
	if diff := cmp.Diff(wantKeys(40), s.keys(w)); diff != "" {
		t.Errorf("keys of the records (-want +got):\n%s", diff)
	}
}

func TestACancelledSegmentEndsTheObjectsInHand(t *testing.T) {
	s := newSegment(t, 4, 40)
	ctx, cancel := context.WithCancel(t.Context())
	s.opening = func(ctx context.Context, n int) error {
		if n == 3 {
			s.begun(ctx, 4)
			cancel()
		}
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := s.inspect(ctx, s.claims(), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("inspect = %v, want %v", err, context.Canceled)
	}
	if s.now != 0 || s.opened != 4 {
		t.Errorf("%d objects begun, %d not ended; want 4, and none", s.opened, s.now)
	}
}

// hand is what the last sign of life says is in hand.
func (s *segment) hand() []int {
	s.t.Helper()
	raw, err := s.redis.Client().HGet(context.Background(), "reshelf:{"+string(id)+"}:window", "inspect/0").Result()
	s.must(err)
	var e struct{ H string }
	s.must(json.Unmarshal([]byte(raw), &e))
	var out []int
	if e.H != "" {
		s.must(json.Unmarshal([]byte(e.H), &out))
	}
	return out
}

// died has the worker judged dead, and its segment dispatched again.
func (s *segment) died() {
	s.t.Helper()
	live := s.flow.Live()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		seen, _, err := live.Steady(s.t.Context(), time.Minute)
		s.must(err)
		found, err := live.Reconcile(s.t.Context(), id, ledger.Limits{Progress: time.Hour, Queued: time.Hour, Seen: seen, Silence: time.Minute})
		s.must(err)
		if len(found) > 0 {
			break
		}
		if time.Since(start) > 10*time.Second {
			s.t.Fatal("the worker is not judged dead")
		}
	}
	s.must(s.flow.Sync(s.t.Context(), id))
}

func TestAllThatWasInHandIsSuspectAndNothingElse(t *testing.T) {
	s := newSegment(t, 4, 40)
	claims := s.claims()
	inHand, dead := make(chan []int), make(chan struct{})
	s.opening = func(ctx context.Context, n int) error {
		if n < 10 {
			return nil
		}
		<-dead
		return store.ErrUnavailable
	}
	beating, stop := context.WithCancel(t.Context())
	beats := make(chan struct{})
	go func() { defer close(beats); claims.Run(beating) }()
	ended := make(chan error)
	go func() {
		_, err := s.inspect(t.Context(), claims, 1)
		ended <- err
	}()
	go func() { s.begun(beating, 14); time.Sleep(1100 * time.Millisecond); inHand <- s.hand() }()
	want := []int{10, 11, 12, 13}
	got := <-inHand
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in hand (-want +got):\n%s", diff)
	}
	stop() // no more signs of life
	<-beats
	s.died()
	close(dead)
	<-ended
	c, err := s.flow.Live().Claim(t.Context(), batch.Task{V: batch.Version, Batch: id, Step: batch.StepInspect, Generation: 1, Attempt: 2}, "successor")
	s.must(err)
	if diff := cmp.Diff(map[int]int{10: 0, 11: 0, 12: 0, 13: 0}, c.Suspects); diff != "" {
		t.Errorf("suspects (-want +got):\n%s", diff)
	}
}
