package s3store_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// fault is what a proxy does to one call.
type fault string

const (
	pass      fault = ""
	cutBefore fault = "cut before"  // the server never hears of it
	cutAfter  fault = "cut after"   // the server acts, and its answer is lost
	err500    fault = "500"         // before the server acts
	late500   fault = "late 500"    // after it has acted
	slowDown  fault = "503"         // SlowDown
	err429    fault = "429"         //
	embedded  fault = "200 error"   // 200 OK with an error inside, before the server acts; only for calls that can answer so
	lateEmbed fault = "late 200"    // and after it has acted
	cutBody   fault = "cut body"    // the answer ends half way
	stall     fault = "stall"       // the answer comes late
	hang      fault = "hang"        // the body of the answer stops half way, and nothing more comes
	wholeBody fault = "whole body"  // the range that is asked for is not heeded
	noIfMatch fault = "no If-Match" // nor the condition
	noETag    fault = "no ETag"     // the answer has none
	hollow    fault = "hollow"      // an upload counts as completed, and nothing is there
	liar      fault = "liar"        // a condition does not hold, and is not heeded; the answer is that of one who acted
	liar412   fault = "liar 412"    // or of one who refused
)

// everyFault are the faults that a store has to get over.
var everyFault = []fault{cutBefore, cutAfter, err500, late500, slowDown, err429, embedded, lateEmbed, cutBody, stall}

// call is what a plan knows of a call.
type call struct {
	*http.Request
	op string // "GET", "HEAD", "PUT", "DELETE", "list", "begin", "part", "copy part", "copy", "complete", "abort", "uploads"
	n  int    // how many of that kind came before
}

func opOf(r *http.Request) string {
	q := r.URL.Query()
	copies := r.Header.Get("X-Amz-Copy-Source") != ""
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "begin"
	case r.Method == http.MethodPut && q.Has("uploadId") && copies:
		return "copy part"
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return "part"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "complete"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "abort"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "uploads"
	case r.Method == http.MethodGet && (q.Has("list-type") || q.Has("versions")):
		return "list"
	case r.Method == http.MethodPut && copies:
		return "copy"
	}
	return r.Method
}

// proxy stands before a server and does to its calls what a plan says. It passes the Host header on, which is signed.
type proxy struct {
	url    string
	t      testing.TB
	server *s3test.Server
	plan   func(call) fault
	client *http.Client

	mu   sync.Mutex
	seen map[string]int
	hit  map[fault]int
	hung chan struct{}
	keys map[string]*sync.Mutex // of serial
}

// serial has writes to one key wait for each other. Versity Gateway 1.8 and rclone 1.76 delete in several steps: between
// them, what somebody else writes is lost, whoever deletes, and of two deletions of one version at once, one may take what
// the other brought back.
func (x *proxy) serial(path string) (unlock func()) {
	x.mu.Lock()
	m := x.keys[path]
	if m == nil {
		m = &sync.Mutex{}
		x.keys[path] = m
	}
	x.mu.Unlock()
	m.Lock()
	return m.Unlock
}

func newProxy(t testing.TB, server *s3test.Server, plan func(call) fault) *proxy {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	x := &proxy{
		t: t, server: server, plan: plan, client: &http.Client{Transport: transport},
		seen: map[string]int{}, hit: map[fault]int{}, hung: make(chan struct{}), keys: map[string]*sync.Mutex{},
	}
	s := httptest.NewServer(x)
	x.url = s.URL
	t.Cleanup(func() {
		close(x.hung)
		s.Close()
		transport.CloseIdleConnections()
	})
	return x
}

// calls says how many calls of a kind came.
func (x *proxy) calls(op string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen[op]
}

// maxProxied bounds what the proxy holds of a call, in bytes.
const maxProxied = 64 << 20

func (x *proxy) choose(r *http.Request) fault {
	x.mu.Lock()
	c := call{r, opOf(r), x.seen[opOf(r)]}
	x.seen[c.op]++
	x.mu.Unlock()
	if r.URL.Query().Has("renameObject") {
		x.t.Error("renameObject was called: servers empty the target")
	}
	f := x.plan(c)
	switch f {
	case embedded, lateEmbed:
		if c.op != "copy" && c.op != "copy part" && c.op != "complete" {
			f = pass
		}
	case wholeBody, noIfMatch:
		if c.op != "GET" {
			f = pass
		}
	case cutBody, hang:
		if c.op != "GET" && c.op != "list" {
			f = pass
		}
	}
	x.mu.Lock()
	x.hit[f]++
	x.mu.Unlock()
	return f
}

// ServeHTTP implements http.Handler.
func (x *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(io.LimitReader(r.Body, maxProxied))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f := x.choose(r)
	switch f {
	case cutBefore:
		panic(http.ErrAbortHandler)
	case err500:
		answerError(w, r, http.StatusInternalServerError, "InternalError")
		return
	case slowDown:
		answerError(w, r, http.StatusServiceUnavailable, "SlowDown")
		return
	case err429:
		answerError(w, r, http.StatusTooManyRequests, "TooManyRequests")
		return
	case embedded:
		answerError(w, r, http.StatusOK, "InternalError")
		return
	case wholeBody, noIfMatch:
		x.unheeding(w, r, f)
		return
	case hollow:
		_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><ETag>"e-1"</ETag></CompleteMultipartUploadResult>`)
		return
	}
	if f == liar || f == liar412 {
		x.lie(r)
	}
	resp, err := x.forward(r, content)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if f == liar412 {
		resp.Body.Close()
		answerError(w, r, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	defer resp.Body.Close()
	switch f {
	case cutAfter:
		panic(http.ErrAbortHandler)
	case late500:
		answerError(w, r, http.StatusInternalServerError, "InternalError")
		return
	case lateEmbed:
		answerError(w, r, http.StatusOK, "InternalError")
		return
	case stall:
		time.Sleep(200 * time.Millisecond)
	}
	for name, values := range resp.Header {
		if name != "Etag" || f != noETag {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	if f != cutBody && f != hang {
		_, _ = io.Copy(w, resp.Body)
		return
	}
	_, _ = io.CopyN(w, resp.Body, max(resp.ContentLength/2, 1))
	if f == hang {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-x.hung:
		case <-r.Context().Done():
		}
	}
	panic(http.ErrAbortHandler)
}

// lie has a condition hold: the object that is in the way is deleted, and the one that is to be deleted only if it is another
// is deleted all the same.
func (x *proxy) lie(r *http.Request) {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if r.Header.Get("If-None-Match") != "" {
		if err := x.server.Client().RemoveObject(r.Context(), bucket, name, minio.RemoveObjectOptions{}); err != nil {
			x.t.Error(err)
		}
	}
	if r.Method == http.MethodDelete {
		r.Header.Del("If-Match") // which is not signed
	}
}

// unheeding answers a GET as a server does that heeds no range, or no condition.
func (x *proxy) unheeding(w http.ResponseWriter, r *http.Request, f fault) {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	var o minio.GetObjectOptions
	status := http.StatusOK
	if span := r.Header.Get("Range"); span != "" && f != wholeBody {
		o.Set("Range", span)
		status = http.StatusPartialContent
	}
	body, _, header, err := minio.Core{Client: x.server.Client()}.GetObject(r.Context(), bucket, name, o)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer body.Close()
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	_, _ = io.Copy(w, body)
}

func (x *proxy) forward(r *http.Request, content []byte) (*http.Response, error) {
	u, err := url.Parse(x.server.Endpoint())
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	switch opOf(r) {
	case "PUT", "DELETE", "complete", "copy":
		defer x.serial(r.URL.Path)()
		ctx = context.WithoutCancel(ctx) // or the server goes on, and nobody waits for it
	}
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host = u.Scheme, u.Host
	out.RequestURI = ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(content)), int64(len(content))
	if len(content) == 0 {
		out.Body = http.NoBody
	}
	return x.client.Transport.RoundTrip(out)
}

func answerError(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, strings.NewReader("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>"+code+"</Code><Message>made by a test</Message></Error>"))
	}
}
