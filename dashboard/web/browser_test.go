package web_test

import (
	"context"
	"errors"
	"flag"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/reshelf/reshelf/dashboard/internal/fleettest"
	"github.com/reshelf/reshelf/dashboard/web"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
)

var update = flag.Bool("update", false, "write docs/images/dashboard*.png")

// browser is one tab of a real Chromium that notes what goes wrong in it.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in it

	mu       sync.Mutex
	requests []string
}

// newBrowser starts Chromium. Where there is none the test fails: a skipped test of the page would look like a passed one.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("install chromium (Debian: apt-get install chromium): %v", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-GB"))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox does not work for root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() { cancel(); stop() })
	b := &browser{t: t, ctx: ctx}
	b.do(chromedp.EmulateViewport(1360, 900))
	return b
}

// do runs steps, each bounded.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	for _, s := range steps {
		run(b, s)
	}
}

func run[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	// The first call starts the browser, which would end with a context of its own.
	timer := time.AfterFunc(2*time.Minute, func() { _ = chromedp.Cancel(b.ctx) })
	defer timer.Stop()
	out, err := chromedp.Run(b.ctx, a)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// watch notes requests from now on, and returns what yields the messages of the console so far: errors of scripts, files
// that did not load, and violations of the policy.
func (b *browser) watch() (complaints func() []string) {
	b.t.Helper()
	err := chromedp.Listen(b.ctx, func(e any) {
		if r, ok := e.(*network.EventRequestWillBeSent); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.requests = append(b.requests, r.Request.URL)
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	messages := chromedp.Console(ctx)
	var all []string
	var mu sync.Mutex
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, string(m.Type)+": "+m.Text+" "+m.URL)
			mu.Unlock()
		}
	}()
	b.t.Cleanup(func() { cancel(); <-done })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), all...)
	}
}

// until waits for an expression to be true.
func (b *browser) until(expression string) {
	b.t.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(time.Minute)))
	if err != nil {
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		b.t.Fatalf("never true: %s: %v; the page says %.3000s", expression, err, text)
	}
}

// TestBrowser sees a batch get on without loading the page again.
func TestBrowser(t *testing.T) {
	f := fleettest.New(t)
	one := f.Submit(batch.Batch{Name: "Studio <b>archive</b>"})
	f.List(one, 10, 1000, 1<<20)
	f.Settle(one, batch.StepInspect, 0, 4, batch.Counts{Done: 1000, Bytes: 1000 << 20})
	signs := f.Work(one, batch.StepInspect, 2, 100, 1<<20)
	f.Register(ledger.Worker{ID: "worker-1", Slots: 4, Busy: 2, Health: map[string]string{"redis": ""}}, 0)
	f.Enqueue("default", batch.Normal, one, 3)
	server := serve(t, f, web.Options{Title: "a fleet"})
	b := newBrowser(t)
	complaints := b.watch()

	b.do(chromedp.Navigate(server.URL))
	first := "#batch-" + string(one.ID)
	text := "document.querySelector('" + first + "').innerText"
	b.until("document.getElementById('connection').textContent === 'live'")
	b.until(text + ".includes('Studio <b>archive</b>')")
	b.until(text + ".includes('4,000 of at least 10,000 objects inspected, 200 in hand')")
	// What is marked here stays only as long as the page is not loaded again and the element is the same.
	run(b, chromedp.Evaluate[bool]("window.marked = document.querySelector('"+first+"'), marked.querySelector('h3').tabIndex = 0, true"))
	width := run(b, chromedp.Evaluate[float64](widthOf(first)))

	signs[0].Objects = 700
	f.Beat(one, signs)
	b.until(text + ".includes('800 in hand')")
	f.Settle(one, batch.StepInspect, 4, 6, batch.Counts{Done: 990, Failed: 10, Bytes: 990 << 20})
	f.Listed(one)
	b.until(text + ".includes('6,000 of 10,000 objects inspected') && " + text + ".includes('20 failed')")
	b.until(widthOf(first) + " > 1.4 * " + strconv.FormatFloat(width, 'f', 2, 64))
	two := f.Submit(batch.Batch{Name: "Second"})
	b.until("document.querySelectorAll('article').length === 2 && document.querySelector('article').id === 'batch-" + string(two.ID) + "'")
	f.Forget(two)
	b.until("document.querySelectorAll('article').length === 1")
	b.until("marked === document.querySelector('" + first + "')")
	b.until("document.title === '(1) Reshelf'")

	b.do(chromedp.Navigate(server.URL + "/queues/"))
	b.until("document.body.innerText.includes('reshelf-default-normal')")
	asynqmon := func(message string) bool { return strings.Contains(message, "fonts.googleapis.com") }
	for _, c := range complaints() {
		if !asynqmon(c) { // asks for fonts of another site, which its policy refuses
			t.Errorf("the browser complains: %s", c)
		}
	}
	b.checkRequests(server.URL)
}

func widthOf(batch string) string {
	return "document.querySelector('" + batch + " .settled').getBoundingClientRect().width"
}

// checkRequests checks that nothing was asked of another site.
func (b *browser) checkRequests(own string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.requests) < 5 {
		b.t.Errorf("got %d requests, want those of the page and its refreshing", len(b.requests))
	}
	for _, r := range b.requests {
		u, err := url.Parse(r)
		if err != nil || !strings.HasPrefix(r, own+"/") && u.Scheme != "data" && u.Host != "fonts.googleapis.com" {
			b.t.Errorf("asked of another site: %s", r)
		}
	}
}

// TestBrowserSaysWhenTheDashboardIsGone: what is shown is then old.
func TestBrowserSaysWhenTheDashboardIsGone(t *testing.T) {
	f := fleettest.New(t)
	f.Submit(batch.Batch{Name: "kept"})
	server := serve(t, f, web.Options{})
	b := newBrowser(t)
	b.do(chromedp.Navigate(server.URL))
	b.until("document.getElementById('connection').className === 'live'")
	server.CloseClientConnections()
	server.Close()
	b.until("document.getElementById('connection').innerText.includes('does not answer')")
	b.until("document.querySelector('article').innerText.includes('kept')")
}

// TestBrowserWithoutScripts: the page is whole, and reloads itself.
func TestBrowserWithoutScripts(t *testing.T) {
	f := fleettest.New(t)
	f.Submit(batch.Batch{Name: "kept"})
	server := serve(t, f, web.Options{})
	b := newBrowser(t)
	b.do(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	_ = b.watch()
	b.do(chromedp.Navigate(server.URL))
	if got := run(b, chromedp.Text(chromedp.CSS("article"))); !strings.Contains(got, "kept") {
		t.Errorf("got %q", got)
	}
	deadline := time.Now().Add(time.Minute)
	for b.pages(server.URL+"/") < 2 {
		if time.Now().After(deadline) {
			t.Fatal("the page did not reload itself")
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-b.ctx.Done():
			t.Fatal(b.ctx.Err())
		}
	}
}

func (b *browser) pages(of string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		if r == of {
			n++
		}
	}
	return n
}

// TestScreenshots draws a fleet at work. With -update the pictures are those of the documentation.
func TestScreenshots(t *testing.T) {
	f := fleettest.New(t)
	work := atWork(f)
	server := serve(t, f, web.Options{Title: "redis://redis.fleet:6379 · file:///srv/reshelf"})
	b := newBrowser(t)
	for _, scheme := range []string{"light", "dark"} {
		b.do(emulate(scheme), chromedp.Navigate(server.URL))
		b.until("document.getElementById('connection').textContent === 'live'")
		work.goOn()
		b.until("document.querySelector('.tiles').innerText.includes('/s read')")
		if run(b, chromedp.Evaluate[bool]("document.documentElement.scrollWidth > innerWidth")) {
			t.Error("the page is wider than the window")
		}
		if *update {
			picture(t, b, map[string]string{"light": "dashboard.png", "dark": "dashboard-dark.png"}[scheme])
		}
	}
	b.do(chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL))
	if run(b, chromedp.Evaluate[bool]("document.documentElement.scrollWidth > innerWidth")) {
		t.Error("the page is wider than a telephone")
	}
}

func emulate(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			},
		})
		return err
	})
}

func picture(t *testing.T, b *browser, name string) {
	t.Helper()
	png := run(b, chromedp.FullScreenshot(100))
	dir := filepath.Join("..", "..", "docs", "images")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), png, 0o644)); err != nil {
		t.Fatal(err)
	}
}
