// Package archive names what Reshelf works on: roots, keys, objects and their identities.
// It does no I/O and everything in it is a comparable value that is safe for concurrent use.
package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"path"
	"strings"
	"time"
)

// ErrRoot is wrapped by every error of [ParseRoot].
var ErrRoot = errors.New("invalid archive")

// Schemes that a Root can have.
const (
	SchemeFile = "file"
	SchemeS3   = "s3"
)

// Root is where an archive (or a ledger) lives: file:///mnt/photos or s3://bucket/prefix?endpoint=https://host:9000. It
// never holds credentials. Roots are comparable; the zero Root is invalid.
type Root struct {
	scheme   string
	bucket   string // empty for file
	path     string // file: cleaned absolute path; s3: prefix without slashes at its ends, may be empty
	settings string // s3: the canonical query, see settings.go
}

// FileRoot returns the root of the absolute directory dir.
func FileRoot(dir string) (Root, error) {
	if !path.IsAbs(dir) {
		return Root{}, fmt.Errorf("%w %q: the path must be absolute", ErrRoot, dir)
	}
	if strings.ContainsRune(dir, 0) {
		return Root{}, fmt.Errorf("%w %q: the path holds a NUL byte", ErrRoot, dir)
	}
	return Root{scheme: SchemeFile, path: path.Clean(dir)}, nil
}

// ParseRoot parses a root's text form. Hosts, user names, passwords and fragments are refused: credentials never travel in a
// URL. An S3 root may have a query of the settings in [Root.Setting], and of nothing else. Where s may hold secrets, the
// error does not repeat s.
func ParseRoot(s string) (Root, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return Root{}, fmt.Errorf("%w %q: want file:///path or s3://bucket/prefix", ErrRoot, s)
	}
	switch scheme {
	case SchemeFile:
		if !strings.HasPrefix(rest, "/") {
			return Root{}, fmt.Errorf("%w: a file archive is file:///path, without host, with an absolute path", ErrRoot)
		}
		p, err := url.PathUnescape(rest)
		if err != nil {
			return Root{}, fmt.Errorf("%w %q: %w", ErrRoot, s, err)
		}
		return FileRoot(p)
	case SchemeS3:
		return parseS3(s, rest)
	}
	return Root{}, fmt.Errorf("%w: unknown scheme %q; want file or s3", ErrRoot, scheme)
}

func parseS3(s, rest string) (Root, error) {
	rest, query, _ := strings.Cut(rest, "?")
	bucket, prefix, _ := strings.Cut(rest, "/")
	if !validBucket(bucket) || strings.Contains(s, "#") {
		return Root{}, fmt.Errorf("%w: an s3 archive is s3://bucket/prefix, without user or fragment; "+
			"a bucket's name is 3 to 255 letters, digits, dots, hyphens and underscores", ErrRoot)
	}
	settings, err := parseSettings(query)
	if err != nil {
		return Root{}, err
	}
	prefix, err = url.PathUnescape(strings.Trim(prefix, "/"))
	if err != nil {
		return Root{}, fmt.Errorf("%w %q: %w", ErrRoot, s, err)
	}
	if prefix != "" {
		if _, err := ParseKey(prefix); err != nil {
			return Root{}, fmt.Errorf("%w %q: %w", ErrRoot, s, err)
		}
	}
	return Root{scheme: SchemeS3, bucket: bucket, path: prefix, settings: settings}, nil
}

// validBucket reports whether s can be a bucket: what S3 allows, and its older rules in us-east-1, which other servers
// still have.
func validBucket(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	return len(s) >= 3 && len(s) <= 255 && strings.Trim(s, letters) == "" && strings.Trim(s, ".") != ""
}

// Scheme is SchemeFile or SchemeS3.
func (r Root) Scheme() string { return r.scheme }

// Path is the directory of a file root, or the prefix of an S3 root ("" for the whole bucket).
func (r Root) Path() string { return r.path }

// Bucket is the bucket of an S3 root, "" for a file root.
func (r Root) Bucket() string { return r.bucket }

// IsZero reports whether r is the zero Root.
func (r Root) IsZero() bool { return r.scheme == "" }

// String is the form that ParseRoot reads.
func (r Root) String() string {
	if r.IsZero() {
		return ""
	}
	p := (&url.URL{Path: r.path}).EscapedPath()
	if r.scheme == SchemeS3 {
		text := "s3://" + r.bucket
		if p != "" {
			text += "/" + p
		}
		if r.settings != "" {
			text += "?" + r.settings
		}
		return text
	}
	return "file://" + p
}

// MarshalText implements encoding.TextMarshaler.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the empty text is the zero Root.
func (r *Root) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Root{}
		return nil
	}
	p, err := ParseRoot(string(text))
	*r = p
	return err
}

// Contains reports whether other is r itself or lies below it. S3 roots must have the same settings: the same bucket name
// at another endpoint is another bucket.
func (r Root) Contains(other Root) bool {
	if r.scheme != other.scheme || r.bucket != other.bucket || r.settings != other.settings {
		return false
	}
	return r.above(other)
}

func (r Root) above(other Root) bool {
	return r.path == other.path || r.path == "" || r.path == "/" || strings.HasPrefix(other.path, r.path+"/")
}

// Overlaps reports whether one of two roots may lie in the other. Unlike Contains it takes buckets of one name for one
// bucket, unless both roots name their endpoints and these differ: what is not in a root's text may be set elsewhere.
func (r Root) Overlaps(other Root) bool {
	if r.scheme != other.scheme || r.bucket != other.bucket {
		return false
	}
	a, b := r.Setting(SettingEndpoint), other.Setting(SettingEndpoint)
	if a != "" && b != "" && a != b {
		return false
	}
	return r.above(other) || other.above(r)
}

// Identity is what tells that an object is unchanged. Zero fields are unknown. A disk knows size, mtime and (where the
// file system keeps it) inode, never the device number, which differs by mount and by pod. S3 knows size, ETag and,
// where a GET or HEAD told it, the version.
type Identity struct {
	// Size is in bytes, at least 0.
	Size int64 `json:"size"`
	// MTime is the modification time in nanoseconds since the Unix epoch. On S3 it is LastModified, which a copy
	// resets, so Same compares it only where there is no ETag.
	MTime int64 `json:"mtime,omitempty"`
	// Inode is the file's inode number.
	Inode uint64 `json:"inode,omitempty"`
	// ETag is an S3 entity tag without quotes.
	ETag string `json:"etag,omitempty"`
	// Version is an S3 version id.
	Version string `json:"version,omitempty"`
}

// Same reports whether a and b can be the same content: everything that both know is equal.
func (a Identity) Same(b Identity) bool {
	if a.Size != b.Size || a.Version != "" && b.Version != "" && a.Version != b.Version {
		return false
	}
	if a.ETag != "" && b.ETag != "" {
		return a.ETag == b.ETag
	}
	return (a.MTime == 0 || b.MTime == 0 || a.MTime == b.MTime) && (a.Inode == 0 || b.Inode == 0 || a.Inode == b.Inode)
}

// File is a number that tells files of a disk apart, never zero where it can: the inode number, or, on a disk that keeps none, one made of size and time, which
// two files can have in common.
func (a Identity) File() uint64 {
	if a.Inode != 0 || a.MTime == 0 {
		return a.Inode
	}
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(a.Size)), uint64(a.MTime)))
	return h.Sum64()
}

// ModTime is MTime as a time in UTC, the zero time if unknown.
func (a Identity) ModTime() time.Time {
	if a.MTime == 0 {
		return time.Time{}
	}
	return time.Unix(0, a.MTime).UTC()
}

// Object is one file or S3 object at the moment it was seen.
type Object struct {
	Key Key `json:"key"`
	Identity
	// Mark is the op id of the rename that made the object, where its store keeps one and was asked for this very object.
	Mark string `json:"-"`
}
