package storeurl_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
)

func TestOpenFile(t *testing.T) {
	for _, ledger := range []bool{false, true} {
		root, err := archive.FileRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s, err := storeurl.New("").Open(t.Context(), root, storeurl.Options{Ledger: ledger})
		if err != nil {
			t.Fatalf("ledger %t: %v", ledger, err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		if got := s.Properties().Root; got != root {
			t.Errorf("ledger %t: got root %s, want %s", ledger, got, root)
		}
		if err := s.Create(t.Context(), "a", strings.NewReader("a")); err != nil {
			t.Fatal(err)
		}
		err = s.Replace(t.Context(), "a", strings.NewReader("b"))
		if refused := errors.Is(err, store.ErrUnsupported); refused == ledger {
			t.Errorf("ledger %t: Replace gave %v", ledger, err)
		}
	}
}

func TestOpenLedgerMakesItsDirectory(t *testing.T) {
	root, err := archive.FileRoot(filepath.Join(t.TempDir(), "state", "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := storeurl.New("").Open(t.Context(), root, storeurl.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		root string
		want error
		says string
	}{
		"missing archive": {t.Context(), "file://" + filepath.Join(t.TempDir(), "no"), store.ErrUnavailable, "mounted"},
		"missing server":  {t.Context(), "s3://bucket/prefix?endpoint=http://127.0.0.1:1", store.ErrUnavailable, "127.0.0.1:1"},
		"zero root":       {t.Context(), "", store.ErrUnsupported, "no such kind"},
		"cancelled":       {cancelled, "file:///", context.Canceled, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var root archive.Root
			if err := root.UnmarshalText([]byte(test.root)); err != nil {
				t.Fatal(err)
			}
			s, err := storeurl.New("").Open(test.ctx, root, storeurl.Options{})
			if s != nil {
				t.Error("a store and an error")
			}
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.says)
			}
		})
	}
}
