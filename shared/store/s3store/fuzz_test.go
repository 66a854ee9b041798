package s3store_test

import (
	"iter"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
)

func FuzzParseStores(f *testing.F) {
	f.Add("buckets: {photos: {endpoint: 'https://nas:9000', profile: nas}, '*': {region: eu-central-1}}")
	f.Add("buckets:\n  a: {secret: hunter2hunter2}")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := s3store.ParseStores([]byte(text))
		if err != nil {
			if long := strings.TrimSpace(text); len(long) > 40 && strings.Contains(err.Error(), long) {
				t.Errorf("the error repeats what it read: %v", err)
			}
			return
		}
		for _, b := range s.Buckets {
			for setting, value := range map[string]string{archive.SettingEndpoint: b.Endpoint, archive.SettingProfile: b.Profile, archive.SettingCA: b.CA} {
				if value != "" && archive.CheckSetting(setting, value) != nil {
					t.Errorf("%s %q was accepted", setting, value)
				}
			}
		}
	})
}

func FuzzSendable(f *testing.F) {
	for _, s := range []string{"", "a/b", "a\x00b", "half-\xc3", "a/..", "a/ . /b", "a/.hidden", "\xef\xbf\xbd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := s3store.Sendable(s)
		if !strings.HasPrefix(s, got) {
			t.Fatalf("%q is no start of %q", got, s)
		}
		if !utf8.ValidString(got) || strings.Contains(got, "\x00") {
			t.Errorf("%q cannot be sent", got)
		}
		if again := s3store.Sendable(got); again != got {
			t.Errorf("%q, then %q", got, again)
		}
		if utf8.ValidString(s) && !strings.ContainsAny(s, "\x00.") && got != s {
			t.Errorf("got %q of %q", got, s)
		}
	})
}

// FuzzPruned compares with asking for each folder of each key.
func FuzzPruned(f *testing.F) {
	f.Add("a/b/c a/b/d a-b/c a/bb/c x", "b")
	f.Add("a/b a/b/c/d a/c b/a/b/c", "a/b")
	f.Fuzz(func(t *testing.T, text, out string) {
		var keys []archive.Key
		for _, s := range strings.Fields(text) {
			if key, err := archive.ParseKey(s); err == nil {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		asked := map[archive.Key]bool{}
		inside := s3store.Inside(func(dir archive.Key, isDir bool) bool {
			if asked[dir] {
				t.Errorf("asked for %q twice", dir)
			}
			if asked[dir] = true; !isDir {
				t.Errorf("asked for %q as an object", dir)
			}
			return strings.HasSuffix(string(dir), out)
		})
		for _, key := range keys {
			want := false
			for dir := key.Dir(); dir != ""; dir = dir.Dir() {
				want = want || strings.HasSuffix(string(dir), out)
			}
			if got := inside(key); got != want {
				t.Errorf("%q: got %t, want %t", key, got, want)
			}
		}
	})
}

// FuzzGarbledNames lists true names in the server's order, some of them spoilt: all that are not are listed, the others once
// each as what they look like, and all in order.
func FuzzGarbledNames(f *testing.F) {
	f.Add("a b\x01c b\x02c bz b\uFFFDc z \x03x")
	f.Add("\x01 \x02 a \uFFFD")
	f.Fuzz(func(t *testing.T, text string) {
		names := slices.DeleteFunc(strings.Split(text, " "), func(s string) bool {
			_, err := archive.ParseKey(s)
			return err != nil || !utf8.ValidString(s)
		})
		slices.Sort(names)
		names = slices.Compact(names)
		spoil := func(name string) string {
			return strings.Map(func(r rune) rune {
				if r < ' ' {
					return utf8.RuneError
				}
				return r
			}, name)
		}
		seen := func(yield func(string) bool) {
			for _, name := range names {
				if !yield(spoil(name)) {
					return
				}
			}
		}
		there := func(name string) bool { return slices.Contains(names, name) }
		want := slices.Compact(slices.Sorted(iter.Seq[string](seen)))
		var got []string
		err := s3store.Merge(seen, there, func(e store.Entry) {
			if (e.Kind == store.Unaddressable) == there(string(e.Key)) {
				t.Errorf("%q is listed as %q", e.Key, e.Kind)
			}
			got = append(got, string(e.Key))
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
}
