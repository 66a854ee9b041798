package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/reshelf/reshelf/dashboard/internal/fleettest"
	"github.com/reshelf/reshelf/dashboard/internal/overview"
	"github.com/reshelf/reshelf/dashboard/web"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/telemetry"
)

func serve(t *testing.T, f *fleettest.Fleet, o web.Options) *httptest.Server {
	t.Helper()
	o.Redis, o.Ledger, o.Prefix = f.Server.Client(), f.Ledger, fleettest.Prefix
	d, err := web.New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(d)
	t.Cleanup(func() {
		server.Close()
		if err := d.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return server
}

// get returns the answer and its body.
func get(t *testing.T, url string, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// parse parses a page as browsers do.
func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// textOf is the text below n, its white space collapsed.
func textOf(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data + " ")
		}
	}
	return strings.ReplaceAll(strings.Join(strings.Fields(b.String()), " "), " ,", ",")
}

func byID(t *testing.T, doc *html.Node, id string) *html.Node {
	t.Helper()
	for n := range doc.Descendants() {
		if attr(n, "id") == id {
			return n
		}
	}
	t.Fatalf("no element %q", id)
	return nil
}

// section is the section with that heading.
func section(t *testing.T, doc *html.Node, id string) *html.Node {
	t.Helper()
	for n := byID(t, doc, id); n != nil; n = n.Parent {
		if n.Data == "section" {
			return n
		}
	}
	t.Fatalf("%q is in no section", id)
	return nil
}

func wantText(t *testing.T, n *html.Node, parts ...string) {
	t.Helper()
	got := textOf(n)
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("got %q, want it to hold %q", got, p)
		}
	}
}

func TestEmptyFleet(t *testing.T) {
	_, page := get(t, serve(t, fleettest.New(t), web.Options{}).URL)
	doc := parse(t, page)
	wantText(t, section(t, doc, "batches"), "No batch is in hand")
	wantText(t, section(t, doc, "workers"), "No worker is registered")
	wantText(t, section(t, doc, "queues"), "No queue was used yet")
	wantText(t, section(t, doc, "finished"), "No batch has been finished yet")
}

func TestPage(t *testing.T) {
	f := fleettest.New(t)
	listing := f.Submit(batch.Batch{Name: "Studio", Priority: batch.High, Submitted: time.Now().Add(-3 * time.Hour)})
	f.List(listing, 10, 1000, 1<<20)
	f.Settle(listing, batch.StepInspect, 0, 4, batch.Counts{Done: 999, Failed: 1, Bytes: 999 << 20})
	f.Work(listing, batch.StepInspect, 2, 500, 1<<20)
	asking := f.Submit(batch.Batch{Kind: batch.Rename})
	f.List(asking, 1, 1000, 10)
	f.Listed(asking)
	f.Settle(asking, batch.StepInspect, 0, 1, batch.Counts{Done: 1000, Bytes: 10000})
	f.Advance(asking, time.Time{}, batch.Planning, batch.AwaitingApproval)
	f.Register(ledger.Worker{ID: "w-1", Process: ledger.Process{Host: "nas", PID: 7}, Pools: []string{"default", "nas"}, Slots: 8, Busy: 3,
		Version: "v1", ExifToolVersion: "13.59", Health: map[string]string{"redis": "", "exiftool": "no perl"}}, 0)
	f.Register(ledger.Worker{ID: "w-2", Health: map[string]string{"redis": ""}}, time.Minute)
	f.Enqueue("nas", batch.Low, listing, 5)
	over := f.Write(batch.Batch{Name: "Old", Submitted: time.Now().Add(-30 * time.Hour)})
	f.Advance(over, time.Now().Add(-29*time.Hour), batch.Finishing, batch.Complete)
	f.Report(over, report.Summary{Counts: batch.Counts{Done: 12345, Skipped: 6, Failed: 7}, Listed: 12358, ListedBytes: 5 << 40, WorkingSeconds: 3700})

	_, page := get(t, serve(t, f, web.Options{Title: "redis://fleet"}).URL)
	doc := parse(t, page)
	wantText(t, byID(t, doc, "batch-"+string(listing.ID)), "Studio", "inspecting", "high priority", "3 h ago",
		"4,000 of at least 10,000 objects inspected, 1,000 in hand", "3.9 GiB of at least 9.8 GiB read", "1000 MiB in hand",
		"listing: 10,000 found so far, total not known yet", "4 failed")
	wantText(t, byID(t, doc, "batch-"+string(asking.ID)), "file:///mnt/photos", "awaiting approval", "1,000 of 1,000 objects",
		"reshelf apply "+string(asking.ID), "none failed")
	wantText(t, byID(t, doc, "worker-w-1"), "nas, process 7, v1, ExifTool 13.59, started", "default, nas", "3 of 8", "exiftool no perl")
	wantText(t, byID(t, doc, "worker-w-2"), "silent for 1 min")
	wantText(t, byID(t, doc, "pool-nas"), "nas", "5")
	wantText(t, byID(t, doc, "finished-"+string(over.ID)), "Old", "complete", "12,358", "12,345", "6", "7", "5.0 TiB", "29 h")
	wantText(t, doc, "redis://fleet", "2 workers, 2 unwell")
	checkBar(t, byID(t, doc, "batch-"+string(listing.ID)))
}

// checkBar checks the first bar: 4,000 settled and 1,000 in hand of at least 10,000, which fill four fifths.
func checkBar(t *testing.T, n *html.Node) {
	t.Helper()
	for c := range n.Descendants() {
		if c.Data != "rect" {
			continue
		}
		switch {
		case attr(c, "class") == "settled" && attr(c, "width") != "32.00%":
			t.Errorf("got %s settled, want 32.00%%", attr(c, "width"))
		case attr(c, "class") == "hand":
			if attr(c, "width") != "8.00%" || attr(c, "x") != "32.00%" {
				t.Errorf("got %s in hand from %s, want 8.00%% from 32.00%%", attr(c, "width"), attr(c, "x"))
			}
			return
		}
	}
	t.Error("no bar")
}

// hostile are texts that want to be more than text.
func hostile() []string {
	return []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'onmouseover='alert(1)`, "`--><svg onload=alert(1)>",
		`{{.}}</td></table><form action=//evil.example>`, "\x1b]0;title\x07\x1b[31m", "\u202egnp.exe\u2066", "\xff\xfe\x00", `javascript:alert(1)`,
	}
}

func TestHostileTexts(t *testing.T) {
	f := fleettest.New(t)
	health := map[string]string{}
	for _, h := range hostile() {
		health[h] = h
		b := f.Submit(batch.Batch{Name: h, Note: h, Labels: []string{h}, By: h})
		f.Happen(b, batch.Event{Kind: batch.EventPause, Reason: h})
		f.Register(ledger.Worker{ID: h, Process: ledger.Process{Host: h}, Pools: []string{h}, Version: h, Health: map[string]string{h: h}}, 0)
		over := f.Write(batch.Batch{Name: h, Submitted: time.Now().Add(-time.Hour)})
		f.Happen(over, batch.Event{Kind: batch.EventAdvance, To: batch.FailedState, Reason: h})
		adrift := f.Write(batch.Batch{Name: h, Submitted: time.Now().Add(-time.Hour)})
		for _, field := range []string{"archive", "pool", "priority", "state", "kind", "reason"} {
			if err := f.Server.Client().HSet(t.Context(), fleettest.Prefix+":{"+string(b.ID)+"}:batch", field, h).Err(); err != nil {
				t.Fatal(err)
			}
		}
		_ = adrift
		if err := f.Server.Client().SAdd(t.Context(), fleettest.Prefix+":active", h).Err(); err != nil {
			t.Fatal(err)
		}
	}
	server := serve(t, f, web.Options{Title: hostile()[0]})
	_, page := get(t, server.URL)
	doc := parse(t, page)
	wantText(t, doc, `<script>alert(1)</script>`, `\u{1b}]0;title\u{7}`, `\u{202e}gnp.exe`, `\xff\xfe\u{0}`)
	elements := map[string]int{}
	for n := range doc.Descendants() {
		if n.Type == html.TextNode {
			checkPrintable(t, n.Data)
			continue
		}
		elements[n.Data]++
		for _, a := range n.Attr {
			checkPrintable(t, a.Val)
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
			}
			if (a.Key == "href" || a.Key == "src" || a.Key == "action") && (strings.Contains(a.Val, ":") || strings.HasPrefix(a.Val, "/")) {
				t.Errorf("<%s> leads elsewhere: %s=%q", n.Data, a.Key, a.Val)
			}
		}
	}
	for name, want := range map[string]int{"script": 1, "img": 1, "form": 0, "iframe": 0, "style": 0} {
		if elements[name] != want {
			t.Errorf("got %d <%s>, want %d", elements[name], name, want)
		}
	}
	_, answer := get(t, server.URL+"/api/overview")
	checkPrintable(t, answer)
}

func checkPrintable(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("not UTF-8: %.100q", s)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) && r != '\n' && r != '\u00a0' {
			t.Errorf("rune %U in %.100q", r, s)
			return
		}
	}
}

func TestJSON(t *testing.T) {
	f := fleettest.New(t)
	b := f.Submit(batch.Batch{Name: "one"})
	f.List(b, 3, 10, 10)
	res, body := get(t, serve(t, f, web.Options{}).URL+"/api/overview")
	if got := res.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("got content type %q", got)
	}
	var o overview.Overview
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Batches) != 1 || o.Batches[0].ID != b.ID || o.Batches[0].Objects.Total != 30 || !o.Batches[0].Listing {
		t.Errorf("got %s", body)
	}
	if strings.Contains(body, "null") {
		t.Errorf("got a null where a list is expected: %s", body)
	}
}

func TestHeadersAndMethods(t *testing.T) {
	server := serve(t, fleettest.New(t), web.Options{})
	const strict = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
	for _, path := range []string{"/", "/api/overview", "/static/style.css", "/static/none"} {
		res, _ := get(t, server.URL+path)
		if got := res.Header.Get("Content-Security-Policy"); got != strict {
			t.Errorf("%s: got policy %q", path, got)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", path, name, got, want)
			}
		}
	}
	if res, _ := get(t, server.URL+"/queues/"); !strings.Contains(res.Header.Get("Content-Security-Policy"), "script-src 'self' 'unsafe-inline'") {
		t.Error("asynqmon's looser policy is not at /queues/")
	}
	tests := []struct {
		method, path, host string
		want               int
	}{
		{"GET", "/", "", 200}, {"HEAD", "/", "", 200}, {"POST", "/", "", 405}, {"DELETE", "/api/overview", "", 405}, {"GET", "/none", "", 404},
		{"GET", "/static/../web.go", "", 404}, {"GET", "/static/page.html", "", 404}, {"POST", "/queues/api/queues/x:pause", "", 405},
		{"GET", "/", "localhost:8080", 200}, {"GET", "/", "LOCALHOST", 200}, {"GET", "/", "[::1]:80", 200}, {"GET", "/", "127.9.9.9", 200},
		{"GET", "/", "evil.example", 403}, {"GET", "/queues/", "evil.example:8080", 403}, {"GET", "/api/overview", "localhost.evil.example", 403},
		{"GET", "/", "192.168.0.1:8080", 403},
	}
	for _, tt := range tests {
		res, body := get(t, server.URL+tt.path, func(r *http.Request) { r.Method, r.Host = tt.method, tt.host })
		if res.StatusCode != tt.want {
			t.Errorf("%s %s of host %q: got %d, want %d: %s", tt.method, tt.path, tt.host, res.StatusCode, tt.want, body)
		}
	}
}

func TestRemote(t *testing.T) {
	server := serve(t, fleettest.New(t), web.Options{Remote: true})
	if res, _ := get(t, server.URL, func(r *http.Request) { r.Host = "reshelf.example" }); res.StatusCode != http.StatusOK {
		t.Errorf("got %d, want 200 for any host where remote is allowed", res.StatusCode)
	}
}

func TestHealth(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
	server := serve(t, fleettest.New(t), web.Options{Health: telemetry.NewHealth().Handler(metrics)})
	for path, want := range map[string]string{"/livez": "ok\n", "/readyz": "ok\n", "/metrics": "up 1\n"} {
		if res, body := get(t, server.URL+path); body != want || res.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d %q, want 200 %q", path, res.StatusCode, body, want)
		}
	}
}

func TestAssets(t *testing.T) {
	server := serve(t, fleettest.New(t), web.Options{})
	_, page := get(t, server.URL)
	n := 0
	for e := range parse(t, page).Descendants() {
		for _, url := range []string{attr(e, "src"), attr(e, "href")} {
			if !strings.HasPrefix(url, "static/") {
				continue
			}
			n++
			res, body := get(t, server.URL+"/"+url)
			if res.StatusCode != http.StatusOK || body == "" || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s: got %d, %d bytes, %q", url, res.StatusCode, len(body), res.Header.Get("Cache-Control"))
			}
		}
	}
	if n < 4 {
		t.Errorf("the page loads %d files, want style, script and icon", n)
	}
}

// TestAccessible checks what can be checked without eyes and ears.
func TestAccessible(t *testing.T) {
	f := fleettest.New(t)
	b := f.Submit(batch.Batch{})
	f.List(b, 1, 10, 10)
	f.Register(ledger.Worker{ID: "w", Slots: 1}, 0)
	_, page := get(t, serve(t, f, web.Options{}).URL)
	count, ids := map[string]int{}, map[string]bool{}
	doc := parse(t, page)
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		if id := attr(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("two elements have the id %q", id)
			}
			ids[id] = true
		}
		switch {
		case n.Data == "th" && attr(n, "scope") == "":
			t.Errorf("a <th> has no scope: %q", textOf(n))
		case n.Data == "svg" && (attr(n, "role") != "img" || attr(n, "aria-label") == ""):
			t.Error("a bar has no name")
		case n.Data == "html" && attr(n, "lang") == "":
			t.Error("the page says no language")
		}
	}
	for name, want := range map[string]int{"h1": 1, "main": 1, "header": 2, "nav": 1, "noscript": 1} {
		if count[name] != want {
			t.Errorf("got %d <%s>, want %d", count[name], name, want)
		}
	}
	for n := range doc.Descendants() {
		if label := attr(n, "aria-labelledby"); label != "" && !ids[label] {
			t.Errorf("aria-labelledby names no element: %q", label)
		}
	}
}
