package s3store_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// TestCapabilities: what servers were seen to do. A newer server may do more: say so here, and run `make stores`, which makes
// a table of docs/stores.md of the attributes of these tests.
func TestCapabilities(t *testing.T) {
	versity := s3store.Capabilities{
		ConditionalPut: true, ConditionalComplete: true, ConditionalDelete: true, GuardsSource: true, Nested: "refused",
		Tags: true, CountsTags: true, Checksums: true,
	}
	versioned := versity
	versioned.Versioned, versioned.Versioning, versioned.MarkersBlock = true, "Enabled", true
	rclone := versity
	rclone.FoldsCase = true // it takes both Unicode forms of a letter for one name, and tells upper and lower case apart
	minio := versity
	minio.ConditionalDelete, minio.Nested = false, "hidden"
	minioVersioned := minio
	minioVersioned.Versioned, minioVersioned.Versioning = true, "Enabled"

	for _, server := range []struct {
		name  string
		start func(t testing.TB) *s3test.Server
		want  s3store.Capabilities
		asked bool // only where MinIO was asked for
	}{
		{name: "Versity", start: func(t testing.TB) *s3test.Server { return s3test.Versity(t) }, want: versity},
		{name: "VersityVersioned", start: func(t testing.TB) *s3test.Server { return s3test.Versity(t, s3test.Versioned) }, want: versioned},
		{name: "Rclone", start: s3test.Rclone, want: rclone},
		{name: "MinIO", start: func(t testing.TB) *s3test.Server { return s3test.MinIO(t) }, want: minio, asked: true},
		{name: "MinIOVersioned", start: func(t testing.TB) *s3test.Server { return s3test.MinIO(t, s3test.Versioned) }, want: minioVersioned, asked: true},
	} {
		if server.asked && !s3test.WithMinIO() {
			continue
		}
		t.Run(server.name, func(t *testing.T) {
			got := probed(t, server.start(t))
			got.V, got.Probed, got.Endpoint, got.Bucket = 0, time.Time{}, "", ""
			if diff := cmp.Diff(server.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// probed is what a server was seen to do with a fresh bucket. It is an attribute of the test, too.
func probed(t *testing.T, server *s3test.Server) s3store.Capabilities {
	t.Helper()
	s := newPlace(t, server, "x").open(t, s3store.Options{Renames: true})
	seen := struct {
		Renames string `json:"renames"`
		s3store.Capabilities
	}{"refused", s.Capabilities()}
	if p := s.Properties(); p.GuardedRename {
		seen.Renames = p.RenameMethod
	}
	text, err := json.Marshal(seen)
	if err != nil {
		t.Fatal(err)
	}
	t.Attr("capabilities", string(text))
	return seen.Capabilities
}
