package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// trapKeys are those on which a listing by directories goes wrong: bytes below the slash sort between a folder's name and
// what is in it.
func trapKeys() []archive.Key {
	return []archive.Key{
		"a", "a b/x", "a b/y", "a!", "a-b", "a-b/c", "a.b", "a.b/c/d", "a/b", "a/b-c", "a/b.c", "a/b/c", "a/b/c-d/e",
		"a0", "aa/a", "aa", "A/a", "b", "b/", "Z", "~", "a\x01", "a\x01/x", "\xff/\xff", "\xff", "é/é",
	}
}

func (s suite) list(t *testing.T) {
	s.run(t, "Empty", func(f fixture) { f.wantKeys() })
	s.run(t, "Order", func(f fixture) { f.checkListings(f.createAllowed(trapKeys())) })
	s.run(t, "RandomTree", func(f fixture) {
		const seed = 7
		f.checkListings(f.createAllowed(randomKeys(rand.New(rand.NewPCG(seed, seed)), 120)))
	})
	s.run(t, "Skip", fixture.listSkip)
	s.run(t, "Objects", fixture.listObjects)
	s.run(t, "Temporary", func(f fixture) {
		f.create(store.TempPrefix+"x", "dir/"+store.TempPrefix+"y", "dir/x"+store.TempPrefix, "dir/"+store.TempPrefix+"z/a", store.TempPrefix+"z/b/c")
		f.wantKeys("dir/x" + store.TempPrefix)
	})
	s.run(t, "Break", func(f fixture) {
		f.create("a", "b/c", "d")
		for range f.List(f.Context(), store.ListOptions{}) {
			break
		}
	})
	s.run(t, "WhileChanging", fixture.listWhileChanging)
}

// createAllowed creates those keys that are valid and do not conflict with the ones before, and returns them sorted.
func (f fixture) createAllowed(keys []archive.Key) []archive.Key {
	f.Helper()
	var made []archive.Key
	keys = slices.DeleteFunc(keys, func(key archive.Key) bool { _, err := archive.ParseKey(string(key)); return err != nil })
	for _, key := range f.apart(f.possible(keys)) {
		if conflicts(made, key) {
			continue
		}
		f.create(key)
		made = append(made, key)
	}
	slices.Sort(made)
	return made
}

func conflicts(made []archive.Key, key archive.Key) bool {
	return slices.ContainsFunc(made, func(m archive.Key) bool {
		return m == key || strings.HasPrefix(string(m), string(key)+"/") || strings.HasPrefix(string(key), string(m)+"/")
	})
}

// randomKeys draws keys of few different bytes, around the slash.
func randomKeys(r *rand.Rand, n int) []archive.Key {
	keys := make([]archive.Key, n)
	for i := range keys {
		b := make([]byte, 1+r.IntN(9))
		for j := range b {
			b[j] = "ab-. /0/"[r.IntN(8)]
		}
		keys[i] = archive.Key(b)
	}
	return keys
}

// checkListings compares listings from every key on and below every prefix with what they should be.
func (f fixture) checkListings(all []archive.Key) {
	f.Helper()
	check := func(opts store.ListOptions) {
		f.Helper()
		var want []archive.Key
		for _, key := range all {
			if key > opts.After && strings.HasPrefix(string(key), opts.Prefix) {
				want = append(want, key)
			}
		}
		if got := f.listed(opts); !slices.Equal(got, want) {
			f.Errorf("after %q with prefix %q: got %q, want %q", opts.After, opts.Prefix, got, want)
		}
	}
	check(store.ListOptions{})
	for _, key := range all {
		check(store.ListOptions{After: key})
		check(store.ListOptions{After: key + "\x00"})
		check(store.ListOptions{After: key[:len(key)-1]})
		check(store.ListOptions{After: key.Dir()})
		for end := range len(key) {
			check(store.ListOptions{Prefix: string(key[:end+1])})
		}
		check(store.ListOptions{Prefix: string(key) + "/"})
		check(store.ListOptions{Prefix: string(key.Dir()), After: key})
	}
}

func (f fixture) listSkip() {
	f.create("a/b/c", "a/b/d", "a/e", "a-b", "skip/x/y", "skip/z", "f/skip", "g/skip/h")
	skipped := func(key archive.Key, dir bool) bool {
		if strings.HasPrefix(string(key), "skip/") || strings.HasPrefix(string(key), "g/skip/") {
			f.Errorf("asked for %q, which is below a skipped directory", key)
		}
		if strings.HasSuffix(string(key), "/") {
			f.Errorf("asked for %q with a slash", key)
		}
		return key.Base() == "skip" && dir || key == "a/b/d" && !dir
	}
	want := []archive.Key{"a-b", "a/b/c", "a/e", "f/skip"}
	if got := f.listed(store.ListOptions{Skip: skipped}); !slices.Equal(got, want) {
		f.Errorf("got %q, want %q", got, want)
	}
	want = []archive.Key{"a/e"}
	if got := f.listed(store.ListOptions{Skip: skipped, Prefix: "a/", After: "a/b/c"}); !slices.Equal(got, want) {
		f.Errorf("got %q, want %q", got, want)
	}
}

func (f fixture) listObjects() {
	f.createContent("empty", "")
	f.createContent("dir/full", "content")
	for e, err := range f.List(f.Context(), store.ListOptions{}) {
		if err != nil {
			f.Fatal(err)
		}
		obj, err := f.Stat(f.Context(), e.Key)
		if err != nil {
			f.Error(err)
		}
		if e.Object != obj && !e.Same(obj.Identity) {
			f.Errorf("listed as %+v, described as %+v", e.Object, obj)
		}
	}
}

// listWhileChanging lists while other objects come and go: those that stay are each listed once.
func (f fixture) listWhileChanging() {
	var stay []archive.Key
	for i := range 40 {
		stay = append(stay, archive.Key(fmt.Sprintf("d%d/stay%02d", i%4, i)))
	}
	f.create(stay...)
	slices.Sort(stay)
	done := make(chan struct{})
	changed := make(chan error, 1)
	go func() { changed <- f.churn(done) }()
	for range 20 {
		got := slices.DeleteFunc(f.listed(store.ListOptions{}), func(key archive.Key) bool {
			return !strings.Contains(string(key), "/stay")
		})
		if !slices.Equal(got, stay) {
			f.Errorf("got %q, want %q", got, stay)
		}
	}
	close(done)
	if err := <-changed; err != nil {
		f.Error(err)
	}
}

// churn creates and renames objects until done is closed.
func (f fixture) churn(done <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-done:
			return nil
		default:
		}
		from, to := archive.Key(fmt.Sprintf("d%d/come%d", i%4, i)), archive.Key(fmt.Sprintf("d%d/go%d", (i+1)%4, i))
		if err := f.Create(f.Context(), from, strings.NewReader("x")); err != nil {
			return err
		}
		obj, err := f.Stat(f.Context(), from)
		if err != nil {
			return err
		}
		req := store.RenameRequest{From: from, To: to, Want: obj.Identity, OpID: opID(from, to), AssumeSingleWriter: f.opts.AssumeSingleWriter}
		if err := f.Rename(f.Context(), req); err != nil {
			return err
		}
	}
}
