// Package progress shows how far a batch is: bars on a terminal, a line every few seconds elsewhere. Everything else that
// is written to the same place goes through the Display, so nothing is interleaved with the bars.
package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// Amount is how much of something is done.
type Amount struct {
	// Settled is recorded: it never goes backwards within one phase.
	Settled int64
	// InHand is being worked on and is done again if its worker dies.
	InHand int64
	// Total is negative while it is unknown; AtLeast is what is known of it then.
	Total, AtLeast int64
}

func (a Amount) done() int64 { return a.Settled + a.InHand }

// State is what is shown.
type State struct {
	// Phase is what is going on, in a word or two: "inspecting".
	Phase string
	// Counted: the phase counts objects; else only its name and the note are shown.
	Counted bool
	Objects Amount
	// Bytes of the objects; shown where there are any.
	Bytes  Amount
	Failed int64
	// Note is said beside it, as escaped text: "listing", "Redis does not answer".
	Note string
}

// Options of a Display.
type Options struct {
	// Bars draws bars; else there are lines.
	Bars bool
	// Every is the time between two lines. Defaults to 5 s.
	Every time.Duration
	// Columns says how wide the terminal is now, in cells. Defaults to 80.
	Columns func() int
}

// Display shows states on one writer. Show, Clear and Close are for one goroutine, Write is safe for concurrent use.
type Display struct {
	out     io.Writer
	options Options
	meter   meter
	phase   string
	next    time.Time // line

	mu   sync.Mutex
	bars bars
}

// firstLine is the time until the first line of a phase: what is shorter needs none.
const firstLine = time.Second

// New returns a display on out that shows nothing yet.
func New(out io.Writer, options Options) *Display {
	if options.Every <= 0 {
		options.Every = 5 * time.Second
	}
	if options.Columns == nil {
		options.Columns = func() int { return 80 }
	}
	return &Display{out: out, options: options}
}

// Show brings the display up to s. Call it several times a second: rates are measured from its calls.
func (d *Display) Show(s State) {
	now := time.Now()
	changed := s.Phase != d.phase
	if changed {
		d.meter, d.phase = meter{}, s.Phase
	}
	d.meter.add(now, s.Objects.done(), s.Bytes.done())
	v := view(s, d.meter)
	if d.options.Bars {
		d.draw(v)
		return
	}
	if changed {
		d.next = now.Add(min(firstLine, d.options.Every))
	}
	if !now.Before(d.next) {
		d.next = now.Add(d.options.Every)
		_, _ = io.WriteString(d, v.line+"\n")
	}
}

func (d *Display) draw(v shown) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bars.draw(d.out, v, d.columns())
}

// columns is at least what a label and a bar need.
func (d *Display) columns() int { return max(d.options.Columns(), 40) }

// Clear takes the bars away, so that the terminal is free until the next Show.
func (d *Display) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = io.WriteString(d.out, d.bars.erase())
}

// Close is Clear.
func (d *Display) Close() { d.Clear() }

// Write writes whole lines, above the bars where there are any.
func (d *Display) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bars.above(d.out, p, d.columns())
}

// shown is a state in words.
type shown struct {
	state              State
	phase, left, right string
	line               string
}

func view(s State, m meter) shown {
	v := shown{state: s, phase: s.Phase}
	if !s.Counted {
		v.right = s.Note
		v.line = join(": ", s.Phase, s.Note)
		return v
	}
	objects, bytes := m.rates()
	left := ""
	if d, ok := m.left(s); ok {
		left = duration(d) + " left"
	}
	failed := ""
	if s.Failed > 0 {
		failed = humanize.Comma(s.Failed) + " failed"
	}
	count, size := counted(s.Objects, humanize.Comma, " objects"), ""
	perSecond, bytesPerSecond := "", ""
	if objects > 0 {
		perSecond = rate(objects) + " objects/s"
	}
	if s.Bytes.done() > 0 || s.Bytes.Total > 0 || s.Bytes.AtLeast > 0 {
		size = counted(s.Bytes, ibytes, "")
	}
	if bytes > 0 {
		bytesPerSecond = ibytes(int64(bytes)) + "/s"
	}
	v.left = join("  ", count, perSecond, failed)
	v.right = join("  ", size, bytesPerSecond, left, s.Note)
	v.line = s.Phase + ": " + join(", ", count+percent(s.Objects), size, perSecond, bytesPerSecond, left, failed, s.Note)
	return v
}

func counted(a Amount, text func(int64) string, noun string) string {
	switch {
	case a.Total >= 0:
		return text(a.done()) + " of " + text(max(a.Total, a.done())) + noun
	case a.AtLeast > 0:
		return text(a.done()) + " of at least " + text(max(a.AtLeast, a.done())) + noun
	}
	return text(a.done()) + noun
}

func percent(a Amount) string {
	if a.Total <= 0 {
		return ""
	}
	return fmt.Sprintf(" (%d %%)", min(100, 100*a.done()/a.Total))
}

func ibytes(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

func rate(r float64) string {
	if r < 10 {
		return fmt.Sprintf("%.1f", r)
	}
	return humanize.Comma(int64(r + 0.5))
}

func join(sep string, parts ...string) string {
	var some []string
	for _, p := range parts {
		if p != "" {
			some = append(some, p)
		}
	}
	return strings.Join(some, sep)
}

// duration is d as people read it, with two units at most: "3m20s", "2h05m", "4d3h".
func duration(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
