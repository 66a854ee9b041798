package s3store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// TestRanges divides listings at every place, and compares them with what was created.
func TestRanges(t *testing.T) {
	server := s3test.Versity(t)
	for _, v := range server.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	clients := NewClients(ClientOptions{})
	t.Cleanup(clients.Close)
	root, err := archive.ParseRoot("s3://" + server.Bucket(t) + "/in?endpoint=" + server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	s, err := clients.Open(t.Context(), root, Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	want := draw(t, s)
	for large := range len(want) + 2 {
		s.large = large + 1
		var got []archive.Key
		for e, err := range s.List(t.Context(), store.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Key)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("divided after %d names: got %q, want %q", s.large, got, want)
		}
	}
	s.large = 1
	for range s.List(t.Context(), store.ListOptions{}) {
		break // nothing is left running; the package checks for goroutines
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range s.List(ctx, store.ListOptions{}) {
		last = err
		cancel()
	}
	if last == nil {
		t.Error("a cancelled listing ended without an error")
	}
}

func draw(t *testing.T, s *Store) []archive.Key {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a test
	keys := map[archive.Key]bool{}
	for i := range 120 {
		key := archive.Key(fmt.Sprintf("%c/%c/%c%d", "abc. !é"[r.IntN(3)], "xyz"[r.IntN(3)], "-.0"[r.IntN(3)], i))
		if r.IntN(4) == 0 {
			key = archive.Key(fmt.Sprintf("%c%d", "abc"[r.IntN(3)], i))
		}
		keys[key] = true
		if err := s.Create(t.Context(), key, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	var out []archive.Key
	for key := range keys {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

func FuzzDivide(f *testing.F) {
	f.Add("a/b", "a/ b/ b/c/ d/", "b/cx")
	f.Add("", "a/", "a.\U0010ffffz")
	f.Fuzz(func(t *testing.T, after, folders, name string) {
		var cuts []string
		for f := range strings.FieldsSeq(folders) {
			if cut := strings.Trim(f, "/") + "/"; cut > after {
				cuts = append(cuts, cut)
			}
		}
		slices.Sort(cuts)
		cuts = slices.Compact(cuts)
		if name <= after {
			return
		}
		in := 0
		for _, r := range divide(after, cuts) {
			if name > r.after && name >= r.from && (r.to == "" || name < r.to) {
				in++
			}
		}
		if in != 1 {
			t.Errorf("%q after %q cut at %q lies in %d ranges", name, after, cuts, in)
		}
	})
}
