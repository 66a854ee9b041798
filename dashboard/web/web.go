// Package web serves the dashboard: one page that keeps itself up to date, the same as JSON, and asynqmon.
package web

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/reshelf/reshelf/dashboard/internal/overview"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/monitor"
)

// Options configure a Dashboard.
type Options struct {
	// Redis and Ledger are the caller's and must outlive the dashboard, which only reads them. Prefix is that of queues
	// and keys in Redis.
	Redis  queue.Client
	Ledger *ledger.Ledger
	Prefix string
	// Title names the fleet on the page, as text for people: where Redis and the ledger are.
	Title string
	// Remote serves requests whatever host they name. Without it only those that name this machine are served, so that
	// a page of another site cannot read the dashboard through a name that it points to this machine (DNS rebinding).
	Remote bool
	// Health, if set, serves /livez, /readyz and /metrics.
	Health http.Handler
	Log    *slog.Logger
}

// Dashboard is an http.Handler. There is no login.
type Dashboard struct {
	source  *overview.Source
	page    *page
	handler http.Handler
	log     *slog.Logger
}

// queuesPath is where asynqmon is.
const queuesPath = "/queues"

// New builds a dashboard and starts nothing.
func New(o Options) (*Dashboard, error) {
	live, err := ledger.NewLive(o.Redis, o.Prefix)
	if err != nil {
		return nil, err
	}
	queues, err := monitor.Handler(o.Redis, queuesPath)
	if err != nil {
		return nil, err
	}
	d := &Dashboard{log: o.Log, source: overview.New(o.Ledger, live, queue.NewQueues(o.Redis, o.Prefix), o.Prefix)}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	assets, err := readAssets()
	if err != nil {
		return nil, err
	}
	if d.page, err = newPage(o.Title, assets); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(queuesPath+"/", queues) // it has a policy of its own
	mux.Handle("GET /{$}", guarded(d.servePage))
	mux.Handle("GET /api/overview", guarded(d.serveJSON))
	mux.Handle("GET /static/{name}", guarded(assets.serve))
	if o.Health != nil {
		mux.Handle("/livez", o.Health)
		mux.Handle("/readyz", o.Health)
		mux.Handle("/metrics", o.Health)
	}
	d.handler = mux
	if !o.Remote {
		d.handler = localOnly(mux)
	}
	return d, nil
}

// ServeHTTP implements http.Handler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.handler.ServeHTTP(w, r) }

// Close waits until ctx ends for what still reads the ledger. Stop serving before.
func (d *Dashboard) Close(ctx context.Context) error { return d.source.Close(ctx) }

func (d *Dashboard) servePage(w http.ResponseWriter, r *http.Request) {
	o, err := d.source.Overview(r.Context())
	if err != nil {
		return // the client has gone
	}
	html, err := d.page.render(o)
	if err != nil {
		d.log.ErrorContext(r.Context(), "page", "error", err)
		http.Error(w, "the page cannot be made; the log of reshelf-dashboard says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(html) // an error means that the client has gone
}

func (d *Dashboard) serveJSON(w http.ResponseWriter, r *http.Request) {
	o, err := d.source.Overview(r.Context())
	if err != nil {
		return // the client has gone
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(o) // an error means that the client has gone
}

// policy lets the page load its own files and nothing else: no inline script or style, no other site, no frame.
const policy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"

// guarded sets the headers of everything but asynqmon.
func guarded(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next(w, r)
	})
}

// localOnly refuses requests for hosts other than this machine.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !IsLocal(r.Host) {
			http.Error(w, fmt.Sprintf("this dashboard answers only to localhost, not to %q; see --allow-remote", r.Host), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// IsLocal reports whether host, with or without a port, names this machine: localhost or a loopback address.
func IsLocal(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
