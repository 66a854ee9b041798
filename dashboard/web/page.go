package web

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/reshelf/reshelf/dashboard/internal/overview"
	"github.com/reshelf/reshelf/shared/batch"
)

// page renders overviews. It keeps the last one, so that many viewers cost no more than one.
type page struct {
	template *template.Template
	title    string
	assets   assets

	mu   sync.Mutex
	of   *overview.Overview
	html []byte
}

func newPage(title string, a assets) (*page, error) {
	p := &page{title: title, assets: a}
	t, err := template.New("page.html").Funcs(template.FuncMap{
		"asset": a.url, "comma": humanize.Comma, "ibytes": ibytes, "ibytes64": ibytes64, "rate": rate, "duration": duration, "ago": ago,
		"when": when, "bar": barOf, "seconds": seconds, "silent": silent, "tone": tone, "verb": verb, "step": stepWords,
		"words": words, "inside": inside, "amount": amount,
	}).ParseFS(files, "page.html")
	p.template = t
	return p, err
}

// view is what the template sees.
type view struct {
	*overview.Overview
	Title      string
	Priorities []batch.Priority
	Pools      []pool
	// Unwell counts workers of those shown that are silent or have a failing check.
	Unwell                           int
	ObjectsPerSecond, BytesPerSecond float64
}

// pool is one line of the table of queues, with a queue or nil for each priority.
type pool struct {
	Name   string
	Queues []*overview.Queue
}

func (p *page) render(o *overview.Overview) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == o {
		return p.html, nil
	}
	var out bytes.Buffer
	if err := p.template.Execute(&out, viewOf(o, p.title)); err != nil {
		return nil, err
	}
	p.of, p.html = o, out.Bytes()
	return p.html, nil
}

func viewOf(o *overview.Overview, title string) view {
	v := view{Overview: o, Title: title, Priorities: batch.Priorities(), Pools: poolsOf(o.Queues)}
	for _, w := range o.Workers {
		if !w.Well() || silent(w) != "" {
			v.Unwell++
		}
	}
	for _, b := range o.Batches {
		v.ObjectsPerSecond += b.ObjectsPerSecond
		v.BytesPerSecond += b.BytesPerSecond
	}
	return v
}

func poolsOf(queues []overview.Queue) []pool {
	var pools []pool
	for i := range queues {
		q := &queues[i]
		at := slices.Index(batch.Priorities(), q.Priority)
		if at < 0 {
			continue
		}
		n := slices.IndexFunc(pools, func(p pool) bool { return p.Name == q.Pool })
		if n < 0 {
			pools = append(pools, pool{q.Pool, make([]*overview.Queue, len(batch.Priorities()))})
			n = len(pools) - 1
		}
		pools[n].Queues[at] = q
	}
	slices.SortFunc(pools, func(a, b pool) int { return cmp.Compare(a.Name, b.Name) })
	return pools
}

// bar is an amount as shares of its total, in percent of the bar's length.
type bar struct {
	Settled, InHand string
	// Percent of the total that is settled, whole; -1 if the total is not known.
	Percent int64
}

func barOf(a overview.Amount, open bool) bar {
	whole := float64(max(a.Total, a.Settled+a.InHand, 1))
	if open {
		whole *= 1.25 // there is more to come: the bar never looks full
	}
	share := func(n int64) string { return strconv.FormatFloat(100*float64(max(0, n))/whole, 'f', 2, 64) + "%" }
	b := bar{Settled: share(a.Settled), InHand: share(a.InHand), Percent: -1}
	if !open && a.Total > 0 {
		b.Percent = min(100, 100*a.Settled/a.Total)
	}
	return b
}

func amount(n, total int) overview.Amount {
	return overview.Amount{Settled: int64(n), Total: int64(total)}
}

// part is a batch with the view that it is on.
type part struct {
	All   view
	Batch overview.Batch
}

func inside(all view, b overview.Batch) part { return part{all, b} }

func ibytes64(n float64) string { return ibytes(int64(n)) }

func ibytes(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// rate is a number a second, with two significant digits where it is small.
func rate(r float64) string {
	if r >= 10 {
		return humanize.Comma(int64(r + 0.5))
	}
	return strconv.FormatFloat(r, 'f', 1, 64)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// duration is d as people read it, with two units at most: "3 min 20 s", "4 d 3 h".
func duration(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// ago is how long before now t was, in one unit.
func ago(now, t time.Time) string {
	d := max(0, now.Sub(t))
	switch {
	case t.IsZero():
		return "never"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours())/24)
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// silentAfter is when a worker's claims may be given to others.
const silentAfter = 6 * time.Second

// silent says for how long a worker has been silent, "" if it has not been for long.
func silent(w overview.Worker) string {
	if d := seconds(w.Silent); d >= silentAfter {
		return "silent for " + duration(d)
	}
	return ""
}

// tone is the class of what stands for a state.
func tone(s batch.State, paused, cancelled bool) string {
	switch {
	case s == batch.Complete:
		return "good"
	case s == batch.FailedState:
		return "bad"
	case s == batch.Cancelled || cancelled || paused:
		return "still"
	case s == batch.AwaitingApproval:
		return "ask"
	}
	return "work"
}

// verb says what became of the objects that a step counts.
func verb(s batch.Step) string {
	if s == batch.StepRename {
		return "renamed or left"
	}
	return "inspected"
}

// stepWords say how far a step is, in segments.
func stepWords(s overview.Step) string {
	segments := humanize.Comma(int64(s.Settled)) + " of " + humanize.Comma(int64(max(s.Known, s.Total))) + " segments"
	switch {
	case s.Over:
		return "done"
	case s.Now && s.Total < 0:
		return "at work: " + segments + " so far"
	case s.Now:
		return "at work: " + segments
	}
	return "to come"
}

// words are a state as people read it.
func words(state string) string { return strings.ReplaceAll(state, "-", " ") }
