package s3store_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// A rename keeps all that an object has.
func TestRenameKeeps(t *testing.T) {
	for name, s := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newPlace(t, s.start(t), "p")
			st := at.open(t, s3store.Options{Renames: true})
			full := minio.PutObjectOptions{
				ContentType: "image/x-odd; charset=utf-8", CacheControl: "max-age=7", ContentDisposition: `attachment; filename="a b.jpg"`,
				ContentEncoding: "x-own", ContentLanguage: "de", Expires: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
				UserMetadata: map[string]string{"Camera": "own", "Place": "Zürich – 東京", "X-Amz-Meta-Cache-Control": "not a header", "X-Amz-Meta-Expires": "never"},
				UserTags:     map[string]string{"album": "a = b", "other tag": "a+b/c"},
			}
			for key, o := range map[archive.Key]minio.PutObjectOptions{"full": full, "plain": plain} {
				for content, to := range map[string]archive.Key{"": "moved/empty-" + key, "content": "moved/small-" + key} {
					at.put(t, key, content, o)
					before, tags := describe(t, at, key)
					req := request(t, st, key, to)
					req.AssumeSingleWriter = s.limits.AssumeSingleWriter
					must(t, st.Rename(t.Context(), req))
					after, tagsAfter := describe(t, at, to)
					if after["X-Amz-Meta-Reshelf-Op"] != req.OpID {
						t.Errorf("%s: got mark %q", to, after["X-Amz-Meta-Reshelf-Op"])
					}
					if when, err := time.Parse(time.RFC3339Nano, after["X-Amz-Meta-Reshelf-Mtime"]); err != nil || when.Unix() != req.Want.ModTime().Unix() {
						t.Errorf("%s: got time %q, want %s", to, after["X-Amz-Meta-Reshelf-Mtime"], req.Want.ModTime())
					}
					delete(after, "X-Amz-Meta-Reshelf-Op")
					delete(after, "X-Amz-Meta-Reshelf-Mtime")
					if diff := cmp.Diff(before, after); diff != "" {
						t.Errorf("%s: headers (-before +after):\n%s", to, diff)
					}
					if diff := cmp.Diff(tags, tagsAfter); diff != "" || len(tags) != len(o.UserTags) {
						t.Errorf("%s: tags (-before +after):\n%s", to, diff)
					}
					if got, _ := at.get(t, to); got != content {
						t.Errorf("%s: holds %q", to, got)
					}
				}
			}
		})
	}
}

// describe is what an object has beside its content.
func describe(t *testing.T, at place, key archive.Key) (headers, tags map[string]string) {
	t.Helper()
	info, err := at.server.Client().StatObject(t.Context(), at.bucket, at.name(key), minio.StatObjectOptions{})
	must(t, err)
	headers = map[string]string{}
	for name, values := range info.Metadata {
		switch name {
		case "Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires", "Content-Length", "X-Amz-Storage-Class":
		default:
			if !strings.HasPrefix(name, "X-Amz-Meta-") {
				continue
			}
		}
		headers[name] = strings.Join(values, ",")
	}
	found, err := at.server.Client().GetObjectTagging(t.Context(), at.bucket, at.name(key), minio.GetObjectTaggingOptions{})
	if minio.ToErrorResponse(err).Code == "NoSuchTagSet" {
		return headers, nil
	}
	must(t, err)
	if found.Count() == 0 {
		return headers, nil
	}
	return headers, maps.Clone(found.ToMap())
}

// upload uploads in parts.
func upload(t *testing.T, at place, key archive.Key, parts ...string) {
	t.Helper()
	core, name := minio.Core{Client: at.server.Client()}, at.name(key)
	id, err := core.NewMultipartUpload(t.Context(), at.bucket, name, plain)
	must(t, err)
	var done []minio.CompletePart
	for i, part := range parts {
		p, err := core.PutObjectPart(t.Context(), at.bucket, name, id, i+1, strings.NewReader(part), int64(len(part)), minio.PutObjectPartOptions{})
		must(t, err)
		done = append(done, minio.CompletePart{PartNumber: i + 1, ETag: p.ETag})
	}
	_, err = core.CompleteMultipartUpload(t.Context(), at.bucket, name, id, done, plain)
	must(t, err)
}

// What was uploaded in parts keeps its ETag where the server tells their size; else the contents are compared.
func TestRenameParts(t *testing.T) {
	for name, s := range servers() {
		if name == "VersityTLS" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newPlace(t, s.start(t), "p")
			through, x := at.via(t, func(call) fault { return pass })
			st := through.open(t, s3store.Options{Renames: true})
			content := patterned(11 << 20)
			upload(t, at, "a", content[:5<<20], content[5<<20:10<<20], content[10<<20:])
			req, reads := request(t, st, "a", "b"), x.calls("GET")
			req.AssumeSingleWriter = s.limits.AssumeSingleWriter
			must(t, st.Rename(t.Context(), req))
			at.wantOnly(t, map[archive.Key]string{"b": content})
			obj, err := st.Stat(t.Context(), "b")
			must(t, err)
			reads = x.calls("GET") - reads
			if obj.ETag != req.Want.ETag && reads == 0 && !st.Capabilities().Checksums {
				t.Errorf("got ETag %s, had %s, and nothing was compared", obj.ETag, req.Want.ETag)
			}
			t.Logf("ETag kept: %t; %d reads", obj.ETag == req.Want.ETag, reads)
		})
	}
}

// A copy that is not what it should be is told, and both stay.
func TestRenameBadCopy(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]string{"Content": "CONTENT", "Size": "short"} {
		t.Run(name, func(t *testing.T) {
			at := newPlace(t, s3test.Versity(t), "p")
			st := at.open(t, s3store.Options{Renames: true})
			at.put(t, "a", "content", plain)
			req := request(t, st, "a", "b")
			st.SetStep(func(step string) error {
				if step == "copied" {
					at.put(t, "b", bad, minio.PutObjectOptions{UserMetadata: map[string]string{"Reshelf-Op": req.OpID}})
				}
				return nil
			})
			for range 2 {
				if err := st.Rename(t.Context(), req); err == nil || !strings.Contains(err.Error(), "both are left as they are") {
					t.Errorf("got %v", err)
				}
			}
			at.wantOnly(t, map[archive.Key]string{"a": "content", "b": bad})
		})
	}
}

// largeEnv asks for the test with an object that no single call may copy; it takes minutes and 11 GB of disk.
const largeEnv = "RESHELF_LARGE"

func TestRenameLarge(t *testing.T) {
	if os.Getenv(largeEnv) != "1" {
		return // it takes minutes
	}
	const part, size = 600 << 20, 9*(600<<20) + 1
	at := newPlace(t, s3test.Versity(t), "p")
	st := at.open(t, s3store.Options{Renames: true})
	core, zeros := minio.Core{Client: at.server.Client()}, make([]byte, part)
	id, err := core.NewMultipartUpload(t.Context(), at.bucket, at.name("a"), plain)
	must(t, err)
	var done []minio.CompletePart
	for sent := int64(0); sent < size; sent += part {
		n := min(part, size-sent)
		p, err := core.PutObjectPart(context.Background(), at.bucket, at.name("a"), id, len(done)+1, bytes.NewReader(zeros[:n]), n, minio.PutObjectPartOptions{DisableContentSha256: true})
		must(t, err)
		done = append(done, minio.CompletePart{PartNumber: len(done) + 1, ETag: p.ETag})
	}
	_, err = core.CompleteMultipartUpload(t.Context(), at.bucket, at.name("a"), id, done, plain)
	must(t, err)
	began := time.Now()
	must(t, st.Rename(t.Context(), request(t, st, "a", "b")))
	obj, err := st.Stat(t.Context(), "b")
	must(t, err)
	t.Logf("%d bytes renamed in %s, ETag %s", obj.Size, time.Since(began).Round(time.Second), obj.ETag)
	if obj.Size != size {
		t.Errorf("got %d bytes, want %d", obj.Size, int64(size))
	}
}
