package telemetry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
)

// Check looks at one thing that a program depends on.
type Check struct {
	// Name is short and unique: "redis", "ledger".
	Name string
	// Probe returns why the thing does not work now, nil if it does. It should end with its context.
	Probe func(ctx context.Context) error
	// Every is the time from the end of one probe to the next. Defaults to 10 s.
	Every time.Duration
	// Timeout bounds a probe. Defaults to 5 s.
	Timeout time.Duration
}

// CheckStatus is what is known of one check.
type CheckStatus struct {
	Name string `json:"name"`
	// OK: the last probe that ended found nothing wrong, and the present one does not hang.
	OK bool `json:"ok"`
	// LastOK is when a probe last ended well, zero if never.
	LastOK time.Time `json:"lastOK,omitzero"`
	// LastError is what the last failed probe said, as escaped text, also when later ones went well; LastErrorAt is when.
	LastError   string    `json:"lastError,omitempty"`
	LastErrorAt time.Time `json:"lastErrorAt,omitzero"`
	// Hanging: a probe has not come back though its time is over.
	Hanging bool `json:"hanging,omitempty"`
}

// Health runs checks and tells whether the program is ready. It is safe for concurrent use. The program is not ready
// before every check has gone well once.
type Health struct {
	mu       sync.Mutex
	checks   []*check
	notReady string // why; "" if nothing speaks against it
	cancel   context.CancelFunc
	done     chan struct{} // closed when all probes have ended; nil before Start
}

type check struct {
	Check
	status CheckStatus
	due    time.Time // when the present probe's time is over; zero between probes
}

// NewHealth returns a Health without checks.
func NewHealth() *Health { return &Health{} }

// Register adds a check. It must be called before Start, once for each name.
func (h *Health) Register(c Check) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done != nil {
		return fmt.Errorf("register check %s: the checks run already", c.Name)
	}
	for _, other := range h.checks {
		if other.Name == c.Name {
			return fmt.Errorf("register check %s: there is one already", c.Name)
		}
	}
	c.Every, c.Timeout = cmp.Or(c.Every, 10*time.Second), cmp.Or(c.Timeout, 5*time.Second)
	h.checks = append(h.checks, &check{Check: c, status: CheckStatus{Name: c.Name}})
	return nil
}

// Start begins to probe, each check by itself, so that one that hangs delays no other. It returns at once. The probes'
// contexts have the values of ctx but do not end with it.
func (h *Health) Start(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done != nil {
		return errors.New("health: started twice")
	}
	ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	h.done = done
	var probes sync.WaitGroup
	for _, c := range h.checks {
		probes.Go(func() { h.run(ctx, c) })
	}
	go func() {
		probes.Wait()
		close(done)
	}()
	return nil
}

// Stop ends the probes and waits for them until ctx ends. A probe that is deaf to its context is left behind and named.
func (h *Health) Stop(ctx context.Context) error {
	h.mu.Lock()
	done, cancel := h.done, h.cancel
	h.mu.Unlock()
	if done == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("health: checks still running: %s: %w", strings.Join(h.probing(), ", "), ctx.Err())
	}
}

func (h *Health) probing() (names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.checks {
		if !c.due.IsZero() {
			names = append(names, c.Name)
		}
	}
	return names
}

func (h *Health) run(ctx context.Context, c *check) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		h.probe(ctx, c)
		pause.Reset(c.Every)
	}
}

func (h *Health) probe(ctx context.Context, c *check) {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	h.mu.Lock()
	c.due = time.Now().Add(c.Timeout)
	h.mu.Unlock()
	err := c.Probe(limited)
	h.mu.Lock()
	defer h.mu.Unlock()
	c.due = time.Time{}
	if ctx.Err() != nil {
		return // stopped, which says nothing about the thing
	}
	c.status.OK = err == nil
	if err != nil {
		c.status.LastError, c.status.LastErrorAt = archive.EscapeText(err.Error()), time.Now()
	} else {
		c.status.LastOK = time.Now()
	}
}

// Snapshot is the present status of each check, in the order they were registered.
func (h *Health) Snapshot() []CheckStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]CheckStatus, len(h.checks))
	for i, c := range h.checks {
		all[i] = c.status
		if !c.due.IsZero() && time.Now().After(c.due) {
			all[i].Hanging, all[i].OK = true, false
		}
	}
	return all
}

// SetReady(false, reason) makes the program not ready whatever its checks say: "shutting down". SetReady(true, "")
// takes that back.
func (h *Health) SetReady(ready bool, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notReady = ""
	if !ready {
		h.notReady = cmp.Or(reason, "not ready")
	}
}

// Ready reports whether the program is ready, and if not, why.
func (h *Health) Ready() (ready bool, why string) {
	h.mu.Lock()
	reason := h.notReady
	h.mu.Unlock()
	var reasons []string
	if reason != "" {
		reasons = append(reasons, reason)
	}
	for _, s := range h.Snapshot() {
		switch {
		case s.Hanging:
			reasons = append(reasons, s.Name+" hangs")
		case !s.OK && s.LastError == "":
			reasons = append(reasons, s.Name+" is not checked yet")
		case !s.OK:
			reasons = append(reasons, s.Name+" fails")
		}
	}
	return len(reasons) == 0, strings.Join(reasons, ", ")
}

// Handler serves /livez, which is 200 as long as the process answers (a dependency that fails is no reason to restart
// it), /readyz, which is 200 or 503, and metrics at /metrics. With ?verbose the first two show every check as JSON.
func (h *Health) Handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, true, "") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready, why := h.Ready()
		h.answer(w, r, ready, why)
	})
	mux.Handle("GET /metrics", metrics)
	return mux
}

func (h *Health) answer(w http.ResponseWriter, r *http.Request, ok bool, why string) {
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !r.URL.Query().Has("verbose") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprintln(w, cmp.Or(why, "ok"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct { // an error here means that the client is gone
		OK     bool          `json:"ok"`
		Why    string        `json:"why,omitempty"`
		Checks []CheckStatus `json:"checks"`
	}{ok, why, h.Snapshot()})
}
