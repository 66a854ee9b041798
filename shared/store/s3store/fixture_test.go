package s3store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// plain is an object without anything beside its content.
var plain minio.PutObjectOptions

// profiles is the shared credentials file of all tests, with a profile for each server: tests run in parallel, so none may
// set the environment.
var profiles struct {
	sync.Mutex
	known map[string]bool
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "s3store")
	if err != nil {
		panic(err)
	}
	for _, name := range os.Environ() {
		if name, _, _ = strings.Cut(name, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	profiles.known = map[string]bool{}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // most of the time they wait
		panic(err)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// addProfile adds a profile to the shared credentials file.
func addProfile(t testing.TB, name, access, secret string) {
	t.Helper()
	profiles.Lock()
	defer profiles.Unlock()
	if profiles.known[name] {
		return
	}
	f, err := os.OpenFile(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	_, err = fmt.Fprintf(f, "[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", name, access, secret)
	must(t, err)
	must(t, f.Close())
	profiles.known[name] = true
}

// place is where a test's objects are: a bucket of a server, a prefix in it, and the endpoint that leads there.
type place struct {
	server   *s3test.Server
	bucket   string
	prefix   string
	endpoint string // the server's own, or that of a proxy before it
	profile  string // the server's own, or another
}

func newPlace(t testing.TB, s *s3test.Server, prefix string) place {
	t.Helper()
	addProfile(t, s.AccessKey, s.AccessKey, s.SecretKey)
	return place{server: s, bucket: s.Bucket(t), prefix: prefix, endpoint: s.Endpoint(), profile: s.AccessKey}
}

func (p place) root(t testing.TB) archive.Root {
	t.Helper()
	text := "s3://" + p.bucket + "/" + p.prefix + "?endpoint=" + p.endpoint + "&region=" + p.server.Region
	if p.profile != "" {
		text += "&profile=" + p.profile
	}
	if p.server.CAFile != "" {
		text += "&ca=" + p.server.CAFile
	}
	r, err := archive.ParseRoot(text)
	must(t, err)
	return r
}

// patience is that of the stores in tests.
const patience = 10 * time.Second

func newClients(t testing.TB) *s3store.Clients {
	t.Helper()
	c := s3store.NewClients(s3store.ClientOptions{Patience: patience})
	t.Cleanup(c.Close)
	return c
}

func (p place) open(t testing.TB, o s3store.Options) *s3store.Store {
	t.Helper()
	k, known := o.Probes.(*kept)
	if known { // what one bucket of the server can, all can
		k.once.Do(func() { k.can = p.open(t, s3store.Options{Renames: true}).Capabilities() })
		o.Renames, o.Probes = false, nil
	}
	st, err := newClients(t).Open(t.Context(), p.root(t), o)
	must(t, err)
	if known {
		st.SetCapabilities(k.can)
	}
	return st
}

// kept are probes in memory.
type kept struct {
	sync.Map
	once sync.Once
	can  s3store.Capabilities
}

func (k *kept) Load(_ context.Context, name string) ([]byte, error) {
	if text, ok := k.Map.Load(name); ok {
		return text.([]byte), nil
	}
	return nil, store.ErrNotExist
}

func (k *kept) Save(_ context.Context, name string, text []byte) error {
	k.Store(name, text)
	return nil
}

// via is the same place as it is seen through a proxy.
func (p place) via(t testing.TB, plan func(call) fault) (place, *proxy) {
	t.Helper()
	x := newProxy(t, p.server, plan)
	p.endpoint = x.url
	return p, x
}

// name is the name of a key in the bucket.
func (p place) name(key archive.Key) string { return strings.TrimPrefix(p.prefix+"/"+string(key), "/") }

// put writes an object past the store.
func (p place) put(t testing.TB, key archive.Key, content string, o minio.PutObjectOptions) {
	t.Helper()
	must(t, p.write(context.Background(), key, content, o))
}

func (p place) write(ctx context.Context, key archive.Key, content string, o minio.PutObjectOptions) error {
	o.DisableMultipart, o.DisableContentSha256 = true, true
	sum := sha256.Sum256([]byte(content))
	_, err := minio.Core{Client: p.server.Client()}.PutObject(ctx, p.bucket, p.name(key), strings.NewReader(content), int64(len(content)), "", hex.EncodeToString(sum[:]), o)
	return err
}

// fill writes many small objects.
func (p place) fill(t testing.TB, keys []archive.Key) {
	t.Helper()
	errs := make(chan error)
	const writers = 8
	for i := range writers {
		go func() {
			var err error
			for ; i < len(keys); i += writers {
				err = errors.Join(err, p.write(context.Background(), keys[i], "x", plain))
			}
			errs <- err
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// get reads an object past the store; ok is false if there is none.
func (p place) get(t testing.TB, key archive.Key) (content string, ok bool) {
	t.Helper()
	o, err := p.server.Client().GetObject(context.Background(), p.bucket, p.name(key), minio.GetObjectOptions{})
	must(t, err)
	defer o.Close()
	b, err := io.ReadAll(o)
	if code := minio.ToErrorResponse(err).Code; code == "NoSuchKey" {
		return "", false
	}
	must(t, err)
	return string(b), true
}

// everything is all that is in the place, by key, read past the store.
func (p place) everything(t testing.TB) map[archive.Key]string {
	t.Helper()
	all := map[archive.Key]string{}
	for info := range p.server.Client().ListObjects(context.Background(), p.bucket, minio.ListObjectsOptions{Recursive: true}) {
		must(t, info.Err)
		key := archive.Key(strings.TrimPrefix(strings.TrimPrefix(info.Key, p.prefix), "/"))
		content, ok := p.get(t, key)
		if !ok {
			t.Errorf("%q is listed and not there", info.Key)
		}
		all[key] = content
	}
	return all
}

// wantOnly checks what is in the place.
func (p place) wantOnly(t testing.TB, want map[archive.Key]string) {
	t.Helper()
	got := p.everything(t)
	for key, content := range want {
		if now, ok := got[key]; !ok {
			t.Errorf("%q is lost, with %.40q", key, content)
		} else if now != content {
			t.Errorf("%q holds %d bytes %.40q, want %d bytes %.40q", key, len(now), now, len(content), content)
		}
	}
	for key, content := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%q is there, with %.40q", key, content)
		}
	}
}

// uploads are the unfinished uploads in the bucket.
func (p place) uploads(t testing.TB) []string {
	t.Helper()
	var names []string
	core := minio.Core{Client: p.server.Client()}
	for key, id := "", ""; ; {
		page, err := core.ListMultipartUploads(context.Background(), p.bucket, "", key, id, "", 1000)
		if minio.ToErrorResponse(err).Code == "NotImplemented" || minio.ToErrorResponse(err).Code == "NoSuchUpload" {
			return nil
		}
		must(t, err)
		for _, u := range page.Uploads {
			names = append(names, u.Key)
		}
		if !page.IsTruncated {
			return names
		}
		key, id = page.NextKeyMarker, page.NextUploadIDMarker
	}
}

func (p place) wantNoUploads(t testing.TB) {
	t.Helper()
	if left := p.uploads(t); len(left) > 0 {
		t.Errorf("%d unfinished uploads are left: %q", len(left), left[:min(len(left), 5)])
	}
}

// request is a rename of the object at from as it is now.
func request(t testing.TB, st store.Store, from, to archive.Key) store.RenameRequest {
	t.Helper()
	obj, err := st.Stat(t.Context(), from)
	must(t, err)
	return store.RenameRequest{From: from, To: to, Want: obj.Identity, OpID: strings.ReplaceAll(fmt.Sprintf("op-%x-%x", from, to), "/", ".")}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patterned is content in which every place is told apart.
func patterned(n int) string {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%08x", i*2654435761)
	}
	return b.String()[:n]
}
