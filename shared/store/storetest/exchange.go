package storetest

import (
	"errors"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

func (s suite) exchange(t *testing.T) {
	s.run(t, "Unsupported", func(f fixture) {
		if p := f.Properties(); p.Exchange && !p.AtomicRename {
			f.Error("it exchanges names, and its renames are not one step")
		}
		if f.exchanges() {
			return
		}
		f.create("a", "b")
		f.wantError("exchange", f.Exchange(f.Context(), f.exchangeRequest("a", "b")), store.ErrUnsupported, "b")
		f.wantContent("a", "a")
		f.wantContent("b", "b")
	})
	s.runExchange(t, "Swaps", func(f fixture) {
		f.createContent("d/e/a", "first")
		f.createContent("b", "second, longer")
		req := f.exchangeRequest("d/e/a", "b")
		if err := f.Exchange(f.Context(), req); err != nil {
			f.Fatal(err)
		}
		for range 2 {
			f.wantKeys("b", "d/e/a")
			f.wantContent("b", "first")
			f.wantContent("d/e/a", "second, longer")
			f.wantError("repeated", f.Exchange(f.Context(), req), store.ErrChanged, "b")
		}
		if a, b := f.identity("b"), f.identity("d/e/a"); a != req.WantA || b != req.WantB {
			f.Errorf("the identities are %+v and %+v now, before %+v and %+v", a, b, req.WantA, req.WantB)
		}
		if err := f.Sync(f.Context(), []archive.Key{"b", "d/e/a"}); err != nil {
			f.Error(err)
		}
	})
	s.runExchange(t, "Changed", func(f fixture) {
		f.create("a", "b", "c")
		good := f.exchangeRequest("a", "b")
		for _, other := range others(good.WantA) {
			req := good
			if req.WantA = other; other.Inode == good.WantB.Inode {
				continue
			}
			f.wantError("exchange of another", f.Exchange(f.Context(), req), store.ErrChanged, "b")
		}
		for _, other := range others(good.WantB) {
			req := good
			if req.WantB = other; other.Inode == good.WantA.Inode {
				continue
			}
			f.wantError("exchange with another", f.Exchange(f.Context(), req), store.ErrChanged, "b")
		}
		req := good
		req.B = "c"
		f.wantError("exchange with the object of another key", f.Exchange(f.Context(), req), store.ErrChanged, "c")
		for key, content := range map[archive.Key]string{"a": "a", "b": "b", "c": "c"} {
			f.wantContent(key, content)
		}
	})
	s.runExchange(t, "Missing", func(f fixture) {
		f.create("a", "d/b")
		for _, missing := range []archive.Key{"c", "x/y"} {
			req := f.exchangeRequest("a", "d/b")
			req.B = missing
			f.wantError("exchange with nothing", f.Exchange(f.Context(), req), store.ErrNotExist, missing)
			req.A, req.B = missing, "a"
			f.wantError("exchange of nothing", f.Exchange(f.Context(), req), store.ErrNotExist, "a")
		}
		f.wantKeys("a", "d/b")
		f.wantContent("a", "a")
	})
	s.runExchange(t, "Alike", func(f fixture) {
		f.create("a", "b")
		req := f.exchangeRequest("a", "b")
		for _, change := range []func(){func() { req.WantB = req.WantA }, func() { req.WantB.Inode = 0 }, func() { req.WantA.Inode = 0 }} {
			change()
			f.wantError("exchange of what cannot be told apart", f.Exchange(f.Context(), req), store.ErrUnsupported, "b")
		}
		f.wantContent("a", "a")
		f.wantContent("b", "b")
	})
	s.runExchange(t, "Races", func(f fixture) {
		for range 50 {
			f.raceExchange()
		}
	})
}

// raceExchange makes one exchange by several at once: both objects are there, each at one of the names.
func (f fixture) raceExchange() {
	f.Helper()
	if _, err := f.Stat(f.Context(), "a"); errors.Is(err, store.ErrNotExist) {
		f.create("a", "b")
	}
	req := f.exchangeRequest("a", "b")
	for _, err := range together(4, func(int) error { return f.Exchange(f.Context(), req) }) {
		if err != nil && !errors.Is(err, store.ErrChanged) && !errors.Is(err, store.ErrRaced) {
			f.Error(err)
		}
	}
	if got := f.read("a", 0, -1) + f.read("b", 0, -1); got != "ab" && got != "ba" {
		f.Errorf("%q after one exchange by several", got)
	}
}

// exchanges reports whether this store is to exchange names.
func (f fixture) exchanges() bool { return f.Properties().Exchange && !f.opts.AssumeSingleWriter }

// runExchange runs a subtest where the store exchanges names.
func (s suite) runExchange(t *testing.T, name string, test func(f fixture)) {
	s.run(t, name, func(f fixture) {
		if f.exchanges() {
			test(f)
		}
	})
}

func (f fixture) exchangeRequest(a, b archive.Key) store.ExchangeRequest {
	f.Helper()
	return store.ExchangeRequest{A: a, B: b, WantA: f.identity(a), WantB: f.identity(b)}
}
