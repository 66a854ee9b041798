package s3store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// Capabilities are what a server was seen to do with a bucket. Each was found by its effect: what was to be refused is read
// again, and has to be unchanged.
type Capabilities struct {
	V int `json:"v"`
	// Probed is when, Endpoint and Bucket where, and Server what the server calls itself.
	Probed   time.Time `json:"probed"`
	Endpoint string    `json:"endpoint"`
	Bucket   string    `json:"bucket"`
	// ConditionalPut: If-None-Match on an upload; ConditionalComplete: on the last call of one in parts; ConditionalCopy: on
	// a copy. ConditionalDelete: If-Match on a deletion. GuardsSource: a copy in parts is refused if the source has changed.
	ConditionalPut      bool `json:"conditionalPut"`
	ConditionalComplete bool `json:"conditionalComplete"`
	ConditionalCopy     bool `json:"conditionalCopy"`
	ConditionalDelete   bool `json:"conditionalDelete"`
	GuardsSource        bool `json:"guardsSource"`
	// Versioned: a deletion leaves the version below a marker. Versioning is what the server called the bucket then, "" where
	// it does not tell: Enabled, Suspended.
	Versioned  bool   `json:"versioned"`
	Versioning string `json:"versioning,omitempty"`
	// MarkersBlock: a name that was deleted counts as taken by a conditional write, although nothing is there.
	MarkersBlock bool `json:"markersBlock"`
	// Locked: the bucket has Object Lock.
	Locked bool `json:"locked"`
	// FoldsCase: "A" and "a", or two Unicode forms of one letter, are one name.
	FoldsCase bool `json:"foldsCase"`
	// Nested: what becomes of "a/b" where "a" is an object: "both", "refused" or "hidden" (stored, but not listed).
	Nested string `json:"nested"` // see the constants
	// Tags: objects can have tags. CountsTags: a HEAD tells how many. Checksums: a HEAD tells those that the server keeps.
	Tags       bool `json:"tags"`
	CountsTags bool `json:"countsTags"`
	Checksums  bool `json:"checksums"`
}

// What Capabilities.Nested may be.
const (
	nestedBoth    = "both"
	nestedRefused = "refused"
	nestedHidden  = "hidden"
)

// capabilitiesVersion is raised when a probe learns something new: what an older one found is found out again.
const capabilitiesVersion = 2

// believedFor is how long what was found is believed: servers are upgraded. That a bucket's versioning was switched on or off
// is noticed at once, since in some buckets nothing else guards a deletion.
const believedFor = 30 * 24 * time.Hour

// Probes keep what was found out, by name.
type Probes interface {
	// Load returns store.ErrNotExist for a name that is not kept.
	Load(ctx context.Context, name string) ([]byte, error)
	Save(ctx context.Context, name string, text []byte) error
}

// guarded reports whether renames are safe whoever else writes.
func (c Capabilities) guarded() bool {
	return c.guardsCopies() && (c.ConditionalDelete || c.Versioned)
}

// guardsCopies reports whether copies, whose source stays, are safe whoever else writes.
func (c Capabilities) guardsCopies() bool {
	return (c.ConditionalComplete || c.ConditionalCopy) && c.GuardsSource
}

// folders reports whether "a" and "a/b" must not both be objects.
func (c Capabilities) folders() bool { return c.Nested == nestedRefused || c.Nested == nestedHidden }

// method names how objects are renamed.
func (c Capabilities) method() string {
	copying, deleting := "copy after a look", "delete after a look"
	switch {
	case c.ConditionalCopy:
		copying = "conditional copy"
	case c.ConditionalComplete:
		copying = "conditional copy in parts"
	}
	switch {
	case c.ConditionalDelete:
		deleting = "conditional delete"
	case c.Versioned:
		deleting = "delete marker"
	}
	return copying + ", " + deleting
}

func (c Capabilities) why() string {
	switch {
	case c.V == 0:
		return "the bucket was not opened for renaming"
	case !c.ConditionalComplete && !c.ConditionalCopy:
		return "this server replaces an object when it is asked not to (If-None-Match), so a rename could overwrite what somebody else writes"
	}
	if !c.GuardsSource {
		return "this server copies an object when it is asked to do so only if it is unchanged (x-amz-copy-source-if-match), " +
			"so a rename could move what somebody else writes"
	}
	return "this server deletes an object when it is asked to do so only if it is unchanged (If-Match), and the bucket keeps no versions, " +
		"so a rename could delete what somebody else writes"
}

func (c Capabilities) remedy() string {
	switch {
	case c.V == 0 || c.guarded():
		return ""
	case !c.ConditionalComplete && !c.ConditionalCopy || !c.GuardsSource:
		return "use a server that knows If-None-Match for multipart uploads (Amazon S3, Versity Gateway 1.8, SeaweedFS, Ceph), " +
			"or make sure that nothing else writes to the bucket and allow it with --assume-single-writer"
	}
	return "switch on versioning for the bucket, or make sure that nothing else writes to it and allow it with --assume-single-writer"
}

// Capabilities are those that Open found; the zero value without Options.Renames.
func (s *Store) Capabilities() Capabilities { return s.can }

// capabilities are loaded from where they are kept, or found out and kept there.
func (s *Store) capabilities(ctx context.Context) (Capabilities, error) {
	h := sha256.Sum256([]byte(s.address + "\x00" + s.bucket))
	name := hex.EncodeToString(h[:16])
	if s.options.Probes != nil && !s.options.Fresh {
		text, err := s.options.Probes.Load(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return Capabilities{}, err
		}
		var c Capabilities
		if err == nil && json.Unmarshal(text, &c) == nil && c.V == capabilitiesVersion && c.Endpoint == s.address && c.Bucket == s.bucket &&
			time.Since(c.Probed) < believedFor {
			if told, err := s.versioning(ctx); err != nil || told == c.Versioning {
				return c, err
			}
		}
	}
	c, err := s.probe(ctx)
	if err != nil || s.options.Probes == nil {
		return c, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return c, err
	}
	return c, s.options.Probes.Save(ctx, name, text)
}

// versioning is what the server calls the bucket's versioning, "" where it does not tell.
func (s *Store) versioning(ctx context.Context) (told string, err error) {
	err = s.try(ctx, attemptFor, func(ctx context.Context) error {
		c, err := s.calls.GetBucketVersioning(ctx, s.bucket)
		told = c.Status
		return err
	})
	if err == nil || ctx.Err() != nil || isNotImplemented(err) {
		return told, ctx.Err()
	}
	switch classify(err) {
	case classRetry, classSlow, classCredentials:
		return "", s.unavailable(err)
	}
	return "", nil
}

// prober tries things out on objects of its own. Its calls go past the store's patience: an answer that is an error is one.
type prober struct {
	*Store
	dir string // of its objects, with a slash at the end
	c   *Capabilities
}

// probe finds out what the server does, on scratch objects below a name that listings leave out, and removes them.
func (s *Store) probe(ctx context.Context) (c Capabilities, err error) {
	c = Capabilities{V: capabilitiesVersion, Probed: time.Now().UTC().Truncate(time.Second), Endpoint: s.address, Bucket: s.bucket}
	p := prober{s, s.prefix + store.TempPrefix + "probe-" + uuid.NewString() + "/", &c}
	defer func() { err = errors.Join(err, p.clear(ctx)) }()
	if err := p.put(ctx, "exists", "old"); err != nil {
		return c, fmt.Errorf("write a scratch object: %w", s.unavailable(err))
	}
	for _, find := range []func(context.Context) error{
		p.versions, p.conditionalPut, p.conditionalComplete, p.conditionalCopy, p.conditionalDelete, p.folding, p.nesting, p.markers, p.details,
	} {
		if err := find(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (p prober) put(ctx context.Context, name, content string, opts ...func(*minio.PutObjectOptions)) error {
	o := minio.PutObjectOptions{DisableMultipart: true, DisableContentSha256: true}
	for _, f := range opts {
		f(&o)
	}
	return p.try(ctx, attemptFor, func(ctx context.Context) error {
		_, err := p.calls.PutObject(ctx, p.bucket, p.dir+name, strings.NewReader(content), int64(len(content)), "", sum([]byte(content)), o)
		return err
	})
}

func unlessThere(o *minio.PutObjectOptions) { o.SetMatchETagExcept("*") }

// read returns the content, "" if there is none.
func (p prober) read(ctx context.Context, name string) (content string, err error) {
	err = p.try(ctx, attemptFor, func(ctx context.Context) error {
		body, _, _, err := p.calls.GetObject(ctx, p.bucket, p.dir+name, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		defer body.Close()
		raw, err := io.ReadAll(io.LimitReader(body, 1<<10))
		content = string(raw)
		return err
	})
	if err != nil && classify(err) == classGone {
		return "", nil
	}
	return content, p.unavailable(err)
}

// refused reports whether a call was refused, and had no effect on an object. Errors of another kind are passed on only
// where the server failed; otherwise it does not know what it was asked for.
func (p prober) refused(ctx context.Context, err error, name, content string) (bool, error) {
	if err != nil {
		switch classify(err) {
		case classRetry, classSlow, classCredentials, classForbidden, classFull:
			return false, p.unavailable(err)
		}
	}
	now, readErr := p.read(ctx, name)
	return err != nil && classify(err) == classTaken && now == content, readErr
}

func (p prober) conditionalPut(ctx context.Context) (err error) {
	err = p.put(ctx, "exists", "new", unlessThere)
	if p.c.ConditionalPut, err = p.refused(ctx, err, "exists", "old"); err != nil || p.c.ConditionalPut {
		return err
	}
	return p.unavailable(p.put(ctx, "exists", "old"))
}

// copyOnto copies "source" onto a name by an upload in parts.
func (p prober) copyOnto(ctx context.Context, name, etag string) error {
	var id string
	if err := p.try(ctx, attemptFor, func(ctx context.Context) (err error) {
		id, err = p.calls.NewMultipartUpload(ctx, p.bucket, p.dir+name, minio.PutObjectOptions{})
		return err
	}); err != nil {
		return err
	}
	part, err := p.copies.CopyObjectPart(ctx, p.bucket, p.dir+"source", p.bucket, p.dir+name, id, 1, 0, -1, map[string]string{"x-amz-copy-source-if-match": etag})
	if err == nil && part.ETag == "" {
		err = errNothing
	}
	if err == nil {
		err = p.complete(ctx, p.copies, p.key(p.dir+name), id, []minio.CompletePart{part}, true)
	}
	if err != nil {
		err = errors.Join(err, p.abort(ctx, p.key(p.dir+name), id))
	}
	return err
}

func (p prober) conditionalComplete(ctx context.Context) error {
	if err := p.put(ctx, "source", "new"); err != nil {
		return p.unavailable(err)
	}
	info, err := p.calls.StatObject(ctx, p.bucket, p.dir+"source", minio.StatObjectOptions{})
	if err != nil {
		return p.unavailable(err)
	}
	guards, err := p.refused(ctx, p.copyOnto(ctx, "guarded", "00000000000000000000000000000000"), "guarded", "")
	if err != nil {
		return err
	}
	refused, err := p.refused(ctx, p.copyOnto(ctx, "exists", info.ETag), "exists", "old")
	if err != nil {
		return err
	}
	if err := p.copyOnto(ctx, "copied", info.ETag); err != nil {
		_, err := p.refused(ctx, err, "exists", "old")
		return err // it cannot copy in parts at all
	}
	now, err := p.read(ctx, "copied")
	p.c.GuardsSource, p.c.ConditionalComplete = guards, refused && now == "new"
	return errors.Join(err, p.unavailable(p.put(ctx, "exists", "old")))
}

func (p prober) conditionalCopy(ctx context.Context) error {
	whole := func(name string) error {
		done, err := p.copies.CopyObject(withHeader(ctx, "If-None-Match", "*"), p.bucket, p.dir+"source", p.bucket, p.dir+name, map[string]string{
			"x-amz-metadata-directive": "REPLACE", "X-Amz-Meta-" + mark: "probe",
		}, minio.CopySrcOptions{}, minio.PutObjectOptions{})
		if err == nil && done.ETag == "" {
			err = errNothing
		}
		return err
	}
	refused, err := p.refused(ctx, whole("exists"), "exists", "old")
	if err != nil || !refused {
		return errors.Join(err, p.unavailable(p.put(ctx, "exists", "old")))
	}
	if err := whole("copied-whole"); err != nil {
		_, err := p.refused(ctx, err, "exists", "old")
		return err
	}
	now, err := p.read(ctx, "copied-whole")
	p.c.ConditionalCopy = now == "new"
	return err
}

func (p prober) conditionalDelete(ctx context.Context) error {
	del := func(etag string) error {
		return p.calls.RemoveObject(withHeader(ctx, "If-Match", `"`+etag+`"`), p.bucket, p.dir+"exists", minio.RemoveObjectOptions{})
	}
	refused, err := p.refused(ctx, del("00000000000000000000000000000000"), "exists", "old")
	if err != nil || !refused {
		return errors.Join(err, p.unavailable(p.put(ctx, "exists", "old")))
	}
	info, err := p.calls.StatObject(ctx, p.bucket, p.dir+"exists", minio.StatObjectOptions{})
	if err != nil {
		return p.unavailable(err)
	}
	if err := del(info.ETag); err != nil {
		_, err := p.refused(ctx, err, "exists", "old")
		return err
	}
	now, err := p.read(ctx, "exists")
	p.c.ConditionalDelete = now == ""
	return err
}

func (p prober) versions(ctx context.Context) (err error) {
	if p.c.Versioning, err = p.versioning(ctx); err != nil {
		return err
	}
	if err := errors.Join(p.put(ctx, "versions", "one"), p.put(ctx, "versions", "two")); err != nil {
		return p.unavailable(err)
	}
	if err := p.calls.RemoveObject(ctx, p.bucket, p.dir+"versions", minio.RemoveObjectOptions{}); err != nil {
		return p.unavailable(err)
	}
	h, err := p.history(ctx, p.key(p.dir+"versions"))
	p.c.Versioned = err == nil && len(h.markers) == 1 && h.newest.Size == 3 && h.newest.VersionID != "" && h.newest.VersionID != "null"
	if errors.Is(err, store.ErrUnavailable) && !isNotImplemented(err) {
		return err
	}
	return nil
}

// isNotImplemented: a server without versions may say so with a status of its own failing.
func isNotImplemented(err error) bool { return strings.Contains(err.Error(), "NotImplemented") }

func (p prober) folding(ctx context.Context) error {
	for stored, asked := range map[string]string{"case": "CASE", "caf\u00e9": "cafe\u0301"} {
		if err := p.put(ctx, stored, "x"); err != nil {
			return p.unavailable(err)
		}
		found, err := p.read(ctx, asked)
		if err != nil {
			return err
		}
		p.c.FoldsCase = p.c.FoldsCase || found != ""
	}
	return nil
}

func (p prober) nesting(ctx context.Context) error {
	if err := p.put(ctx, "parent", "x"); err != nil {
		return p.unavailable(err)
	}
	p.c.Nested = nestedRefused
	if err := p.put(ctx, "parent/child", "x"); err != nil {
		return nil
	}
	p.c.Nested = nestedHidden
	for info, err := range p.names(ctx, p.dir+"parent", "") {
		if err != nil {
			return err
		}
		if info.Key == p.dir+"parent/child" {
			p.c.Nested = nestedBoth
		}
	}
	return nil
}

func (p prober) markers(ctx context.Context) error {
	if !p.c.Versioned {
		return nil
	}
	err := p.put(ctx, "versions", "three", unlessThere) // deleted by versioning
	p.c.MarkersBlock = err != nil && classify(err) == classTaken
	return nil
}

func (p prober) details(ctx context.Context) error {
	tagged := func(o *minio.PutObjectOptions) { o.UserTags = map[string]string{"reshelf": "probe"} }
	if err := p.put(ctx, "tagged", "x", tagged); err == nil {
		t, err := p.calls.GetObjectTagging(ctx, p.bucket, p.dir+"tagged", minio.GetObjectTaggingOptions{})
		p.c.Tags = err == nil && t.Count() == 1
		info, err := p.calls.StatObject(ctx, p.bucket, p.dir+"tagged", minio.StatObjectOptions{})
		p.c.CountsTags = err == nil && info.UserTagCount == 1
	}
	_, err := p.calls.StatObject(ctx, p.bucket, p.dir+"source", minio.StatObjectOptions{Checksum: true})
	p.c.Checksums = err == nil
	lock, _, _, _, err := p.calls.GetObjectLockConfig(ctx, p.bucket) //nolint:dogsled // minio-go's signature
	p.c.Locked = err == nil && lock == "Enabled"
	return ctx.Err()
}

// clear removes the scratch objects, with all their versions, also where ctx is done.
func (p prober) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptFor)
	defer cancel()
	var errs []error
	for _, versions := range []bool{true, true, false} { // twice: what was hidden below an object appears when that is gone
		for info := range p.calls.ListObjectsIter(ctx, p.bucket, minio.ListObjectsOptions{Prefix: p.dir, Recursive: true, WithVersions: versions && p.c.Versioned}) {
			if info.Err != nil {
				errs = append(errs, p.unavailable(info.Err))
				break
			}
			id := ""
			if p.c.Versioned {
				id = info.VersionID
			}
			if err := p.calls.RemoveObject(ctx, p.bucket, info.Key, minio.RemoveObjectOptions{VersionID: id}); err != nil && !goneMarker(err) {
				errs = append(errs, p.unavailable(err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the scratch objects below %s: %w", archive.EscapeText(p.dir), err)
	}
	return nil
}
