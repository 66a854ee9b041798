package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// class is what an answer means for what to do next.
type class int

const (
	classFinal       class = iota // nothing will change by asking again
	classRetry                    // ask again: the server or the way to it failed
	classSlow                     // ask again later, and let all others wait too
	classGone                     // there is no such object
	classTaken                    // a condition does not hold: If-None-Match, If-Match
	classAgain                    // two conditional calls met: start again
	classCredentials              // the server does not accept who asks
	classForbidden                // who asks may not do that, or is not accepted: only a call with a body tells
	classBucket                   // there is no such bucket
	classRange                    // the range lies outside of the object
	classCold                     // the object has to be restored first
	classFull                     // there is no room
)

// classify reads an error of minio-go. Codes are those of Amazon's "List of error codes", and of the servers in
// docs/stores.md.
func classify(err error) class {
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		return classTransport(err)
	}
	switch r.Code {
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
		"RequestThrottled", "ServiceUnavailable", "Busy":
		return classSlow
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired",
		"XAdminUserNotFound", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed", "InvalidClientTokenId", "UnrecognizedClientException":
		return classCredentials
	case "NoSuchBucket":
		return classBucket
	case "InvalidObjectState":
		return classCold
	case "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "XMinioAdminBucketQuotaExceeded":
		return classFull
	case "ConditionalRequestConflict", "OperationAborted":
		return classAgain
	case "ObjectParentIsFile", "ExistingObjectIsDirectory", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory":
		return classTaken
	case "PreconditionFailed": // in a body under the status 200, too
		return classTaken
	case "InternalError", "RequestTimeout", "IncompleteBody":
		return classRetry
	case "AccessDenied":
		return classForbidden
	case "NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound":
		return classGone
	}
	return classOfStatus(r.StatusCode)
}

func classOfStatus(status int) class {
	switch status {
	case http.StatusNotFound:
		return classGone
	case http.StatusPreconditionFailed, http.StatusNotModified:
		return classTaken
	case http.StatusForbidden, http.StatusUnauthorized:
		return classForbidden
	case http.StatusRequestedRangeNotSatisfiable:
		return classRange
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return classSlow
	case http.StatusConflict:
		return classAgain
	case http.StatusInsufficientStorage:
		return classFull
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout, 499, 520, 0:
		return classRetry
	}
	return classFinal
}

// classTransport is for errors that are no answers. What a retry cannot mend (a certificate that is not trusted, a name
// that does not exist) is final.
func classTransport(err error) class {
	var dns *net.DNSError
	switch {
	case errors.Is(err, errSpoilt):
		return classFinal
	case errors.As(err, &dns) && dns.IsNotFound, strings.Contains(err.Error(), "x509:"), strings.Contains(err.Error(), "tls: "),
		strings.Contains(err.Error(), "gave HTTP response to HTTPS client"), strings.Contains(err.Error(), "unsupported protocol"):
		return classFinal
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errNothing), errors.Is(err, errIdle),
		errors.Is(err, context.DeadlineExceeded), isNet(err):
		return classRetry
	case strings.Contains(err.Error(), "XML"): // half an answer
		return classRetry
	}
	return classFinal
}

func isNet(err error) bool {
	var n net.Error
	errnos := []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, net.ErrClosed}
	return errors.As(err, &n) || slices.ContainsFunc(errnos, func(e error) bool { return errors.Is(err, e) }) ||
		strings.Contains(err.Error(), "server closed idle connection") || strings.Contains(err.Error(), "connection reset")
}

// convert makes an error of this store out of one of minio-go. It names neither the host's nor the request's secrets:
// minio-go's errors hold none, and signed headers are not part of them.
func convert(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnsupported) {
		return err
	}
	switch classify(err) {
	case classGone:
		return store.ErrNotExist
	case classTaken:
		return store.ErrExist
	case classBucket:
		return fmt.Errorf("%w: there is no such bucket; check its name, its region and the endpoint", store.ErrUnavailable)
	case classCredentials:
		return fmt.Errorf("%w: the server does not accept the credentials (%s); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile, "+
			"the region and this machine's clock", store.ErrUnavailable, words(err))
	case classForbidden:
		return fmt.Errorf("%w: the server refuses it to these credentials (%s)", store.ErrPermission, words(err))
	case classRetry, classSlow:
		return fmt.Errorf("%w: %s", store.ErrUnavailable, words(err))
	case classCold:
		return fmt.Errorf("%w: restore it first (%s)", store.ErrCold, words(err))
	case classFull:
		return fmt.Errorf("%w: %s", store.ErrNoSpace, words(err))
	default:
		return errors.New(words(err))
	}
}

// words are an error's words, escaped: a server, or whoever stands in between, chose them.
func words(err error) string {
	var r minio.ErrorResponse
	if errors.As(err, &r) && r.Code != "" {
		return archive.EscapeText(strings.TrimSuffix(r.Code+": "+r.Message, ": "))
	}
	return archive.EscapeText(err.Error())
}
