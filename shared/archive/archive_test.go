package archive_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
)

func mustRoot(t testing.TB, s string) archive.Root {
	t.Helper()
	r, err := archive.ParseRoot(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseRoot(t *testing.T) {
	tests := []struct{ in, scheme, bucket, path, text string }{
		{"file:///", "file", "", "/", "file:///"},
		{"file:///mnt/photos", "file", "", "/mnt/photos", "file:///mnt/photos"},
		{"file:///mnt//photos/../p/", "file", "", "/mnt/p", "file:///mnt/p"},
		{"file:///a%20b%25%ff", "file", "", "/a b%\xff", "file:///a%20b%25%FF"},
		{"file:///a?b#c", "file", "", "/a?b#c", "file:///a%3Fb%23c"},
		{"file:///a+b@c", "file", "", "/a+b@c", "file:///a+b@c"},
		{"s3://bucket", "s3", "bucket", "", "s3://bucket"},
		{"s3://bucket/", "s3", "bucket", "", "s3://bucket"},
		{"s3://bucket/a/b/", "s3", "bucket", "a/b", "s3://bucket/a/b"},
		{"s3://My_old.bucket-1/*", "s3", "My_old.bucket-1", "*", "s3://My_old.bucket-1/*"},
		{"s3://bucket/a%20b/%D0%B6", "s3", "bucket", "a b/ж", "s3://bucket/a%20b/%D0%B6"},
		{"s3://bucket/me@home", "s3", "bucket", "me@home", "s3://bucket/me@home"},
		{"s3://bucket/a%40b%3Fc%23d", "s3", "bucket", "a@b?c#d", "s3://bucket/a@b%3Fc%23d"},
		{"s3://bucket?", "s3", "bucket", "", "s3://bucket"},
		{"s3://bucket/a/?region=eu-1&endpoint=http%3A%2F%2F127.0.0.1:9000", "s3", "bucket", "a", "s3://bucket/a?endpoint=http://127.0.0.1:9000&region=eu-1"},
		{"s3://bucket?ca=/etc/a%20b.pem&path-style=true&profile=nas", "s3", "bucket", "", "s3://bucket?ca=/etc/a+b.pem&path-style=true&profile=nas"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			r := mustRoot(t, tt.in)
			if r.Scheme() != tt.scheme || r.Bucket() != tt.bucket || r.Path() != tt.path || r.IsZero() {
				t.Errorf("got %q, %q, %q", r.Scheme(), r.Bucket(), r.Path())
			}
			if got := r.String(); got != tt.text {
				t.Errorf("String: got %q, want %q", got, tt.text)
			}
			if again := mustRoot(t, r.String()); again != r {
				t.Errorf("parsed again: got %v, want %v", again, r)
			}
		})
	}
}

func TestParseRootErrors(t *testing.T) {
	for _, in := range []string{
		"", "/mnt/photos", "photos", "file:/mnt", "file://", "file://host/share", "file://mnt", "file:///a%00b", "file:///a%zz",
		"s3://", "s3:///prefix", "s3://bu", "s3://buc ket", "s3://bucket:9000", "s3://...", "s3://" + strings.Repeat("b", 256), "s3://bucket/a?versionId=1",
		"s3://bucket?region=a&region=b", "s3://bucket?region=", "s3://bucket?region=a%20b", "s3://bucket?path-style=yes", "s3://bucket?ca=a.pem",
		"s3://bucket?ca=/a/../b", "s3://bucket?endpoint=host:9000", "s3://bucket?endpoint=ftp://host", "s3://bucket?endpoint=https://me:x@host",
		"s3://bucket?endpoint=https://host/path", "s3://bucket?endpoint=https://host/", "s3://bucket?profile=a/b", "s3://bucket?a%zz", "s3://bucket?region=a#b",
		"s3://bucket/a#b", "s3://bucket?x", "s3://bucket/a//b", "s3://bucket/../a", "s3://bucket/%2e%2e", "s3://bucket/%2Fa", "s3://bucket/%zz",
		"s3://b%75cket", "http://bucket/a", "S3://bucket", "://a",
	} {
		if r, err := archive.ParseRoot(in); !errors.Is(err, archive.ErrRoot) || !r.IsZero() {
			t.Errorf("ParseRoot(%q): got %v, %v", in, r, err)
		}
	}
	if r, err := archive.FileRoot("photos"); !errors.Is(err, archive.ErrRoot) || !r.IsZero() {
		t.Errorf("FileRoot of a relative path: got %v, %v", r, err)
	}
}

func TestRootErrorsKeepSecrets(t *testing.T) {
	for _, in := range []string{
		"s3://AKIA:hunter2@bucket/a", "s3://AKIA:hunter2", "s3://bucket/a?X-Amz-Signature=hunter2", "s3://bucket?hunter2=x", "s3://bucket?hunter2&hunter2", "s3://bucket?region=hunter2&region=a",
		"s3://bucket?endpoint=https://me:hunter2@host", "s3://bucket?secret=hunter2&region=a", "s3://bucket?profile=hunter2!", "https://me:hunter2@host/a", "file://me:hunter2@host/a",
	} {
		if _, err := archive.ParseRoot(in); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseRoot(%q): got error %v", in, err)
		}
	}
}

func TestRootJSON(t *testing.T) {
	type doc struct {
		Archive archive.Root `json:"archive"`
		None    archive.Root `json:"none"`
	}
	in := doc{Archive: mustRoot(t, "s3://bucket/a b")}
	text, err := json.Marshal(in)
	if want := `{"archive":"s3://bucket/a%20b","none":""}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v; want %s", text, err, want)
	}
	var out doc
	if err := json.Unmarshal(text, &out); err != nil || out != in {
		t.Errorf("got %v, %v; want %v", out, err, in)
	}
	if err := json.Unmarshal([]byte(`{"archive":"ftp://a"}`), &out); !errors.Is(err, archive.ErrRoot) {
		t.Errorf("an unknown scheme: got error %v", err)
	}
}

func TestContains(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"file:///a", "file:///a", true},
		{"file:///a", "file:///a/b", true},
		{"file:///a", "file:///ab", false},
		{"file:///a/b", "file:///a", false},
		{"file:///", "file:///a", true},
		{"s3://bucket", "s3://bucket/a", true},
		{"s3://bucket/a", "s3://bucket/a/b", true},
		{"s3://bucket/a", "s3://bucket/ab", false},
		{"s3://bucket/a", "s3://bucket", false},
		{"s3://bucket", "s3://bucket2/a", false},
		{"file:///", "s3://bucket/a", false},
		{"s3://bucket?endpoint=http://a", "s3://bucket/a?endpoint=http://a", true},
		{"s3://bucket?endpoint=http://a", "s3://bucket/a?endpoint=http://b", false},
		{"s3://bucket", "s3://bucket/a?ca=/a", false},
	}
	for _, tt := range tests {
		t.Run(tt.a+" "+tt.b, func(t *testing.T) {
			if got := mustRoot(t, tt.a).Contains(mustRoot(t, tt.b)); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

func TestIdentitySame(t *testing.T) {
	type id = archive.Identity
	tests := []struct {
		name string
		a, b id
		want bool
	}{
		{"zero", id{}, id{}, true},
		{"size", id{Size: 1}, id{Size: 2}, false},
		{"mtime", id{MTime: 1}, id{MTime: 2}, false},
		{"mtime unknown", id{MTime: 1}, id{}, true},
		{"inode", id{MTime: 1, Inode: 1}, id{MTime: 1, Inode: 2}, false},
		{"inode unknown", id{MTime: 1, Inode: 1}, id{MTime: 1}, true},
		{"etag", id{ETag: "a"}, id{ETag: "b"}, false},
		{"etag equal after a copy", id{ETag: "a", MTime: 1}, id{ETag: "a", MTime: 2}, true},
		{"etag of one only", id{ETag: "a", MTime: 1}, id{MTime: 2}, false},
		{"version", id{ETag: "a", Version: "1"}, id{ETag: "a", Version: "2"}, false},
		{"version without etag", id{Version: "1"}, id{Version: "2"}, false},
		{"version of one only", id{ETag: "a", Version: "1"}, id{ETag: "a"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.a.Same(tt.b); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
			if got := tt.b.Same(tt.a); got != tt.want {
				t.Errorf("the other way: got %t, want %t", got, tt.want)
			}
		})
	}
}

func TestModTime(t *testing.T) {
	if got := (archive.Identity{}).ModTime(); !got.IsZero() {
		t.Errorf("unknown: got %v", got)
	}
	want := time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC)
	if got := (archive.Identity{MTime: -1}).ModTime(); got != want {
		t.Errorf("before the epoch: got %v, want %v", got, want)
	}
}

func FuzzParseRoot(f *testing.F) {
	for _, s := range []string{"file:///a/b", "s3://bucket/a@b", "s3://bucket/%2e", "file:///%ff?#", "s3://u:p@bucket"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := archive.ParseRoot(s)
		if err != nil {
			if !errors.Is(err, archive.ErrRoot) || !r.IsZero() {
				t.Fatalf("%q: got %v, %v", s, r, err)
			}
			return
		}
		if again, err := archive.ParseRoot(r.String()); err != nil || again != r {
			t.Errorf("%q is %q: parsed again: got %#v, %v; want %#v", s, r, again, err, r)
		}
		if !r.Contains(r) {
			t.Errorf("%q does not contain itself", r)
		}
	})
}

func TestOverlaps(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"file:///a", "file:///a/b", true},
		{"file:///a", "file:///b", false},
		{"file:///a", "s3://bucket", false},
		{"s3://bucket/a", "s3://bucket", true},
		{"s3://bucket/a", "s3://bucket/ab", false},
		{"s3://bucket?endpoint=http://a", "s3://bucket/x", true},
		{"s3://bucket?endpoint=http://a", "s3://bucket?endpoint=http://b", false},
		{"s3://bucket?endpoint=http://a&region=x", "s3://bucket/x?endpoint=http://a", true},
	}
	for _, tt := range tests {
		a, b := mustRoot(t, tt.a), mustRoot(t, tt.b)
		if a.Overlaps(b) != tt.want || b.Overlaps(a) != tt.want {
			t.Errorf("%s and %s: got %t and %t, want %t", a, b, a.Overlaps(b), b.Overlaps(a), tt.want)
		}
	}
}
