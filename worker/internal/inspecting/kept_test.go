package inspecting_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

// keeping is a store that keeps digests of its objects. It counts what it is asked for.
type keeping struct {
	store.Store
	sums         []digest.Digest
	err          error
	asked, opens int
	recheck      error
}

func (k *keeping) Checksums(ctx context.Context, key archive.Key, want archive.Identity) ([]digest.Digest, archive.Object, error) {
	k.asked++
	if k.err != nil {
		return nil, archive.Object{}, k.err
	}
	_, o, err := k.Store.Checksums(ctx, key, want)
	return k.sums, o, err
}

func (k *keeping) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	k.opens++
	c, err := k.Store.Open(ctx, key, offset, length, want)
	if err == nil && k.recheck != nil {
		c.Recheck = func(context.Context) error { return k.recheck }
	}
	return c, err
}

func digestsOf(t *testing.T, names, content string) []digest.Digest {
	t.Helper()
	set, err := digest.ParseSet(names)
	must(t, err)
	h := digest.NewHasher(set)
	_, _ = io.WriteString(h, content)
	return h.Digests()
}

const content = "what was stored"

// newKeeping is a fixture over a store that keeps digests of one object.
func newKeeping(t *testing.T, sums []digest.Digest) (*fixture, *keeping) {
	t.Helper()
	f := newFixture(t, inspecting.Options{Scratch: t.TempDir()})
	f.useMemory(t, "a", content)
	k := &keeping{Store: f.store, sums: sums}
	f.store = k
	f.batch = batch.Batch{Digests: digest.DefaultSet(), Level: batch.LevelNone, TrustStoreChecksums: true}
	return f, k
}

func TestTrustStoreChecksums(t *testing.T) {
	both := digestsOf(t, "crc32,sha256", content)
	trusted := []digest.Algorithm{digest.CRC32, digest.SHA256}
	tests := []struct {
		name    string
		kept    string // by the store
		change  func(*batch.Batch)
		opens   int
		asked   int
		trusted []digest.Algorithm
	}{
		{"all are kept", "sha256,crc32,crc64nvme", nil, 0, 1, trusted},
		{"one is missing", "crc32,crc64nvme", nil, 1, 1, nil},
		{"none is kept", "", nil, 1, 1, nil},
		{"tags are wanted", "sha256,crc32", func(b *batch.Batch) { b.Level = batch.LevelFast }, 1, 1, nil},
		{"not trusted", "sha256,crc32", func(b *batch.Batch) { b.TrustStoreChecksums = false }, 1, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, k := newKeeping(t, digestsOf(t, tt.kept, content))
			if tt.change != nil {
				tt.change(&f.batch)
			}
			r := f.inspect(t, f.listed(t, "a"))
			if r.Outcome != batch.Done || r.Key != "a" || r.Size != int64(len(content)) {
				t.Errorf("got %+v, want it done", r)
			}
			if !slices.Equal(r.Digests, both) {
				t.Errorf("digests: got %v, want %v", r.Digests, both)
			}
			if diff := cmp.Diff(tt.trusted, r.FromStore); diff != "" {
				t.Errorf("from the store (-want +got):\n%s", diff)
			}
			if k.opens != tt.opens || k.asked != tt.asked {
				t.Errorf("opened %d times and asked %d times, want %d and %d", k.opens, k.asked, tt.opens, tt.asked)
			}
			if got, want := f.moved, int64(tt.opens*len(content)); got != want {
				t.Errorf("progress: got %d bytes, want %d", got, want)
			}
		})
	}
	t.Run("no digests are asked for", func(t *testing.T) {
		f, k := newKeeping(t, both)
		f.batch.Digests = 0
		if r := f.inspect(t, f.listed(t, "a")); r.Digests != nil || r.FromStore != nil || k.asked != 0 {
			t.Errorf("got %+v and asked %d times", r, k.asked)
		}
	})
}

// The store's digest of an algorithm that nobody asked for is compared too: S3 keeps one of every object.
func TestMismatchIsAFailure(t *testing.T) {
	for _, level := range []batch.Level{batch.LevelNone, batch.LevelFast} {
		t.Run(string(level), func(t *testing.T) {
			f, k := newKeeping(t, digestsOf(t, "crc64nvme", "what was sent in"))
			f.batch.Level = level
			r := f.inspect(t, f.listed(t, "a"))
			if r.Outcome != batch.Failed || r.Reason != batch.ReasonMismatch || r.Digests != nil || r.Tags != nil || r.FromStore != nil {
				t.Errorf("got %+v, want failed, %s, and nothing that was read", r, batch.ReasonMismatch)
			}
			for _, d := range append(digestsOf(t, "crc64nvme", content), k.sums...) {
				if !strings.Contains(r.Message, d.String()) {
					t.Errorf("message: got %q, want it to name %s", r.Message, d)
				}
			}
			k.recheck = store.ErrChanged
			if r := f.inspect(t, f.listed(t, "a")); r.Reason != batch.ReasonChanged {
				t.Errorf("changed while it was read: got %+v, want %s", r, batch.ReasonChanged)
			}
		})
	}
}

func TestChecksumsErrors(t *testing.T) {
	f, k := newKeeping(t, nil)
	o := f.listed(t, "a")
	for err, want := range map[error]batch.Reason{
		store.ErrNotExist: batch.ReasonMissing, store.ErrChanged: batch.ReasonChanged, store.ErrPermission: batch.ReasonUnreadable,
	} {
		k.err = fmt.Errorf("checksums of a: %w", err)
		if r := f.inspect(t, o); r.Outcome != batch.Failed || r.Reason != want {
			t.Errorf("%v: got %+v, want failed, %s", err, r, want)
		}
	}
	k.err = store.ErrUnavailable
	if r, err := f.inspector.Inspect(t.Context(), k, f.batch, o, func(int64) {}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %+v, %v; want ErrUnavailable", r, err)
	}
	if k.opens != 0 {
		t.Errorf("opened %d times, want 0", k.opens)
	}
}

// The class of an object can change after it was listed.
func TestColdSinceItWasListed(t *testing.T) {
	f := newFixture(t, inspecting.Options{})
	o := f.write(t, "a", content)
	f.store = hooked{Store: f.store, err: fmt.Errorf("open a: %w: restore it first", store.ErrCold)}
	r := f.inspect(t, o)
	if r.Outcome != batch.Skipped || r.Reason != batch.ReasonCold || !strings.Contains(r.Message, "restore") || r.Digests != nil {
		t.Errorf("got %+v, want skipped, %s, with what to do", r, batch.ReasonCold)
	}
}
