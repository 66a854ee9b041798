package renaming_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

func TestEmptyFolders(t *testing.T) {
	tests := map[string]struct {
		remove bool
		want   []string
	}{
		"kept":    {false, []string{"a", "a/b", "empty", "full", "full/stays", "n", "n/1", "n/2", "n/3", "other", "other/empty", "x"}},
		"removed": {true, []string{"empty", "full", "full/stays", "n", "n/1", "n/2", "n/3", "other", "other/empty"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range []string{"a/b", "x", "full", "empty", "other/empty"} {
				check(t, os.MkdirAll(filepath.Join(root, dir), 0o700))
			}
			check(t, os.WriteFile(filepath.Join(root, "full/stays"), nil, 0o600))
			st, err := filestore.Open(root, filestore.Options{})
			check(t, err)
			defer st.Close()
			w := &world{archive: &hooked{Store: st}, led: ledger.New(memstore.New(archive.Root{})), batch: batch.Batch{ID: idA, RemoveEmptyFolders: tt.remove}}
			for i, key := range []archive.Key{"a/b/c", "full/d", "x/e"} {
				check(t, st.Create(context.Background(), key, strings.NewReader(string(key))))
				o, err := st.Stat(context.Background(), key)
				check(t, err)
				to := archive.Key([]string{"n/1", "n/2", "n/3"}[i])
				w.rows = append(w.rows, batch.Row{N: int64(i), From: key, To: to, Want: o.Identity, OpID: string(to)})
			}
			w.seal(t)
			check(t, w.execute(claim{}))
			var got []string
			check(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
				if rel, _ := filepath.Rel(root, path); rel != "." {
					got = append(got, rel)
				}
				return err
			}))
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("files and folders (-want +got):\n%s", diff)
			}
		})
	}
}
