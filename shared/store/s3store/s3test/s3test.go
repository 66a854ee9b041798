// Package s3test runs real S3 servers as child processes of a test.
//
// The programs are built by .ci/s3/build from modules of their own and kept in the user's cache. `make s3-servers` builds
// them ahead, because the first time takes minutes. A program that cannot be built fails the test: a skipped S3 test would
// look like a passed one. Start servers before a test changes HOME or the working directory: both lead to the programs.
package s3test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/reshelf/reshelf/shared/childtest"
)

// Variant is a way to run a server.
type Variant string

// Variants; they may be combined.
const (
	Versioned Variant = "versioned" // buckets keep the versions of objects
	TLS       Variant = "tls"
)

// Server is an S3 server with one user. What it stores outlives Stop and goes with the test.
type Server struct {
	*childtest.Server

	Name      string // "versitygw", "versitygw-versioned-tls"
	AccessKey string // random, as is the secret: no other server takes them
	SecretKey string
	Region    string
	CAFile    string // PEM of the authority that signed the server's certificate; empty without TLS

	variants []Variant
	dir      string
	cert     certificate
	client   *minio.Client
}

// Versity starts a Versity Gateway, which stores in a folder.
func Versity(t testing.TB, variants ...Variant) *Server {
	t.Helper()
	return run(t, "versitygw", variants, func(s *Server, addr string) (args, env []string) {
		args = []string{"--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region, "--port", addr, "--quiet", "--keep-alive"}
		if s.has(TLS) {
			args = append(args, "--cert", s.cert.cert, "--key", s.cert.key)
		}
		args = append(args, "posix")
		if s.has(Versioned) {
			args = append(args, "--versioning-dir", s.folder("versions"))
		}
		return append(args, s.folder("objects")), nil
	})
}

// Rclone starts `rclone serve s3` on a folder. It is fast and has no versions, and Stop loses what it knows of an object
// beside the content: type, metadata, tags.
func Rclone(t testing.TB) *Server {
	t.Helper()
	return run(t, "rclone", nil, func(s *Server, addr string) (args, env []string) {
		return []string{"--config", os.DevNull, "serve", "s3", "--auth-key", s.AccessKey + "," + s.SecretKey, "--addr", addr, s.folder("objects")}, nil
	})
}

// minioEnv asks for tests with MinIO.
const minioEnv = "RESHELF_COMPAT_MINIO"

// WithMinIO tells whether tests are to run with MinIO, too. They are not by default: it is the last release of a server
// that nobody keeps any more, and building it takes longer than all else.
func WithMinIO() bool { return os.Getenv(minioEnv) == "1" }

// MinIO starts a MinIO on a folder, for tests that are asked for WithMinIO.
func MinIO(t testing.TB, variants ...Variant) *Server {
	t.Helper()
	if !WithMinIO() {
		t.Fatalf("s3test: MinIO without %s=1: ask WithMinIO first", minioEnv)
	}
	return run(t, "minio", variants, func(s *Server, addr string) (args, env []string) {
		args = []string{"server", "--quiet", "--address", addr}
		if s.has(TLS) {
			args = append(args, "--certs-dir", s.cert.dir)
		}
		env = []string{
			"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey, "MINIO_REGION=" + s.Region, "MINIO_BROWSER=off",
		}
		return append(args, s.folder("objects")), env
	})
}

// run starts a server with what launch says for each start.
func run(t testing.TB, name string, variants []Variant, launch func(s *Server, addr string) (args, env []string)) *Server {
	t.Helper()
	path := program(t, name)
	s := &Server{Name: name, AccessKey: rand.Text()[:20], SecretKey: rand.Text(), Region: "us-east-1", variants: variants, dir: t.TempDir()}
	for _, v := range variants {
		s.Name += "-" + string(v)
	}
	for _, folder := range []string{"objects", "versions"} {
		if err := os.Mkdir(s.folder(folder), 0o700); err != nil {
			t.Fatalf("s3test: %v", err)
		}
	}
	if s.has(TLS) {
		var err error
		if s.cert, err = makeCertificate(s.dir); err != nil {
			t.Fatalf("s3test: certificate: %v", err)
		}
		s.CAFile = s.cert.authority
	}
	s.Server = childtest.Run(t, childtest.Program{
		Name: s.Name,
		Command: func(port int) (*exec.Cmd, error) {
			args, env := launch(s, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			cmd := exec.Command(path, args...)
			// Nothing else of the test's environment: it may hold settings for such a server.
			cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+s.dir, "TMPDIR="+s.dir)
			return cmd, nil
		},
		Ready: func(ctx context.Context, addr string) bool {
			if s.client == nil || s.client.EndpointURL().Host != addr {
				s.client = s.newClient(t, addr)
			}
			_, err := s.client.ListBuckets(ctx)
			return err == nil
		},
	})
	return s
}

func (s *Server) has(v Variant) bool { return slices.Contains(s.variants, v) }

func (s *Server) folder(name string) string { return filepath.Join(s.dir, name) }

// newClient makes a client that closes its connections when the test ends.
func (s *Server) newClient(t testing.TB, addr string) *minio.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	if s.has(TLS) {
		transport.TLSClientConfig = &tls.Config{RootCAs: s.cert.pool, MinVersion: tls.VersionTLS12}
	}
	client, err := minio.New(addr, &minio.Options{
		Creds:        credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""),
		Secure:       s.has(TLS),
		Transport:    transport,
		Region:       s.Region,
		BucketLookup: minio.BucketLookupPath,
		MaxRetries:   1,
	})
	if err != nil {
		t.Fatalf("s3test: client: %v", err)
	}
	return client
}

// Endpoint is the server's URL, "http://127.0.0.1:23456". It stays the same after a new start.
func (s *Server) Endpoint() string {
	if s.has(TLS) {
		return "https://" + s.Addr()
	}
	return "http://" + s.Addr()
}

// Client is a client that never repeats a request and lives as long as the test. It is always the same one.
func (s *Server) Client() *minio.Client { return s.client }

// Bucket makes an empty bucket and returns its name. It keeps versions if the server is Versioned.
func (s *Server) Bucket(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text())
	ctx := context.Background() // so that cleanups may make buckets, too
	if err := s.client.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: s.Region}); err != nil {
		t.Fatalf("s3test: make bucket: %v", err)
	}
	if s.has(Versioned) {
		if err := s.client.EnableVersioning(ctx, name); err != nil {
			t.Fatalf("s3test: enable versioning: %v", err)
		}
	}
	return name
}

// Told is what the server tells of the objects of a bucket beside their contents, old versions included: names, version ids and
// headers, for tests that look for what must not be there.
func (s *Server) Told(t testing.TB, bucket string) string {
	t.Helper()
	var told strings.Builder
	ctx := context.Background()
	for o := range s.client.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: s.has(Versioned)}) {
		if o.Err != nil {
			t.Fatalf("s3test: list %s: %v", bucket, o.Err)
		}
		if o.IsDeleteMarker {
			continue
		}
		info, err := s.client.StatObject(ctx, bucket, o.Key, minio.StatObjectOptions{VersionID: o.VersionID})
		if err != nil {
			t.Fatalf("s3test: stat %s: %v", o.Key, err)
		}
		fmt.Fprintln(&told, o.Key, o.VersionID, info.Metadata)
	}
	return told.String()
}

// Env are the variables that tell programs where the server is and who they are, for appending to os.Environ().
func (s *Server) Env() []string {
	env := []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"AWS_SESSION_TOKEN=",
		"AWS_REGION=" + s.Region,
		"AWS_ENDPOINT_URL_S3=" + s.Endpoint(),
	}
	if s.CAFile != "" {
		env = append(env, "AWS_CA_BUNDLE="+s.CAFile)
	}
	return env
}

// program is the path of a server's program, built if need be.
func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("s3test: %v", err)
	}
	for {
		build := filepath.Join(dir, ".ci", "s3", "build")
		if _, err := os.Stat(build); err == nil {
			return runBuild(t, build, name)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("s3test: the working directory is outside of the repository")
		}
		dir = parent
	}
}

func runBuild(t testing.TB, build, name string) string {
	t.Helper()
	var messages strings.Builder
	cmd := exec.Command(build, name)
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("s3test: build %s: %v\n%s", name, err, messages.String())
	}
	return strings.TrimSpace(string(out))
}
