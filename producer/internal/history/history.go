// Package history follows objects through the renames and undos of all batches of a ledger.
//
// Batches that are finished have an index of names (report.NamesName), so a name is looked up with a few small reads in each,
// and only the segments of the plan that have it are read. Of a batch that is not finished the whole plan is read.
//
// Batches are taken in the order in which they were finished. Where two renamed the same objects at the same time, that
// order may not be the one in which the objects moved.
package history

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

// atOnce is how many batches are looked into at once.
const atOnce = 16

// generation of the rename step.
const generation = 1

// Move is one rename that an object took part in, or that was tried in vain.
type Move struct {
	Batch   batch.ID     `json:"batch"`
	Kind    batch.Kind   `json:"kind"`
	Archive archive.Root `json:"archive"`
	// Template by which a rename made the name; Undoes is the batch that an undo takes back.
	Template string   `json:"template,omitempty"`
	Undoes   batch.ID `json:"undoes,omitempty"`
	// Began is when the plan was approved, Finished when the report was written, absent while it is not.
	Began    time.Time   `json:"began,omitzero"`
	Finished time.Time   `json:"finished,omitzero"`
	From     archive.Key `json:"from"`
	To       archive.Key `json:"to"`
	// Method is that of a batch that copies: From has not lost the name, and the object at To is a copy, or a hard link, of it.
	Method batch.Method `json:"method,omitempty"`
	// Moved: the object, or its copy, has been given the name To. Outcome is that of the record, absent where there is none yet.
	Moved   bool          `json:"moved"`
	Outcome batch.Outcome `json:"outcome,omitempty"`
	Reason  batch.Reason  `json:"reason,omitempty"`
	Message string        `json:"message,omitempty"`

	source, row int64
	// stayed: this is what became of the object at From, which was copied; not of its copy.
	stayed bool
}

// Object is what became of one object.
type Object struct {
	// Archive is the one that the keys First and Last are below: that of the newest move.
	Archive archive.Root `json:"archive"`
	// First is the oldest name that is known, Last the newest.
	First archive.Key `json:"first"`
	Last  archive.Key `json:"last"`
	// Lost: another object was given the name Last later, so this one was moved away or deleted by somebody else before.
	Lost bool `json:"lost,omitempty"`
	// More: there are more moves than were asked for.
	More bool `json:"more,omitempty"`
	// Moves, the newest first.
	Moves []Move `json:"moves"`
}

// source is a batch that may have renamed objects.
type source struct {
	batch   batch.Batch
	summary report.Summary
	over    bool // it has a summary
}

// History knows the batches of a ledger, in memory: some kilobytes for each. What it has looked up it keeps. It is not safe for
// concurrent use.
type History struct {
	led     *ledger.Ledger
	sources []source // in the order in which they were finished
	found   map[name][]event
	// slow is told the batches whose whole plan has to be read, each once.
	slow func(batch.ID)
	told map[batch.ID]bool
}

// Open reads what batches there are. slow is told of each batch whose whole plan has to be read.
func Open(ctx context.Context, led *ledger.Ledger, slow func(batch.ID)) (*History, error) {
	h := &History{led: led, found: map[name][]event{}, slow: slow, told: map[batch.ID]bool{}}
	var ids []batch.ID
	for id, err := range led.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	all := make([]*source, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, id := range ids {
		g.Go(func() (err error) {
			all[i], err = readSource(ctx, led, id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, s := range all {
		if s != nil {
			h.sources = append(h.sources, *s)
		}
	}
	slices.SortStableFunc(h.sources, func(a, b source) int {
		if a.over != b.over {
			return map[bool]int{true: -1, false: 1}[a.over]
		}
		return cmp.Or(a.summary.Finished.Compare(b.summary.Finished), strings.Compare(string(a.batch.ID), string(b.batch.ID)))
	})
	return h, nil
}

// readSource returns nil for a batch that has renamed nothing.
func readSource(ctx context.Context, led *ledger.Ledger, id batch.ID) (*source, error) {
	b, err := led.Batch(ctx, id)
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	}
	if err != nil || !b.Kind.Has(batch.StepRename) {
		return nil, err
	}
	s := &source{batch: b, over: true}
	c, err := led.Store().Open(ctx, ledger.Key(id, "report", report.SummaryName), 0, -1, archive.Identity{})
	if err == nil {
		s.summary, err = report.ReadSummary(c)
		return s, errors.Join(err, c.Close())
	}
	if !errors.Is(err, store.ErrNotExist) {
		return nil, err
	}
	s.over = false
	st, err := led.Status(ctx, b)
	if err != nil || st.Approved == "" {
		return nil, err
	}
	return s, nil
}

// Roots are the archives of the batches that may have renamed objects.
func (h *History) Roots() []archive.Root {
	var out []archive.Root
	for _, s := range h.sources {
		if !slices.Contains(out, s.batch.Archive) {
			out = append(out, s.batch.Archive)
		}
	}
	return out
}

// name is a key wherever the root is that it is seen from.
type name struct{ space, path string }

// space is what the names of a root have in common, and the folder that it is.
func space(r archive.Root) (string, string) {
	if r.Scheme() == archive.SchemeFile {
		return archive.SchemeFile, strings.TrimSuffix(r.Path(), "/") + "/"
	}
	_, settings, _ := strings.Cut(r.String(), "?")
	below := r.Path()
	if below != "" {
		below += "/"
	}
	return r.Scheme() + "://" + r.Bucket() + "?" + settings, below
}

func nameOf(r archive.Root, key archive.Key) name {
	s, below := space(r)
	return name{s, below + string(key)}
}

// in is the key of a name below a root, and false if it is not there.
func (n name) in(r archive.Root) (archive.Key, bool) {
	s, below := space(r)
	key, ok := strings.CutPrefix(n.path, below)
	return archive.Key(key), ok && s == n.space && key != ""
}

// event is a move that has a name: the object came to it, left it, or stayed at it.
type event struct {
	move Move
	kind eventKind
}

type eventKind int

// Kinds of event, in the order in which they are at a name within one batch.
const (
	left eventKind = iota
	came
	stayed // it was to leave in vain, or was copied
)

// events are what batches did with a name, the oldest first.
func (h *History) events(ctx context.Context, n name) ([]event, error) {
	if ev, ok := h.found[n]; ok {
		return ev, nil
	}
	found := make([][]event, len(h.sources))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, s := range h.sources {
		key, ok := n.in(s.batch.Archive)
		if !ok {
			continue
		}
		if s.scanned() && !h.told[s.batch.ID] {
			h.told[s.batch.ID] = true
			h.slow(s.batch.ID)
		}
		g.Go(func() (err error) {
			found[i], err = h.look(gctx, s, int64(i), key)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	h.found[n] = slices.Concat(found...)
	return h.found[n], nil
}

// scanned reports whether the whole plan of a batch has to be read: it is not finished, or was by a program that made no index.
func (s source) scanned() bool {
	return !s.over || s.index() == nil && s.summary.Renamed+s.summary.Copied > 0
}

func (s source) index() *report.File {
	i := slices.IndexFunc(s.summary.Files, func(f report.File) bool { return f.Name == report.NamesName })
	if i < 0 {
		return nil
	}
	return &s.summary.Files[i]
}

// look finds what a batch did with a key.
func (h *History) look(ctx context.Context, s source, number int64, key archive.Key) ([]event, error) {
	var segments []int
	switch index := s.index(); {
	case s.scanned():
	case index == nil:
		return nil, nil
	default:
		var err error
		if segments, err = report.FindName(ctx, index.Size, h.reader(index.Key), key); err != nil || len(segments) == 0 {
			return nil, err
		}
	}
	plan, _, err := h.led.Plan(ctx, s.batch.ID)
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s.scanned() {
		for n := range plan.Segments {
			segments = append(segments, n)
		}
	}
	var out []event
	for _, n := range segments {
		ev, err := h.segment(ctx, s, plan, n, key)
		if err != nil {
			return nil, err
		}
		out = append(out, ev...)
	}
	if len(out) == 0 {
		return nil, nil
	}
	status, err := h.led.Events(ctx, s.batch.ID, 0)
	if err != nil {
		return nil, err
	}
	for i := range out {
		m := &out[i].move
		m.source, m.Finished = number, s.summary.Finished
		for _, e := range status {
			if e.Kind == batch.EventApprove {
				m.Began = e.At
			}
		}
	}
	slices.SortStableFunc(out, func(a, b event) int { return cmp.Compare(a.kind, b.kind) })
	return out, nil
}

func (h *History) reader(key archive.Key) func(context.Context, int64, int64) ([]byte, error) {
	return func(ctx context.Context, offset, n int64) ([]byte, error) {
		c, err := h.led.Store().Open(ctx, key, offset, n, archive.Identity{})
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(io.LimitReader(c, n))
		return raw, errors.Join(err, c.Close())
	}
}

// segment finds a key in a segment of a plan.
func (h *History) segment(ctx context.Context, s source, plan batch.Plan, n int, key archive.Key) ([]event, error) {
	rows, err := h.led.PlanRows(ctx, plan, n)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r batch.Row) bool { return !r.Moves() || r.From != key && r.To != key })
	if len(rows) == 0 {
		return nil, nil
	}
	records := map[archive.Key]batch.Record{}
	for r, err := range h.led.Part(ctx, batch.Ref{Batch: s.batch.ID, Step: batch.StepRename, Generation: generation, Segment: n}) {
		if errors.Is(err, store.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		records[r.Key] = r
	}
	var out []event
	for _, r := range rows {
		rec := records[r.From]
		m := Move{
			Batch: s.batch.ID, Kind: s.batch.Kind, Archive: s.batch.Archive, Undoes: s.batch.Undoes, From: r.From, To: r.To,
			Moved: rec.To != "" || rec.Copy != "" || rec.Outcome == batch.Done, Method: s.batch.Method(), Outcome: rec.Outcome, Reason: rec.Reason, Message: rec.Message, row: r.N,
		}
		if rec.To != "" {
			m.To = rec.To // of a circle that was left half way, an object can be at another name of it
		}
		if s.batch.Kind == batch.Rename && s.batch.Renaming != nil {
			m.Template = s.batch.Renaming.Template
		}
		switch {
		case m.Moved && r.From == key && s.batch.Copies():
			m.stayed = true
			out = append(out, event{m, stayed})
		case m.Moved && r.From == key:
			out = append(out, event{m, left})
		case m.Moved && m.To == key:
			out = append(out, event{m, came})
		case !m.Moved && r.From == key && (rec.Outcome != "" && rec.Reason != batch.ReasonCancelled || !s.over):
			out = append(out, event{m, stayed})
		}
	}
	return out, nil
}
