package renaming_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// A handle that went stale, on a share, says that something does not exist. An object that is there all the same is not recorded as missing.
func TestStaleHandle(t *testing.T) {
	for _, made := range []bool{false, true} {
		t.Run(fmt.Sprintf("made %t", made), func(t *testing.T) {
			w := folded(t, memstore.New(archive.Root{}), "a -> b")
			stale := func(op string, _ archive.Key) error {
				if op == "rename" {
					return fmt.Errorf("rename a to b: %w", store.ErrNotExist)
				}
				return nil
			}
			want := "failed: io"
			if w.archive.before = stale; made {
				w.archive.before, w.archive.after, want = nil, stale, "b"
			}
			check(t, w.execute(claim{}))
			w.alive()
			if diff := cmp.Diff(map[archive.Key]string{"a": want}, w.outcomes(t)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			w.checkWorld(t, nil)
		})
	}
}
