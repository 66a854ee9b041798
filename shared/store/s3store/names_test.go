package s3store_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// listing is what a store lists, as "key kind class".
func listing(t *testing.T, st store.Store, o store.ListOptions) []string {
	t.Helper()
	var got []string
	var last archive.Key
	for e, err := range st.List(t.Context(), o) {
		must(t, err)
		if last != "" && e.Key <= last {
			t.Errorf("%q is listed after %q", e.Key, last)
		}
		last = e.Key
		got = append(got, strings.TrimSpace(strings.TrimSpace(string(e.Key)+" "+string(e.Kind))+" "+e.Class))
	}
	return got
}

// Names that a server spoils are told, in order, and take no others with them.
func TestGarbledNames(t *testing.T) {
	t.Parallel()
	at := newPlace(t, s3test.Versity(t), "p")
	st := at.open(t, s3store.Options{})
	for _, key := range []archive.Key{"a", "b\x01c", "b\x02c", "bz", "b\U0001F4F7", "c/\x1b", "c/a", "\x03first", "d/\uFFFD", "z"} {
		at.put(t, key, "x", plain)
	}
	want := []string{"a", "bz", "b\uFFFDc unaddressable", "b\U0001F4F7", "c/a", "c/\uFFFD unaddressable", "d/\uFFFD", "z", "\uFFFDfirst unaddressable"}
	if diff := cmp.Diff(want, listing(t, st, store.ListOptions{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, s := range want { // a spoilt name is found only from before its true place on
		key, _, _ := strings.Cut(s, " ")
		got := slices.DeleteFunc(listing(t, st, store.ListOptions{After: archive.Key(key)}), spoilt)
		if rest := slices.DeleteFunc(slices.Clone(want[i+1:]), spoilt); !slices.Equal(got, rest) {
			t.Errorf("after %q: got %q, want %q", key, got, rest)
		}
	}
}

func spoilt(s string) bool { return strings.HasSuffix(s, " unaddressable") }

// The last name of a page tells where the next one begins. A spoilt one tells the wrong place, after names that come later.
func TestGarbledPage(t *testing.T) {
	t.Parallel()
	at := newPlace(t, s3test.Versity(t), "p")
	keys, want := []archive.Key{"+"}, []string{"+"} // so that the thousandth name is a spoilt one
	for i := range 700 {
		plain, odd := archive.Key(fmt.Sprintf("%04db", i)), archive.Key(fmt.Sprintf("%04da", i))
		if i >= 480 && i < 520 {
			odd = archive.Key(fmt.Sprintf("%04d\x01", i))
			want = append(want, string(plain), fmt.Sprintf("%04d\uFFFD unaddressable", i))
		} else {
			want = append(want, string(odd), string(plain))
		}
		keys = append(keys, odd, plain)
	}
	at.fill(t, keys)
	if diff := cmp.Diff(want, listing(t, at.open(t, s3store.Options{}), store.ListOptions{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// fakeListing is a server that lists what it is told, and knows nothing else.
func fakeListing(t *testing.T, contents string) *s3store.Store {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("list-type") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>`+contents+`</ListBucketResult>`)
	}))
	t.Cleanup(s.Close)
	addProfile(t, "fake", "access", "secret")
	root, err := archive.ParseRoot("s3://bucket?endpoint=" + s.URL + "&profile=fake")
	must(t, err)
	st, err := newClients(t).Open(t.Context(), root, s3store.Options{})
	must(t, err)
	return st
}

func content(key string, size int, more string) string {
	return fmt.Sprintf(`<Contents><Key>%s</Key><Size>%d</Size><ETag>"e"</ETag><LastModified>2026-01-02T03:04:05.000Z</LastModified>%s</Contents>`, key, size, more)
}

// What other clients put into a bucket is told, though nothing can be done with it.
func TestUnaddressable(t *testing.T) {
	t.Parallel()
	st := fakeListing(t, content("/a", 1, "")+content("a", 1, "")+content("a/../b", 1, "")+content("a//b", 1, "")+content("a/b", 1, "")+
		content("dir/", 0, "")+content("dir2/", 1, ""))
	want := []string{"/a unaddressable", "a", "a/../b unaddressable", "a//b unaddressable", "a/b", "dir2/ unaddressable"}
	if diff := cmp.Diff(want, listing(t, st, store.ListOptions{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What must be restored before it can be read is told.
func TestCold(t *testing.T) {
	t.Parallel()
	class := func(name, restore string) string { return "<StorageClass>" + name + "</StorageClass>" + restore }
	restored := `<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2036-01-02T03:04:05.000Z</RestoreExpiryDate></RestoreStatus>`
	restoring := `<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>`
	st := fakeListing(t, content("a", 1, class("GLACIER", ""))+content("b", 1, class("DEEP_ARCHIVE", restoring))+content("c", 1, class("GLACIER", restored))+
		content("d", 1, class("GLACIER_IR", ""))+content("e", 1, class("STANDARD", "")))
	want := []string{"a cold GLACIER", "b cold DEEP_ARCHIVE", "c", "d", "e"}
	if diff := cmp.Diff(want, listing(t, st, store.ListOptions{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A server that lists in another order would have objects lost.
func TestListOrder(t *testing.T) {
	t.Parallel()
	st := fakeListing(t, content("b", 1, "")+content("a", 1, ""))
	var err error
	for _, err = range st.List(t.Context(), store.ListOptions{}) {
		if err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "ascending order") {
		t.Errorf("got %v", err)
	}
}
