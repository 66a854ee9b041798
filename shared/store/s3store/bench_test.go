package s3store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// Each benchmark does the same with Reshelf and with a bare loop of minio-go calls, in turn and on the same server, and
// reports both rates with their ratio. Run them with -benchtime 1x.

const benched = 400 // objects of each side

func benchStore(b *testing.B) *Store {
	b.Helper()
	server := s3test.Versity(b)
	for _, v := range server.Env() {
		name, value, _ := strings.Cut(v, "=")
		b.Setenv(name, value)
	}
	clients := NewClients(ClientOptions{})
	b.Cleanup(clients.Close)
	root, err := archive.ParseRoot("s3://" + server.Bucket(b) + "?endpoint=" + server.Endpoint())
	if err != nil {
		b.Fatal(err)
	}
	s, err := clients.Open(b.Context(), root, Options{Ledger: true, Renames: true})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// create makes objects of size bytes.
func (s *Store) create16(b *testing.B, n, size int, name func(i int) archive.Key) []archive.Object {
	b.Helper()
	out := make([]archive.Object, n)
	each(b, 16, n, func(ctx context.Context, i int) error {
		if err := s.Create(ctx, name(i), bytes.NewReader(bytes.Repeat([]byte{byte(i)}, size))); err != nil {
			return err
		}
		var err error
		out[i], err = s.Stat(ctx, name(i))
		return err
	})
	return out
}

// each calls do for 0 to n-1, some at once, and returns how many a second were done.
func each(b *testing.B, atOnce, n int, do func(ctx context.Context, i int) error) float64 {
	b.Helper()
	g, ctx := errgroup.WithContext(b.Context())
	g.SetLimit(atOnce)
	began := time.Now()
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return float64(n) / time.Since(began).Seconds()
}

func report(b *testing.B, ours, bare float64) {
	b.Helper()
	b.ReportMetric(ours, "reshelf/s")
	b.ReportMetric(bare, "bare/s")
	b.ReportMetric(ours/bare, "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRename compares with a loop of just the calls of the protocol: HEAD, begin, copy, complete, HEAD, DELETE.
func BenchmarkRename(b *testing.B) {
	s := benchStore(b)
	for _, atOnce := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("%d", atOnce), func(b *testing.B) {
			for round := 0; b.Loop(); round++ {
				from := func(side string) func(int) archive.Key {
					return func(i int) archive.Key { return archive.Key(fmt.Sprintf("%d/%d/%s/%d", atOnce, round, side, i)) }
				}
				ours, theirs := s.create16(b, benched, 16<<10, from("a")), s.create16(b, benched, 16<<10, from("b"))
				bare := each(b, atOnce, benched, func(ctx context.Context, i int) error { return s.bareRename(ctx, theirs[i], "n/"+theirs[i].Key) })
				rate := each(b, atOnce, benched, func(ctx context.Context, i int) error { return s.Rename(ctx, requestOf(ours[i], "n/"+ours[i].Key)) })
				report(b, rate, bare)
			}
		})
	}
}

func (s *Store) bareRename(ctx context.Context, from archive.Object, to archive.Key) error {
	if _, err := s.calls.StatObject(ctx, s.bucket, s.name(from.Key), minio.StatObjectOptions{}); err != nil {
		return err
	}
	id, err := s.calls.NewMultipartUpload(ctx, s.bucket, s.name(to), minio.PutObjectOptions{})
	if err != nil {
		return err
	}
	part, err := s.calls.CopyObjectPart(ctx, s.bucket, s.name(from.Key), s.bucket, s.name(to), id, 1, 0, -1, map[string]string{"x-amz-copy-source-if-match": from.ETag})
	if err != nil {
		return err
	}
	if err := s.complete(ctx, s.calls, to, id, []minio.CompletePart{part}, true); err != nil {
		return err
	}
	if _, err := s.calls.StatObject(ctx, s.bucket, s.name(to), minio.StatObjectOptions{}); err != nil {
		return err
	}
	return s.calls.RemoveObject(withHeader(ctx, "If-Match", `"`+from.ETag+`"`), s.bucket, s.name(from.Key), minio.RemoveObjectOptions{})
}

// BenchmarkHash compares with a loop that gets objects and throws them away.
func BenchmarkHash(b *testing.B) {
	s := benchStore(b)
	buffers := &sync.Pool{New: func() any { p := make([]byte, 256<<10); return &p }} // as inspections have them
	for _, size := range []int{16 << 10, 1 << 20} {
		name := func(i int) archive.Key { return archive.Key(fmt.Sprintf("%d/%d", size, i)) }
		objects := s.create16(b, benched, size, name)
		for _, atOnce := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%dKiB/%d", size>>10, atOnce), func(b *testing.B) {
				for b.Loop() {
					bare := each(b, atOnce, benched, func(ctx context.Context, i int) error { return s.bareGet(ctx, objects[i]) })
					rate := each(b, atOnce, benched, func(ctx context.Context, i int) error { return s.hash(ctx, objects[i], buffers) })
					report(b, rate, bare)
				}
			})
		}
	}
}

func (s *Store) bareGet(ctx context.Context, o archive.Object) error {
	body, _, _, err := s.calls.GetObject(ctx, s.bucket, s.name(o.Key), minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}

func (s *Store) hash(ctx context.Context, o archive.Object, buffers *sync.Pool) error {
	c, err := s.Open(ctx, o.Key, 0, -1, o.Identity)
	if err != nil {
		return err
	}
	defer c.Close()
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	_, _, err = digest.Sum(ctx, digest.DefaultSet(), c, *buffer, func(int64) {})
	return err
}

func requestOf(o archive.Object, to archive.Key) store.RenameRequest {
	return store.RenameRequest{From: o.Key, To: to, Want: o.Identity, OpID: fmt.Sprintf("%x", sha256.Sum256([]byte(o.Key+">"+to)))}
}
