package s3test_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// orphanEnv makes the test program one that starts a server, says where, and never cleans up.
const orphanEnv = "RESHELF_S3TEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) == "" {
		goleak.VerifyTestMain(m)
	}
	os.Exit(m.Run())
}

func TestServers(t *testing.T) {
	type start func(testing.TB) *s3test.Server
	versity := func(variants ...s3test.Variant) start {
		return func(t testing.TB) *s3test.Server { return s3test.Versity(t, variants...) }
	}
	minIO := func(variants ...s3test.Variant) start {
		return func(t testing.TB) *s3test.Server { return s3test.MinIO(t, variants...) }
	}
	servers := map[string]start{
		"versitygw":               versity(),
		"versitygw-versioned":     versity(s3test.Versioned),
		"versitygw-tls":           versity(s3test.TLS),
		"versitygw-versioned-tls": versity(s3test.Versioned, s3test.TLS),
		"rclone":                  s3test.Rclone,
	}
	if s3test.WithMinIO() {
		servers["minio"] = minIO()
		servers["minio-versioned-tls"] = minIO(s3test.Versioned, s3test.TLS)
	}
	for name, start := range servers {
		var addr string
		t.Run(name, func(t *testing.T) {
			s := start(t)
			addr = s.Addr()
			if s.Name != name {
				t.Errorf("got name %s, want %s", s.Name, name)
			}
			testServer(t, s)
		})
		if answers(addr) {
			t.Errorf("%s outlived its test", name)
		}
	}
}

func testServer(t *testing.T, s *s3test.Server) {
	bucket, other := s.Bucket(t), s.Bucket(t)
	put(t, s, bucket, "a/b.txt", "old")
	put(t, s, bucket, "a/b.txt", "new")

	versions := 1
	if strings.Contains(s.Name, "versioned") {
		versions = 2
	}
	check := func() {
		t.Helper()
		if got := get(t, s, bucket, "a/b.txt"); got != "new" {
			t.Errorf("got %q, want %q", got, "new")
		}
		if got := list(t, s, bucket, true); len(got) != versions {
			t.Errorf("got versions %q, want %d", got, versions)
		}
		if diff := cmp.Diff([]string{"a/b.txt"}, list(t, s, bucket, false)); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
		if got := list(t, s, other, true); len(got) != 0 {
			t.Errorf("another bucket holds %q", got)
		}
	}
	check()

	endpoint := s.Endpoint()
	s.Stop()
	s.Stop()
	if answers(s.Addr()) {
		t.Error("a stopped server answered")
	}
	s.Start()
	if s.Endpoint() != endpoint {
		t.Errorf("after a new start: got endpoint %s, want %s", s.Endpoint(), endpoint)
	}
	check()

	secure := strings.HasPrefix(endpoint, "https://")
	if want := strings.HasSuffix(s.Name, "tls"); secure != want || (s.CAFile != "") != want {
		t.Errorf("got endpoint %s, authority %q; TLS: %t", endpoint, s.CAFile, want)
	}
	if secure {
		if _, err := http.Get(endpoint); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("a client that does not know the authority: got %v", err)
		}
	}
}

// TestForeignKeys: a server takes only its own keys, so no test can mistake another server for its own.
func TestForeignKeys(t *testing.T) {
	s, other := s3test.Versity(t), s3test.Versity(t)
	if s.AccessKey == other.AccessKey || s.SecretKey == other.SecretKey {
		t.Error("two servers have the same keys")
	}
	stranger, err := minio.New(s.Addr(), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, other.SecretKey, ""), Region: s.Region, MaxRetries: 1, Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.ListBuckets(t.Context()); minio.ToErrorResponse(err).Code != "SignatureDoesNotMatch" {
		t.Errorf("the secret of another server: got %v, want SignatureDoesNotMatch", err)
	}
}

func TestEnv(t *testing.T) {
	s := s3test.Versity(t, s3test.TLS)
	want := []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_SESSION_TOKEN=", "AWS_REGION=us-east-1",
		"AWS_ENDPOINT_URL_S3=https://" + s.Addr(), "AWS_CA_BUNDLE=" + s.CAFile,
	}
	if diff := cmp.Diff(want, s.Env()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestServerDiesWithTest: a test that is killed leaves no server behind.
func TestServerDiesWithTest(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		fmt.Println(s3test.Versity(t).Addr())
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerDiesWithTest$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), orphanEnv+"=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	addr := lines.Text()
	if !answers(addr) {
		t.Errorf("no server on %q", addr)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); answers(addr); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server outlived its test")
		}
	}
}

func answers(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func put(t *testing.T, s *s3test.Server, bucket, key, content string) {
	t.Helper()
	_, err := s.Client().PutObject(t.Context(), bucket, key, strings.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func get(t *testing.T, s *s3test.Server, bucket, key string) string {
	t.Helper()
	o, err := s.Client().GetObject(t.Context(), bucket, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	defer o.Close()
	var content bytes.Buffer
	if _, err := io.Copy(&content, o); err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return content.String()
}

func list(t *testing.T, s *s3test.Server, bucket string, versions bool) []string {
	t.Helper()
	var keys []string
	for o := range s.Client().ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: versions}) {
		if o.Err != nil {
			t.Fatalf("list %s: %v", bucket, o.Err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}
