package s3store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// What is found out is what the servers do (see docs/stores.md), and nothing of it is left.
func TestProbe(t *testing.T) {
	gateway := s3store.Capabilities{
		V: 2, ConditionalPut: true, ConditionalComplete: true, ConditionalDelete: true, GuardsSource: true, Nested: "refused", Tags: true, CountsTags: true, Checksums: true,
	}
	want := map[string]s3store.Capabilities{"Versity": gateway, "VersityTLS": gateway}
	versioned := gateway
	versioned.Versioned, versioned.Versioning, versioned.MarkersBlock = true, "Enabled", true
	want["VersityVersioned"] = versioned
	want["Rclone"] = s3store.Capabilities{
		V: 2, ConditionalPut: true, ConditionalComplete: true, ConditionalDelete: true, GuardsSource: true, Nested: "refused", FoldsCase: true, Tags: true, CountsTags: true, Checksums: true,
	}
	plainMinIO := s3store.Capabilities{V: 2, ConditionalPut: true, ConditionalComplete: true, GuardsSource: true, Nested: "hidden", Tags: true, CountsTags: true, Checksums: true}
	want["MinIO"] = plainMinIO
	versioned = plainMinIO
	versioned.Versioned, versioned.Versioning = true, "Enabled"
	want["MinIOVersioned"] = versioned
	for name, s := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newPlace(t, s.start(t), "p")
			at.put(t, "a", "x", plain)
			got := at.open(t, s3store.Options{Renames: true}).Capabilities()
			if got.Endpoint != at.endpoint || got.Bucket != at.bucket || time.Since(got.Probed) > time.Minute {
				t.Errorf("got %+v", got)
			}
			got.Endpoint, got.Bucket, got.Probed = "", "", time.Time{}
			if diff := cmp.Diff(want[name], got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			at.wantNothingLeft(t)
		})
	}
}

// wantNothingLeft checks that only "a" is there, with one version.
func (p place) wantNothingLeft(t *testing.T) {
	t.Helper()
	for _, versions := range []bool{true, false} {
		for info := range p.server.Client().ListObjects(t.Context(), p.bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: versions}) {
			if minio.ToErrorResponse(info.Err).Code == "NotImplemented" {
				break
			}
			must(t, info.Err)
			if info.Key != p.name("a") {
				t.Errorf("%q is left, version %s", info.Key, info.VersionID)
			}
		}
	}
	p.wantNoUploads(t)
}

// A probe behind a connection that fails finds the same, or nothing.
func TestProbeFaults(t *testing.T) {
	t.Parallel()
	running := s3test.Versity(t)
	for seed := range uint64(4) {
		at, _ := newPlace(t, running, "p").via(t, random(seed, 0.1, cutBefore, err500, slowDown, stall))
		at.put(t, "a", "x", plain)
		st, err := newClients(t).Open(t.Context(), at.root(t), s3store.Options{Renames: true})
		if err != nil {
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("seed %d: %v", seed, err)
			}
			continue
		}
		if c := st.Capabilities(); !c.ConditionalComplete || !c.ConditionalDelete || !c.GuardsSource || c.ConditionalCopy || c.FoldsCase || c.Nested != "refused" || !c.Tags {
			t.Errorf("seed %d: got %+v", seed, c)
		}
	}
}

// A server that says that it refused and did not, or does not heed a condition, is found out, and nothing is renamed on it.
func TestProbeLiars(t *testing.T) {
	t.Parallel()
	running := s3test.Versity(t)
	for name, test := range map[string]struct {
		op   string
		lie  fault
		safe bool // for a single writer
	}{
		"Complete":      {"complete", liar, true},
		"Complete412":   {"complete", liar412, true},
		"Delete":        {"DELETE", liar, true},
		"Delete412":     {"DELETE", liar412, false},
		"CompleteAgain": {"complete", embedded, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newPlace(t, running, "p")
			through, _ := at.via(t, func(c call) fault {
				if c.op != test.op || test.op == "DELETE" && c.Header.Get("If-Match") == "" {
					return pass
				}
				return test.lie
			})
			st, err := s3store.NewClients(s3store.ClientOptions{Patience: time.Second}).Open(t.Context(), through.root(t), s3store.Options{Renames: true})
			if test.lie == embedded {
				if !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				return
			}
			must(t, err)
			at.put(t, "a", "a", plain)
			at.put(t, "b", "b", plain)
			before := at.everything(t)
			if p := st.Properties(); p.GuardedRename || p.Remedy == "" {
				t.Errorf("it is taken for safe: %+v", st.Capabilities())
			}
			for to, want := range map[archive.Key]error{"c": store.ErrUnsupported, "b": store.ErrExist} {
				req := request(t, st, "a", to)
				if err := st.Rename(t.Context(), req); !errors.Is(err, want) {
					t.Errorf("rename to %s: got %v, want %v", to, err, want)
				}
			}
			at.wantOnly(t, before)
			if !test.safe {
				return
			}
			req := request(t, st, "a", "b")
			req.AssumeSingleWriter = true
			if err := st.Rename(t.Context(), req); !errors.Is(err, store.ErrExist) {
				t.Errorf("a single writer: got %v", err)
			}
			at.wantOnly(t, before)
			req = request(t, st, "a", "c")
			req.AssumeSingleWriter = true
			must(t, st.Rename(t.Context(), req))
			at.wantOnly(t, map[archive.Key]string{"c": "a", "b": "b"})
		})
	}
}

// A store that was not opened for renaming renames nothing, also for a single writer: it does not know how.
func TestNotOpenedForRenames(t *testing.T) {
	t.Parallel()
	at := newPlace(t, s3test.Versity(t), "p")
	st := at.open(t, s3store.Options{})
	at.put(t, "a", "a", plain)
	req := request(t, st, "a", "b")
	req.AssumeSingleWriter = true
	if err := st.Rename(t.Context(), req); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	at.wantOnly(t, map[archive.Key]string{"a": "a"})
}
