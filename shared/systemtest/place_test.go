package systemtest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
	"github.com/reshelf/reshelf/shared/store/storeurl"
)

// place is where a fleet has its archive and its ledger: folders, or buckets of real servers.
type place struct {
	archive, ledger archive.Root
	stores          *storeurl.Opener
	files           int    // that are drawn where the size matters
	drawn           string // the folder in which the archive is drawn; the archive itself where that is a folder
	// server has the archive, and ledgers the ledger; nil where it is a folder.
	server, ledgers *s3test.Server
}

func local(t testing.TB) place { return newPlace(t, 2000, false, false) }

// newPlace makes a place. The bucket of an archive keeps versions, that of a ledger does not.
func newPlace(t testing.TB, files int, archiveInBucket, ledgerInBucket bool) place {
	t.Helper()
	p := place{stores: storeurl.New(""), files: files, drawn: filepath.Join(t.TempDir(), "archive")}
	t.Cleanup(p.stores.Close)
	if err := os.Mkdir(p.drawn, 0o755); err != nil {
		t.Fatal(err)
	}
	p.archive = root(t, "file://"+p.drawn)
	p.ledger = root(t, "file://"+filepath.Join(t.TempDir(), "ledger"))
	if archiveInBucket {
		p.server = s3test.Versity(t, s3test.Versioned)
		p.archive = bucket(t, p.server, "photos")
	}
	if ledgerInBucket {
		p.ledgers = s3test.Versity(t)
		p.ledger = bucket(t, p.ledgers, "of/reshelf")
	}
	return p
}

// bucket makes a bucket, and a profile of its server's credentials.
func bucket(t testing.TB, s *s3test.Server, prefix string) archive.Root {
	t.Helper()
	if err := addProfile(s, s.AccessKey); err != nil {
		t.Fatal(err)
	}
	return root(t, fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s&profile=%s", s.Bucket(t), prefix, s.Endpoint(), s.Region, s.AccessKey))
}

// setCredentials makes a file in dir the shared credentials file of this process and its children, and nothing else their
// credentials. It has a profile for each server: tests may run in parallel, so none of them sets it.
func setCredentials(dir string) error {
	for _, name := range os.Environ() {
		if name, _, _ = strings.Cut(name, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	return errors.Join(os.Setenv("AWS_EC2_METADATA_DISABLED", "true"), os.Setenv(credentialsFile, filepath.Join(dir, "credentials")))
}

const credentialsFile = "AWS_SHARED_CREDENTIALS_FILE"

// addProfile adds a server's credentials under a name, in one write: others may read meanwhile.
func addProfile(s *s3test.Server, name string) error {
	f, err := os.OpenFile(os.Getenv(credentialsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", name, s.AccessKey, s.SecretKey)
	return errors.Join(err, f.Close())
}

func root(t testing.TB, text string) archive.Root {
	t.Helper()
	r, err := archive.ParseRoot(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// withAll tells whether tests are to be as long as they can be.
func withAll() bool { return os.Getenv("RESHELF_SYSTEM") == "all" }

// everywhere runs a test in all places, or only in those where archive and ledger are of one kind unless withAll.
func everywhere(t *testing.T, test func(t *testing.T, at place)) {
	localAndS3(t, test)
	if withAll() {
		mixed(t, 300, test)
	}
}

func localAndS3(t *testing.T, test func(t *testing.T, at place)) {
	t.Run("Local", func(t *testing.T) { test(t, local(t)) })
	t.Run("S3", func(t *testing.T) { test(t, newPlace(t, 300, true, true)) })
}

// mixed runs a test where either the archive or the ledger is in a bucket.
func mixed(t *testing.T, files int, test func(t *testing.T, at place)) {
	t.Run("ArchiveInBucket", func(t *testing.T) { test(t, newPlace(t, files, true, false)) })
	t.Run("LedgerInBucket", func(t *testing.T) { test(t, newPlace(t, files, false, true)) })
}

// draw makes the archive, and returns the SHA-256 of each object.
func (f *fleet) draw(n int) map[string]string {
	f.t.Helper()
	_, err := draw(f.drawn, n)
	f.must(err)
	if f.server == nil {
		return f.sums()
	}
	st := f.openArchive()
	defer st.Close()
	drawn, err := sums(f.drawn)
	f.must(err)
	var g errgroup.Group
	g.SetLimit(16)
	for name := range drawn {
		if !utf8.ValidString(name) {
			f.must(os.Remove(filepath.Join(f.drawn, name))) // S3 cannot have it
			continue
		}
		g.Go(func() error {
			file, err := os.Open(filepath.Join(f.drawn, name))
			if err != nil {
				return err
			}
			defer file.Close()
			return st.Create(f.ctx(), archive.Key(name), file)
		})
	}
	f.must(g.Wait())
	return f.sums()
}

func (f *fleet) openArchive() store.Store {
	f.t.Helper()
	st, err := f.stores.Open(f.ctx(), f.archive, storeurl.Options{})
	f.must(err)
	return st
}

// sums maps every object of the archive to its SHA-256.
func (f *fleet) sums() map[string]string {
	f.t.Helper()
	if f.server == nil {
		out, err := sums(f.drawn)
		f.must(err)
		return out
	}
	return f.contents(f.archive, func(c *store.Content) (string, error) {
		h := sha256.New()
		_, err := io.Copy(h, c)
		return hex.EncodeToString(h.Sum(nil)), err
	})
}

// contents maps every object below a root to what read makes of it.
func (f *fleet) contents(root archive.Root, read func(c *store.Content) (string, error)) map[string]string {
	f.t.Helper()
	st, err := f.stores.Open(f.ctx(), root, storeurl.Options{})
	f.must(err)
	defer st.Close()
	out := map[string]string{}
	for e, err := range st.List(f.ctx(), store.ListOptions{}) {
		f.must(err)
		c, err := st.Open(f.ctx(), e.Key, 0, -1, archive.Identity{})
		f.must(err)
		text, err := read(c)
		f.must(err)
		f.must(c.Close())
		out[string(e.Key)] = text
	}
	return out
}

// identities are those of all objects of an archive in a bucket, without their dates: a Versity Gateway changes the date of a
// version that is brought back.
func (f *fleet) identities() map[archive.Key]archive.Identity {
	f.t.Helper()
	out := map[archive.Key]archive.Identity{}
	if f.server == nil {
		return out
	}
	st := f.openArchive()
	defer st.Close()
	for e, err := range st.List(f.ctx(), store.ListOptions{}) {
		f.must(err)
		o, err := st.Stat(f.ctx(), e.Key)
		f.must(err)
		if o.ETag == "" || o.Version == "" {
			f.t.Errorf("%s has the ETag %q and the version %q: nothing to compare", e.Key.Text(), o.ETag, o.Version)
		}
		o.MTime = 0
		out[e.Key] = o.Identity
	}
	return out
}

// checkVersions checks that an undo has brought back the very versions, with their ETags.
func (f *fleet) checkVersions(before map[archive.Key]archive.Identity) {
	f.t.Helper()
	if after := f.identities(); !maps.Equal(before, after) {
		f.t.Errorf("after the undo (-before +after):\n%s", tail(cmp.Diff(before, after), 2000))
	}
}
