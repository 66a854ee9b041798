package inspecting_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

// A folder of real files has the same records in a bucket, read in parts, as on a disk: at level normal, and with
// RESHELF_LARGE=1 at level extended, too.
func TestCorpusInBucket(t *testing.T) {
	root := os.Getenv("RESHELF_CORPUS")
	if root == "" {
		t.Skip("RESHELF_CORPUS is not set")
	}
	remote := openBucket(t, root)
	levels := []batch.Level{batch.LevelNormal}
	if os.Getenv("RESHELF_LARGE") == "1" {
		levels = append(levels, batch.LevelExtended)
	}
	for _, level := range levels {
		t.Run(string(level), func(t *testing.T) {
			// Each has ExifTools of its own: they name some tags otherwise when they meet them again.
			disk, parts := newFixture(t, inspecting.Options{}), newFixture(t, inspecting.Options{})
			disk.dir, disk.store = root, openFolder(t, root)
			parts.store = remote
			parts.inspector.AlwaysInParts()
			disk.batch, parts.batch = batch.Batch{Level: level}, batch.Batch{Level: level}
			costs := make(costTable)
			for e, err := range disk.store.List(t.Context(), store.ListOptions{}) {
				must(t, err)
				want := disk.inspect(t, batch.Listed{Object: e.Object})
				remote.reads, remote.bytes = nil, 0
				got := parts.inspect(t, parts.listed(t, e.Key))
				costs.add(tagText(got, "File:FileType"), e.Size, remote.bytes, len(remote.reads))
				if want.Reason == batch.ReasonCrashed {
					t.Logf("%s: %s; in the bucket: %s", e.Key, want.Message, got.Message)
					continue // what ExifTool must hold of it depends on how it is read
				}
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(batch.Record{}, "Object")); diff != "" {
					t.Errorf("%s: -disk +bucket:\n%s", e.Key, diff)
				}
			}
			t.Logf("read in parts:\n%s", costs)
		})
	}
}

func openFolder(t *testing.T, dir string) store.Store {
	t.Helper()
	st, err := filestore.Open(dir, filestore.Options{})
	must(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// openBucket is a bucket of a real server with all files of root.
func openBucket(t *testing.T, root string) *bucket {
	t.Helper()
	server := s3test.Versity(t)
	name := server.Bucket(t)
	t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	at, err := archive.ParseRoot("s3://" + name + "?endpoint=" + server.Endpoint() + "&region=" + server.Region)
	must(t, err)
	clients := s3store.NewClients(s3store.ClientOptions{})
	t.Cleanup(clients.Close)
	st, err := clients.Open(t.Context(), at, s3store.Options{})
	must(t, err)
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return putFile(t, st, root, path)
	}))
	return &bucket{Store: st}
}

func putFile(t *testing.T, st store.Store, root, path string) error {
	t.Helper()
	key, err := filepath.Rel(root, path)
	must(t, err)
	file, err := os.Open(path)
	must(t, err)
	defer func() { _ = file.Close() }()
	return st.Create(t.Context(), archive.Key(key), file)
}

// costTable is what reading cost, by type of file.
type costTable map[string]*cost

type cost struct {
	files, requests int
	size, fetched   int64
}

func (c costTable) add(kind string, size, fetched int64, requests int) {
	for _, k := range []string{kind, "all"} {
		if c[k] == nil {
			c[k] = &cost{}
		}
		c[k].files++
		c[k].size += size
		c[k].fetched += fetched
		c[k].requests += requests
	}
}

func (c costTable) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "type\tfiles\tMB\tfetched\tGETs per file\t")
	kinds := make([]string, 0, len(c))
	for kind := range c {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, func(a, b string) int { return c[b].files - c[a].files })
	for _, kind := range kinds {
		one := c[kind]
		_, _ = fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f %%\t%.2f\t\n", kind, one.files, float64(one.size)/1e6,
			100*float64(one.fetched)/float64(max(one.size, 1)), float64(one.requests)/float64(one.files))
	}
	_ = w.Flush()
	return b.String()
}
