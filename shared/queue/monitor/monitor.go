// Package monitor mounts asynqmon, the web pages of asynq, for looking only.
package monitor

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"
)

// Handler returns asynqmon's pages, for mounting at rootPath ("/queues") and everything below it, with the path left
// as it is. The pages change nothing: methods other than GET and HEAD are answered with 405, and requests that a
// page of another site makes with 403. There is no login here; mount it behind one.
//
// The client stays the caller's and must outlive the handler. There is nothing to close.
func Handler(client redis.UniversalClient, rootPath string) (http.Handler, error) {
	rootPath = strings.TrimSuffix(rootPath, "/")
	if !strings.HasPrefix(rootPath, "/") {
		return nil, errors.New("asynqmon: the root path must begin with a slash and name a folder")
	}
	if u, err := url.Parse(rootPath); err != nil || u.Path != rootPath || u.EscapedPath() != rootPath {
		return nil, fmt.Errorf("asynqmon: root path %q: want plain letters and slashes", rootPath)
	}
	pages := asynqmon.New(asynqmon.Options{RootPath: rootPath, RedisConnOpt: connected{client}, ReadOnly: true})
	return guard(pages, rootPath+"/api/"), nil
}

// connected gives asynqmon a client that exists. Asynqmon's own Close would close it, so nobody calls that.
type connected struct{ client redis.UniversalClient }

// MakeRedisClient implements asynq.RedisConnOpt.
func (c connected) MakeRedisClient() any { return c.client }

// policy keeps the pages from loading anything from elsewhere (asynqmon asks for fonts of another site, and does well
// without). Its scripts and styles are inline.
const policy = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

func guard(pages http.Handler, apiPath string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", policy)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "these pages are for looking only", http.StatusMethodNotAllowed)
			return
		}
		if isForeign(r) {
			http.Error(w, "requests from other sites are refused", http.StatusForbidden)
			return
		}
		switch {
		case strings.HasPrefix(r.URL.Path, apiPath):
			pages.ServeHTTP(&typedResponse{ResponseWriter: w, contentType: "application/json"}, asGet(r))
		case strings.HasSuffix(r.URL.Path, ".svg"):
			pages.ServeHTTP(&typedResponse{ResponseWriter: w, contentType: "image/svg+xml"}, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// isForeign reports whether a browser says that another site's page sent r.
func isForeign(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host == "" || u.Host != r.Host
}

// asGet answers HEAD, which asynqmon's API does not know, like GET: the server leaves the body out.
func asGet(r *http.Request) *http.Request {
	if r.Method != http.MethodHead {
		return r
	}
	r = r.Clone(r.Context())
	r.Method = http.MethodGet
	return r
}

// typedResponse corrects the type of asynqmon's good answers: it sends JSON without saying so, which then counts as
// text, and calls images text too, which browsers that may not sniff do not show. Errors stay text.
type typedResponse struct {
	http.ResponseWriter
	contentType string
	wrote       bool
}

func (w *typedResponse) WriteHeader(status int) {
	if !w.wrote && status < http.StatusBadRequest {
		w.Header().Set("Content-Type", w.contentType)
	}
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *typedResponse) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *typedResponse) Unwrap() http.ResponseWriter { return w.ResponseWriter }
