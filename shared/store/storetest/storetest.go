// Package storetest is the conformance suite of store.Store: every implementation and every decorator runs it.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
)

// Options say which of the allowed ways a store takes.
type Options struct {
	// Archive: the store was opened as an archive, so Replace and Delete are ErrUnsupported.
	Archive bool
	// AssumeSingleWriter is set in every rename, for stores whose renames are not guarded.
	AssumeSingleWriter bool
	// InMemory: there is no room for large objects.
	InMemory bool
	// VacatedTaken: the server counts a name as taken that an object had before (a versioned Versity Gateway).
	VacatedTaken bool
	// TornReaders: a reader of an object that is replaced may find store.ErrChanged, of a server that writes in place (rclone).
	TornReaders bool
	// Odd reports keys that this server cannot have, beyond store.Properties.Takes. What it does with them is not looked at.
	Odd func(key archive.Key) bool
}

// Run checks every promise of store.Store. open returns an empty store and closes it with t.Cleanup if it needs to be
// closed; it is called from many goroutines.
func Run(t *testing.T, open func(t *testing.T) store.Store, opts Options) {
	s := suite{open, opts}
	t.Run("List", s.list)
	t.Run("Stat", s.stat)
	t.Run("Open", s.openContents)
	t.Run("Create", s.create)
	t.Run("Replace", s.replace)
	t.Run("Delete", s.remove)
	t.Run("Rename", s.rename)
	t.Run("RenameRaces", s.renameRaces)
	t.Run("Exchange", s.exchange)
	t.Run("Copy", s.copies)
	t.Run("Links", s.linksNeverReplace)
	t.Run("CopyRaces", s.copyRaces)
	t.Run("Keys", s.keys)
	t.Run("Folders", s.folders)
	t.Run("Cancelled", s.cancelled)
	t.Run("Properties", s.properties)
	t.Run("Large", s.largeObjects)
}

type suite struct {
	open func(t *testing.T) store.Store
	opts Options
}

// run runs a subtest in parallel with its own store.
func (s suite) run(t *testing.T, name string, test func(f fixture)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		test(fixture{t, s.open(t), s.opts})
	})
}

// fixture is one subtest and its store.
type fixture struct {
	*testing.T
	store.Store
	opts Options
}

// create stores objects whose contents are their keys.
func (f fixture) create(keys ...archive.Key) {
	f.Helper()
	for _, key := range keys {
		f.createContent(key, string(key))
	}
}

func (f fixture) createContent(key archive.Key, content string) {
	f.Helper()
	if err := f.Create(f.Context(), key, strings.NewReader(content)); err != nil {
		f.Fatal(err)
	}
}

// identity of the object at key.
func (f fixture) identity(key archive.Key) archive.Identity {
	f.Helper()
	obj, err := f.Stat(f.Context(), key)
	if err != nil {
		f.Fatal(err)
	}
	return obj.Identity
}

// read returns a range of an object.
func (f fixture) read(key archive.Key, offset, length int64) string {
	f.Helper()
	c, err := f.Open(f.Context(), key, offset, length, archive.Identity{})
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		f.Fatal(err)
	}
	if err := c.Recheck(f.Context()); err != nil {
		f.Errorf("recheck of an unchanged object: %v", err)
	}
	return string(b)
}

// listed returns the keys of a listing, all of which must be objects, in strictly ascending order.
func (f fixture) listed(opts store.ListOptions) []archive.Key {
	f.Helper()
	var keys []archive.Key
	for e, err := range f.List(f.Context(), opts) {
		if err != nil {
			f.Fatal(err)
		}
		if e.Kind != store.Regular {
			f.Fatalf("%q is listed as %q: %v", e.Key, e.Kind, e.Err)
		}
		if n := len(keys); n > 0 && keys[n-1] >= e.Key {
			f.Fatalf("%q is listed after %q", e.Key, keys[n-1])
		}
		keys = append(keys, e.Key)
	}
	return keys
}

// wantKeys checks that the store holds exactly these objects, in any order.
func (f fixture) wantKeys(want ...archive.Key) {
	f.Helper()
	slices.Sort(want)
	if got := f.listed(store.ListOptions{}); !slices.Equal(got, want) {
		f.Errorf("got keys %q, want %q", got, want)
	}
}

func (f fixture) wantContent(key archive.Key, want string) {
	f.Helper()
	if got := f.read(key, 0, -1); got != want {
		f.Errorf("%q holds %q, want %q", key, shorten(got), shorten(want))
	}
}

// wantError checks a sentinel, and that the error names the key in its escaped form.
func (f fixture) wantError(what string, err, want error, key archive.Key) {
	f.Helper()
	switch {
	case !errors.Is(err, want):
		f.Errorf("%s: got %v, want %v", what, err, want)
	case !strings.Contains(err.Error(), key.Text()):
		f.Errorf("%s: the error %q does not name %q", what, err, key.Text())
	case key.Text() != string(key) && strings.Contains(err.Error(), string(key)):
		f.Errorf("%s: the error %q holds the raw key", what, err)
	}
}

// request is a rename of the object at from as it is now.
func (f fixture) request(from, to archive.Key) store.RenameRequest {
	f.Helper()
	return store.RenameRequest{
		From: from, To: to, Want: f.identity(from), OpID: opID(from, to),
		AssumeSingleWriter: f.opts.AssumeSingleWriter,
	}
}

// opID is one as plans have them.
func opID(from, to archive.Key) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(from+">"+to)))
}

// together calls do at the same moment with 0 to n-1 and returns the errors.
func together(n int, do func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = do(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// winner returns the index of the only nil; the other errors must be want.
func (f fixture) winner(errs []error, want error) int {
	f.Helper()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won >= 0:
			f.Fatalf("both %d and %d won", won, i)
		case err == nil:
			won = i
		case !errors.Is(err, want):
			f.Errorf("loser %d got %v, want %v", i, err, want)
		}
	}
	if won < 0 {
		f.Fatalf("nobody won: %v", errs)
	}
	return won
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// oddKeys are keys that every store must keep apart and hand back byte by byte.
func oddKeys() []archive.Key {
	return []archive.Key{
		"-rf", "--", " leading", "trailing ", "trailing.", "new\nline", "tab\there", "cr\rlf", "escape\x1b[31m",
		`back\slash`, "quo\"te'", "$(reboot)", "a&b;c|d", "50%", "%20", "a+b", "#hash", "question?", "star*", "~tilde",
		"...", "..hidden", ".hidden", "...dir/x",
		"caf\u00e9", "cafe\u0301", // NFC and NFD
		"\U0001F4F7 photo \U0001F468\u200d\U0001F469\u200d\U0001F467", "日本語/写真", "\u202egnp.exe",
		"latin1-\xe9", "broken-\xff\xfe", "half-\xc3", "\xed\xa0\x80surrogate",
		archive.Key(strings.Repeat("n", 255)), archive.Key(strings.Repeat("d", 255) + "/" + strings.Repeat("é", 127)),
		archive.Key(strings.Repeat("deep/", 200) + "end"),
		"case", "CASE", "Case",
	}
}

// possible are those of some keys that the store can have; those that it says it cannot have must be refused.
func (f fixture) possible(keys []archive.Key) []archive.Key {
	f.Helper()
	return slices.DeleteFunc(keys, func(key archive.Key) bool {
		if f.Properties().Takes(key) != nil {
			f.wantError("create", f.Create(f.Context(), key, strings.NewReader("x")), store.ErrUnsupported, key)
			return true
		}
		return f.opts.Odd != nil && f.opts.Odd(key)
	})
}

// apart are the keys without those that, or whose folders, are one with others before them where names are folded.
func (f fixture) apart(keys []archive.Key) []archive.Key {
	if !f.Properties().FoldsCase {
		return keys
	}
	spelled := map[string]archive.Key{}
	return slices.DeleteFunc(keys, func(key archive.Key) bool {
		for name := key; name != ""; name = name.Dir() {
			if other, ok := spelled[naming.Fold(name)]; ok && other != name {
				return true
			}
		}
		for name := key; name != ""; name = name.Dir() {
			spelled[naming.Fold(name)] = name
		}
		return false
	})
}

// keys checks that odd keys survive everything.
func (s suite) keys(t *testing.T) {
	s.run(t, "Odd", func(f fixture) {
		keys := f.apart(f.possible(oddKeys()))
		f.create(keys...)
		f.wantKeys(slices.Clone(keys)...)
		for _, key := range keys {
			f.wantContent(key, string(key))
		}
		for _, key := range keys {
			to := "moved/" + key
			if f.Properties().Takes(to) != nil {
				continue
			}
			if err := f.Rename(f.Context(), f.request(key, to)); err != nil {
				f.Error(err)
				continue
			}
			f.wantContent(to, string(key))
			_, err := f.Stat(f.Context(), key)
			f.wantError("stat of the old name", err, store.ErrNotExist, key)
		}
		if err := f.Sync(f.Context(), keys); err != nil {
			f.Error(err)
		}
	})
	s.run(t, "Invalid", func(f fixture) {
		f.create("a")
		want := f.identity("a")
		for _, key := range []archive.Key{"", "/", "/a", "a/", "../a", "a/../b", "./a", "a//b", "..", ".", "a\x00b"} {
			for op, err := range f.everyMethod(f.Context(), key, want) {
				if !errors.Is(err, archive.ErrKey) && !(s.opts.Archive && errors.Is(err, store.ErrUnsupported)) {
					f.Errorf("%s of %q: got %v, want %v", op, key, err, archive.ErrKey)
				}
			}
		}
		f.wantKeys("a")
	})
}

// everyMethod calls all methods that take a key.
func (f fixture) everyMethod(ctx context.Context, key archive.Key, want archive.Identity) map[string]error {
	_, statErr := f.Stat(ctx, key)
	c, openErr := f.Open(ctx, key, 0, -1, archive.Identity{})
	if openErr == nil {
		_ = c.Close()
	}
	from := store.RenameRequest{From: key, To: "b", Want: want, OpID: "op", AssumeSingleWriter: true}
	to := store.RenameRequest{From: "a", To: key, Want: want, OpID: "op", AssumeSingleWriter: true}
	copyFrom := store.CopyRequest{From: key, To: "b", Want: want, OpID: "op", AssumeSingleWriter: true}
	copyTo := store.CopyRequest{From: "a", To: key, Want: want, OpID: "op", AssumeSingleWriter: true}
	_, copiedErr := f.Copied(ctx, copyTo)
	_, folderErr := f.RemoveFolder(ctx, key)
	_, _, sumsErr := f.Checksums(ctx, key, archive.Identity{})
	return map[string]error{
		"stat":        statErr,
		"folder":      folderErr,
		"checksums":   sumsErr,
		"open":        openErr,
		"create":      f.Create(ctx, key, strings.NewReader("new")),
		"replace":     f.Replace(ctx, key, strings.NewReader("new")),
		"rename from": f.Rename(ctx, from),
		"rename to":   f.Rename(ctx, to),
		"copy from":   f.Copy(ctx, copyFrom),
		"copy to":     f.Copy(ctx, copyTo),
		"copied":      copiedErr,
		"sync":        f.Sync(ctx, []archive.Key{key}),
		"delete":      f.Delete(ctx, key, archive.Identity{}),
	}
}

// cancelled checks that nothing happens once the context is done.
func (s suite) cancelled(t *testing.T) {
	s.run(t, "Before", func(f fixture) {
		f.create("a")
		ctx, cancel := context.WithCancel(f.Context())
		cancel()
		for op, err := range f.everyMethod(ctx, "new", f.identity("a")) {
			if !errors.Is(err, context.Canceled) && !(s.opts.Archive && errors.Is(err, store.ErrUnsupported)) {
				f.Errorf("%s: got %v, want %v", op, err, context.Canceled)
			}
		}
		f.wantKeys("a")
	})
	s.run(t, "WhileCreating", func(f fixture) {
		ctx, cancel := context.WithCancel(f.Context())
		body := io.MultiReader(strings.NewReader("half"), readerFunc(func(p []byte) (int, error) {
			cancel()
			return copy(p, "more"), nil
		}))
		f.wantError("create", f.Create(ctx, "a", body), context.Canceled, "a")
		f.wantKeys()
	})
	s.run(t, "WhileListing", func(f fixture) {
		f.create("a", "b", "c")
		ctx, cancel := context.WithCancel(f.Context())
		defer cancel()
		var last error
		for e, err := range f.List(ctx, store.ListOptions{}) {
			if err == nil && e.Key != "a" {
				f.Errorf("%q is listed after the end", e.Key)
			}
			last = err
			cancel()
		}
		if !errors.Is(last, context.Canceled) {
			f.Errorf("the listing ended with %v, want %v", last, context.Canceled)
		}
	})
	s.run(t, "WhileReading", func(f fixture) {
		f.createContent("a", strings.Repeat("a", 1<<20))
		ctx, cancel := context.WithCancel(f.Context())
		c, err := f.Open(ctx, "a", 0, -1, archive.Identity{})
		if err != nil {
			f.Fatal(err)
		}
		defer c.Close()
		if _, err := io.CopyN(io.Discard, c, 10); err != nil {
			f.Error(err)
		}
		cancel()
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, context.Canceled) {
			f.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// patterned is content in which every place is told apart.
func patterned(n int) string {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strings.Repeat(string(rune('a'+i%26)), i%7+1))
	}
	return b.String()[:n]
}
