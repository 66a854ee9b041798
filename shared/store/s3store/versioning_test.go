package s3store_test

import (
	"testing"

	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// In some buckets only versions guard a deletion. That they are not kept any more must be noticed at once, not when what was
// found out has become old.
func TestVersioningSwitched(t *testing.T) {
	t.Parallel()
	at, probes := newPlace(t, s3test.Versity(t, s3test.Versioned), "p"), &kept{}
	versioned := func() bool {
		t.Helper()
		s, err := newClients(t).Open(t.Context(), at.root(t), s3store.Options{Renames: true, Probes: probes})
		must(t, err)
		return s.Capabilities().Versioned
	}
	for range 2 { // the second from what the first found out
		if !versioned() {
			t.Fatal("the bucket keeps versions, and is not seen to")
		}
	}
	must(t, at.server.Client().SuspendVersioning(t.Context(), at.bucket))
	if versioned() {
		t.Error("versioning was suspended, and is still believed in")
	}
	must(t, at.server.Client().EnableVersioning(t.Context(), at.bucket))
	if !versioned() {
		t.Error("versioning was enabled, and is not believed in")
	}
}
