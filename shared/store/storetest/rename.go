package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

func (s suite) rename(t *testing.T) {
	s.run(t, "Moves", func(f fixture) {
		f.createContent("a", "a")
		f.createContent("d/b", "")
		for from, to := range map[archive.Key]archive.Key{"a": "x/y/z", "d/b": "d/c"} {
			req := f.request(from, to)
			if err := f.Rename(f.Context(), req); err != nil {
				f.Fatal(err)
			}
			if now := f.identity(to); f.Properties().KeepsMTime && now.MTime != req.Want.MTime {
				f.Errorf("%q: modified %d, before %d", to, now.MTime, req.Want.MTime)
			}
		}
		f.wantKeys("d/c", "x/y/z")
		f.wantContent("x/y/z", "a")
		f.wantContent("d/c", "")
		if err := f.Sync(f.Context(), []archive.Key{"x/y/z", "d/c", "a", "d/b"}); err != nil {
			f.Error(err)
		}
	})
	s.run(t, "NeverReplaces", fixture.renameNeverReplaces)
	s.run(t, "SourceMissing", func(f fixture) {
		f.create("a", "b")
		for _, from := range []archive.Key{"c", "a/b", "x/y"} {
			for _, to := range []archive.Key{"new", "b"} {
				req := f.request("a", to)
				req.From = from
				req.Want.Size++ // "b" has the same size as "a"
				err := f.Rename(f.Context(), req)
				f.wantError("rename", err, store.ErrNotExist, from)
				f.wantError("rename", err, store.ErrNotExist, to)
			}
		}
		f.wantKeys("a", "b")
	})
	s.run(t, "SourceChanged", func(f fixture) {
		f.createContent("a", "a")
		for _, other := range others(f.identity("a")) {
			for _, to := range []archive.Key{"b", "a"} {
				req := f.request("a", to)
				req.Want = other
				f.wantError(fmt.Sprintf("rename of %+v", other), f.Rename(f.Context(), req), store.ErrChanged, "a")
			}
		}
		f.wantKeys("a")
	})
	s.run(t, "OntoFreedName", func(f fixture) {
		p := f.Properties()
		if !p.Parks && !p.AtomicRename {
			return // no object gets the name that another one leaves
		}
		f.createContent("a", "1")
		f.createContent("b", "2")
		for _, names := range [][2]archive.Key{{"a", "in-between"}, {"b", "a"}, {"in-between", "b"}} {
			req := f.request(names[0], names[1])
			req.SameFile = !p.Marks
			switch err := f.Rename(f.Context(), req); {
			case p.Local && errors.Is(err, store.ErrUnsupported): // names that a test has put on different devices
				f.wantKeys("a", "b")
				return
			case err != nil:
				f.Fatal(err)
			}
			if o, err := f.Stat(f.Context(), names[1]); err != nil || p.Marks && o.Mark != req.OpID || !p.Marks && o.Identity != req.Want {
				f.Errorf("%s: mark %q, %+v, %v; want that of the rename, %q, or %+v", names[1], o.Mark, o.Identity, err, req.OpID, req.Want)
			}
		}
		f.wantKeys("a", "b")
		f.wantContent("a", "2")
		f.wantContent("b", "1")
	})
	s.run(t, "OntoItself", func(f fixture) {
		f.create("d/a")
		if err := f.Rename(f.Context(), f.request("d/a", "d/a")); err != nil {
			f.Error(err)
		}
		f.wantKeys("d/a")
		f.wantContent("d/a", "d/a")
	})
	s.run(t, "Repeated", fixture.renameRepeated)
	s.run(t, "Folded", fixture.renameFolded)
}

// renameFolded: where names are folded, an object gets another spelling of its name by way of another one, and not otherwise. Who does it
// again gives either spelling.
func (f fixture) renameFolded() {
	if !f.Properties().FoldsCase || f.Properties().Marks {
		return
	}
	const upper, lower, between = archive.Key("d/IMG_1.JPG"), archive.Key("d/IMG_1.jpg"), archive.Key("d/between")
	f.create(upper)
	f.createContent("d/between.txt", "another")
	req := f.request(upper, lower)
	if err := f.Rename(f.Context(), req); !errors.Is(err, store.ErrExist) && !errors.Is(err, store.ErrUnsupported) {
		f.Errorf("rename at once: %v, want %v or %v", err, store.ErrExist, store.ErrUnsupported)
	}
	f.wantSpelled(upper, lower)
	for _, to := range []archive.Key{lower, lower, upper} {
		for _, names := range [][2]archive.Key{{upper, between}, {between, to}} {
			if err := f.Rename(f.Context(), f.request(names[0], names[1])); err != nil {
				f.Fatal(err)
			}
		}
		f.wantContent(upper, string(upper))
		f.wantContent(lower, string(upper))
		other := upper
		if to == upper {
			other = lower
		}
		f.wantSpelled(to, other)
	}
	f.createContent("e", "foreign")
	f.wantError("rename", f.Rename(f.Context(), f.request(lower, "E")), store.ErrExist, "E")
	f.wantContent("e", "foreign")
}

// wantSpelled checks which spelling of a name a listing has.
func (f fixture) wantSpelled(want, other archive.Key) {
	f.Helper()
	spelled, err := store.Spelled(f.Context(), f.Store, want, other)
	if err != nil || !spelled[want] || spelled[other] {
		f.Errorf("spelled %v, %v; want %s", spelled, err, want)
	}
}

func (f fixture) renameNeverReplaces() {
	f.createContent("a", "same size 1")
	f.createContent("b", "same size 2")
	f.createContent("d/e", "other")
	taken := []archive.Key{"b", "d/e"}
	if f.Properties().Folders {
		taken = append(taken, "b/c", "b/c/d", "d", "d/e/f", "a/x")
	}
	for _, to := range taken {
		req := f.request("a", to)
		f.wantError("rename", f.Rename(f.Context(), req), store.ErrExist, to)
		req.AssumeSingleWriter = true
		f.wantError("rename by a single writer", f.Rename(f.Context(), req), store.ErrExist, to)
	}
	f.wantKeys("a", "b", "d/e")
	f.wantContent("a", "same size 1")
	f.wantContent("b", "same size 2")
	f.wantContent("d/e", "other")
}

// renameRepeated repeats requests that were carried out.
func (f fixture) renameRepeated() {
	f.createContent("a", "first")
	f.createContent("b", "other")
	ab, ba := f.request("a", "new"), f.request("b", "a")
	for range 2 {
		if err := f.Rename(f.Context(), ab); err != nil {
			f.Fatal(err)
		}
	}
	if f.opts.VacatedTaken {
		f.wantError("rename onto a vacated name", f.Rename(f.Context(), ba), store.ErrUnsupported, "a")
		f.wantKeys("b", "new")
		return
	}
	if err := f.Rename(f.Context(), ba); err != nil { // as in a chain: the name was vacated
		f.Fatal(err)
	}
	for _, req := range []store.RenameRequest{ab, ba, ab} {
		err := f.Rename(f.Context(), req)
		unproven := req.Want.Inode == 0 && !f.Properties().Marks && errors.Is(err, store.ErrChanged) // an identity alone is not enough
		if err != nil && !unproven {
			f.Errorf("repeated after another object took the source's name: %v", err)
		}
	}
	f.wantKeys("a", "new")
	f.wantContent("new", "first")
	f.wantContent("a", "other")

	foreign := f.request("a", "taken")
	f.createContent("taken", "OTHER") // as large as what is moved
	f.wantError("rename", f.Rename(f.Context(), foreign), store.ErrExist, "taken")
	if err := f.Rename(f.Context(), f.request("a", "elsewhere")); err != nil {
		f.Fatal(err)
	}
	f.wantError("rename", f.Rename(f.Context(), foreign), store.ErrNotExist, "taken")
	f.wantContent("taken", "OTHER")
	f.wantContent("elsewhere", "other")
}

func (s suite) renameRaces(t *testing.T) {
	s.run(t, "OneTarget", func(f fixture) {
		for round := range 10 {
			f.raceForTarget(archive.Key(fmt.Sprintf("race%d/", round)))
		}
	})
	s.run(t, "OneRequest", func(f fixture) {
		for round := range 10 {
			from := archive.Key(fmt.Sprintf("from%d", round))
			f.create(from)
			req := f.request(from, "to/"+from)
			errs := together(16, func(int) error { return f.Rename(f.Context(), req) })
			if err := errors.Join(errs...); err != nil {
				f.Error(err)
			}
			f.wantContent("to/"+from, string(from))
			_, err := f.Stat(f.Context(), from)
			f.wantError("stat", err, store.ErrNotExist, from)
		}
	})
	s.run(t, "OneSource", func(f fixture) {
		f.create("a")
		reqs := make([]store.RenameRequest, 16)
		for i := range reqs {
			reqs[i] = f.request("a", archive.Key(fmt.Sprintf("to/%d", i)))
		}
		errs := together(len(reqs), func(i int) error { return f.Rename(f.Context(), reqs[i]) })
		// Without a guard, two may meet in the middle and keep both names, and of two requests that copy, both may have
		// copied before one deletes; nothing is lost then either.
		if !f.opts.AssumeSingleWriter && !f.Properties().Marks {
			f.wantKeys(reqs[f.winner(errs, store.ErrNotExist)].To)
		}
		for _, key := range f.listed(store.ListOptions{}) {
			f.wantContent(key, "a")
		}
		if len(f.listed(store.ListOptions{})) == 0 {
			f.Error("the object is lost")
		}
	})
	s.run(t, "CreateOrRename", func(f fixture) {
		for round := range 10 {
			from := archive.Key(fmt.Sprintf("from%d", round))
			f.create(from)
			req := f.request(from, "to/"+from)
			errs := together(2, func(i int) error {
				if i == 0 {
					return f.Create(f.Context(), req.To, strings.NewReader("created"))
				}
				return f.Rename(f.Context(), req)
			})
			if f.winner(errs, store.ErrExist) == 0 {
				f.wantContent(from, string(from))
				f.wantContent(req.To, "created")
			} else {
				f.wantContent(req.To, string(from))
			}
		}
	})
}

// raceForTarget renames 16 objects to one name: one gets it, the others stay as they are.
func (f fixture) raceForTarget(dir archive.Key) {
	f.Helper()
	reqs := make([]store.RenameRequest, 16)
	for i := range reqs {
		from := dir + archive.Key(fmt.Sprintf("from%02d", i))
		f.create(from)
		reqs[i] = f.request(from, dir+"to/target")
	}
	won := f.winner(together(len(reqs), func(i int) error { return f.Rename(f.Context(), reqs[i]) }), store.ErrExist)
	f.wantContent(dir+"to/target", string(reqs[won].From))
	for _, req := range slices.Delete(reqs, won, won+1) {
		f.wantContent(req.From, string(req.From))
	}
}
