package s3store

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // S3's ETags are MD5 sums
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// mtimeMark keeps the time of the last modification, which a copy resets, as RFC 3339 with nanoseconds.
const mtimeMark = "Reshelf-Mtime"

// userHeader starts the headers of user metadata.
const userHeader = "X-Amz-Meta-"

// headersOf are the options that give a copy everything that its source has: headers, user metadata, tags, storage class,
// encryption and locks, and the mark of the request.
func (m *move) headersOf(ctx context.Context, src archive.Object, info minio.ObjectInfo) (minio.PutObjectOptions, error) {
	h := info.Headers
	if h.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") != "" {
		return minio.PutObjectOptions{}, fmt.Errorf("%w: it is encrypted with a key of the customer's (SSE-C), which Reshelf does not have", store.ErrUnsupported)
	}
	o := minio.PutObjectOptions{
		UserMetadata:            map[string]string{},
		ContentType:             h.Get("Content-Type"),
		ContentEncoding:         h.Get("Content-Encoding"),
		ContentDisposition:      h.Get("Content-Disposition"),
		ContentLanguage:         h.Get("Content-Language"),
		CacheControl:            h.Get("Cache-Control"),
		Expires:                 info.Expires,
		StorageClass:            h.Get("X-Amz-Storage-Class"),
		WebsiteRedirectLocation: h.Get("X-Amz-Website-Redirect-Location"),
		Mode:                    minio.RetentionMode(h.Get("X-Amz-Object-Lock-Mode")),
		LegalHold:               minio.LegalHoldStatus(h.Get("X-Amz-Object-Lock-Legal-Hold")),
	}
	// With the whole name of its header: minio-go takes metadata called "Cache-Control" for the header of that name.
	for k, v := range info.UserMetadata {
		o.UserMetadata[userHeader+k] = v
	}
	if info.UserMetadata[mtimeMark] == "" && !info.LastModified.IsZero() {
		o.UserMetadata[userHeader+mtimeMark] = info.LastModified.UTC().Format(time.RFC3339Nano)
	}
	o.UserMetadata[userHeader+mark] = m.req.OpID
	if until := h.Get("X-Amz-Object-Lock-Retain-Until-Date"); until != "" {
		t, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return o, fmt.Errorf("retention: %w", err)
		}
		o.RetainUntilDate = t
	}
	if h.Get("X-Amz-Server-Side-Encryption") == "aws:kms" {
		sse, err := encrypt.NewSSEKMS(h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"), nil)
		if err != nil {
			return o, fmt.Errorf("encryption: %w", err)
		}
		o.ServerSideEncryption = sse
	}
	tags, err := m.tagsOf(ctx, src, info)
	o.UserTags = tags
	return o, err
}

// tagsOf asks for the tags where there are any, or where the server does not tell how many.
func (m *move) tagsOf(ctx context.Context, src archive.Object, info minio.ObjectInfo) (map[string]string, error) {
	if info.UserTagCount == 0 && (m.can.CountsTags || !m.can.Tags) {
		return nil, nil
	}
	var out map[string]string
	err := m.try(ctx, attemptFor, func(ctx context.Context) error {
		t, err := m.calls.GetObjectTagging(ctx, m.bucket, m.name(src.Key), minio.GetObjectTaggingOptions{VersionID: src.Version})
		if err == nil {
			out = t.ToMap()
		}
		return err
	})
	var r minio.ErrorResponse
	if errors.As(err, &r) && r.Code == "NoSuchTagSet" {
		return nil, nil
	}
	return out, m.unavailable(err)
}

// source is the header that names exactly the version that was seen.
func (m *move) source(src archive.Object) string {
	name := s3utils.EncodePath(m.bucket + "/" + m.name(src.Key))
	if src.Version != "" {
		name += "?versionId=" + url.QueryEscape(src.Version)
	}
	return name
}

// copyWhole copies with one call, under whatever condition ctx bears. The headers replace those of the source, since the
// mark is one of them. The call is not repeated: after a doubt one has to look first.
func (m *move) copyWhole(ctx context.Context, src archive.Object, o minio.PutObjectOptions) error {
	metadata := map[string]string{
		"x-amz-copy-source-if-match": src.ETag, "x-amz-metadata-directive": "REPLACE", "x-amz-tagging-directive": "REPLACE",
	}
	for name, values := range o.Header() {
		metadata[name] = values[0]
	}
	if err := m.tell(src.Size, 0); err != nil {
		return err
	}
	return m.once(ctx, copyFor, func(ctx context.Context) error {
		done, err := m.copies.CopyObject(ctx, m.bucket, m.name(src.Key), m.bucket, m.name(m.req.To), metadata,
			minio.CopySrcOptions{VersionID: src.Version}, minio.PutObjectOptions{})
		if err == nil && done.ETag == "" {
			return errNothing
		}
		return err
	})
}

// copyInParts copies with an upload whose completion the server refuses if the target exists.
func (m *move) copyInParts(ctx context.Context, src archive.Object, info minio.ObjectInfo, o minio.PutObjectOptions) (err error) {
	size, err := m.partSize(ctx, src, info)
	if err != nil {
		return err
	}
	id, attempts, err := m.begin(ctx, m.req.To, o)
	m.strays = m.strays || attempts > 1
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && !errors.Is(err, errStop) {
			_ = m.abort(ctx, m.req.To, id) // what is left is found by dropUploads, or by the bucket's lifecycle
		}
	}()
	if err := m.at("upload begun"); err != nil {
		return err
	}
	parts, err := m.copyParts(ctx, src, id, size)
	if err != nil {
		return err
	}
	if err := m.at("parts copied"); err != nil {
		return err
	}
	if err := m.tell(0); err != nil {
		return err
	}
	return m.completeCopy(ctx, src, id, parts)
}

// completeCopy makes the target of the parts. Where the server fails, it is asked again only as long as the target is not
// there and the source is what it was: a large copy is not thrown away, and a target that was made and went on to another
// name is not made twice.
func (m *move) completeCopy(ctx context.Context, src archive.Object, id string, parts []minio.CompletePart) error {
	began := time.Now()
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		m.repeated = wait > firstWait
		err := m.once(ctx, copyFor, func(ctx context.Context) error {
			return m.complete(ctx, m.copies, m.req.To, id, parts, m.can.ConditionalComplete)
		})
		if err == nil || ctx.Err() != nil || !passing(err) || time.Since(began) > m.patient {
			return err
		}
		if _, look := m.Stat(ctx, m.req.To); !errors.Is(look, store.ErrNotExist) {
			return err // doubt looks at what it is
		}
		if m.can.folders() && m.unlessFolder(ctx, m.req.To) != nil {
			return err // and at this
		}
		if still, look := m.still(ctx, src); look != nil || !still {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// partSize divides the copy as the source was divided, if that can be known: then both have the same ETag.
func (m *move) partSize(ctx context.Context, src archive.Object, info minio.ObjectInfo) (int64, error) {
	_, count, inParts := strings.Cut(src.ETag, "-")
	n, err := strconv.ParseInt(count, 10, 64)
	if inParts && err == nil && n > 1 {
		first, err := m.firstPart(ctx, src)
		if err != nil {
			return 0, err
		}
		if first > 0 && first <= maxPartSize && (src.Size+first-1)/first == n {
			return first, nil
		}
	}
	if src.Size <= onePart {
		return max(src.Size, 1), nil
	}
	return min(max(maxPart, (src.Size+fewParts-1)/fewParts), maxPartSize), nil
}

// firstPart is the size of the first part of an object that was uploaded in parts, 0 if the server does not tell.
func (m *move) firstPart(ctx context.Context, src archive.Object) (int64, error) {
	o := minio.StatObjectOptions{PartNumber: 1}
	_, info, err := m.head(ctx, src.Key, o)
	if err != nil && !errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
		return 0, nil // a server that does not know the question
	}
	if err != nil || info.Size == src.Size || strings.Trim(info.ETag, `"`) != src.ETag {
		return 0, err
	}
	return info.Size, nil
}

func (m *move) copyParts(ctx context.Context, src archive.Object, id string, size int64) ([]minio.CompletePart, error) {
	var parts []minio.CompletePart
	for start := int64(0); start == 0 || start < src.Size; start += size {
		length := min(size, src.Size-start)
		if start == 0 && length == src.Size {
			length = -1 // no range: an empty object has none
		}
		var p minio.CompletePart
		err := m.try(ctx, copyFor, func(ctx context.Context) (err error) {
			p, err = m.copies.CopyObjectPart(ctx, m.bucket, m.name(src.Key), m.bucket, m.name(m.req.To), id, len(parts)+1, start, length,
				map[string]string{"x-amz-copy-source": m.source(src), "x-amz-copy-source-if-match": src.ETag})
			if err == nil && p.ETag == "" {
				err = errNothing // 200 with an error inside
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
		if err := m.tell(min(size, src.Size-start)); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// etagOf is the ETag that an object has whose parts have MD5 sums as theirs: the MD5 of these, with their number.
func etagOf(parts []minio.CompletePart) string {
	h := md5.New() //nolint:gosec // S3's ETags are MD5 sums
	for _, p := range parts {
		raw, err := hex.DecodeString(strings.Trim(p.ETag, `"`))
		if err != nil || len(raw) != md5.Size {
			return ""
		}
		h.Write(raw)
	}
	return hex.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts))
}

// verify makes sure that the target has the content and the tags of the source. Nothing is downloaded where the server's own
// sums are proof: the same checksum of the whole object on both, or ETags that are MD5 sums of the same division into parts.
// A target that is not right is left as it is: another execution may have found it right, and have deleted the source.
func (m *move) verify(ctx context.Context, src archive.Object, info minio.ObjectInfo, dst archive.Object, dstInfo minio.ObjectInfo) error {
	if dst.Size != src.Size || m.can.CountsTags && dstInfo.UserTagCount != info.UserTagCount {
		return fmt.Errorf("the copy has %d bytes and %d tags, the source %d and %d; both are left as they are: look at them, and delete the copy by hand",
			dst.Size, dstInfo.UserTagCount, src.Size, info.UserTagCount)
	}
	if sameContent(src, info, dst, dstInfo) {
		return nil
	}
	same, err := m.compare(ctx, src, dst)
	if err != nil {
		return err
	}
	if !same {
		return errors.New("the copy is not equal to the source; both are left as they are: look at them, and delete the copy by hand")
	}
	return nil
}

// sameContent reports whether what the server says proves equal contents.
func sameContent(src archive.Object, info minio.ObjectInfo, dst archive.Object, dstInfo minio.ObjectInfo) bool {
	theirs := fullChecksums(dstInfo)
	for _, ours := range fullChecksums(info) {
		for _, t := range theirs {
			if t.Algorithm() == ours.Algorithm() {
				return t == ours
			}
		}
	}
	switch {
	case encrypted(info) || encrypted(dstInfo): // ETags are no MD5 sums then
		return false
	case src.ETag == dst.ETag && isMD5(src.ETag):
		return true
	}
	// One part, whose sum the server computed while it copied, of a source whose ETag is its MD5 sum.
	raw, err := hex.DecodeString(src.ETag)
	return err == nil && len(raw) == md5.Size && dst.ETag == etagOf([]minio.CompletePart{{ETag: src.ETag}})
}

// isMD5 reports whether an ETag is an MD5 sum, or one of such sums with the number of parts.
func isMD5(etag string) bool {
	sum, _, _ := strings.Cut(etag, "-")
	raw, err := hex.DecodeString(sum)
	return err == nil && len(raw) == md5.Size
}

func encrypted(info minio.ObjectInfo) bool {
	sse := info.Headers.Get("X-Amz-Server-Side-Encryption")
	return sse != "" && sse != "AES256" || info.Headers.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") != ""
}

// compare reads both and compares them byte by byte.
func (m *move) compare(ctx context.Context, src, dst archive.Object) (bool, error) {
	a, err := m.Open(ctx, src.Key, 0, -1, src.Identity)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := m.Open(ctx, dst.Key, 0, -1, dst.Identity)
	if err != nil {
		return false, err
	}
	defer b.Close()
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		k, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:k]) {
			return false, nil
		}
		ended := errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF)
		switch {
		case ended && (errors.Is(errB, io.EOF) || errors.Is(errB, io.ErrUnexpectedEOF)):
			return true, nil
		case errA != nil && !ended, errB != nil:
			return false, errors.Join(errA, errB)
		}
	}
}

// dropUploads drops the unfinished uploads to exactly this target: an earlier execution may have died in the middle of one.
// One of another writer's that is under way is not told from ours; but what it would make, the plan has promised to us.
// Where the target was made, only those are dropped that executions of this request can have begun: not long after that.
func (m *move) dropUploads(ctx context.Context, made time.Time) error {
	var found minio.ListMultipartUploadsResult
	err := m.try(ctx, attemptFor, func(ctx context.Context) (err error) {
		found, err = m.calls.ListMultipartUploads(ctx, m.bucket, m.name(m.req.To), "", "", "", pageSize)
		return err
	})
	if err != nil {
		switch classify(err) {
		case classGone, classForbidden, classFinal: // it has no such list, or does not show it
			return nil
		}
		if isNotImplemented(err) {
			return nil
		}
		return m.unavailable(err)
	}
	for _, u := range found.Uploads {
		if u.Key != m.name(m.req.To) || !made.IsZero() && u.Initiated.After(made.Add(copyFor)) {
			continue
		}
		if err := m.abort(ctx, m.req.To, u.UploadID); err != nil {
			return err
		}
	}
	return nil
}
