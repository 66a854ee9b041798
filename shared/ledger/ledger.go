// Package ledger is where batches live. Ledger holds what must survive (batches, events, segments, parts, plans, reports) on a
// store; Live holds the state of batches in hand in Redis, which can be lost at any time and be rebuilt from the Ledger.
//
// Layout of the store, one folder for each batch:
//
//	batches/<id>/batch.json                                    the submission; never changes
//	batches/<id>/manifest/…                                    the objects to take, where they are named (see package listing)
//	batches/<id>/events/<n>.json                               decisions and state changes; created if absent
//	batches/<id>/segments/<step>/<generation>/<n>              what one task does; created if absent
//	batches/<id>/segments/<step>/<generation>/sealed.json      how many there are
//	batches/<id>/records/<step>/<generation>/<n>               the part: what became of it; created if absent
//	batches/<id>/partial/<step>/<generation>/<n>/<epoch>       what an interrupted execution had finished
//	batches/<id>/executions/<step>/<generation>/<n>/<epoch>…   processes that may move objects
//	batches/<id>/plan/<epoch>/rows/<n>, batches/<id>/plan.json rows, and the manifest that seals them
//	batches/<id>/report/…                                      what the batch hands over
//	probe/…                                                    written and removed to see whether the ledger takes anything
//
// Numbers are written with ten digits, epochs with twenty, so that keys sort as numbers do.
package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// ErrCorrupt: something in the ledger is not what it should be. It is never repaired by guessing.
var ErrCorrupt = errors.New("ledger is damaged")

// Ledger is the durable half. It is safe for concurrent use by many processes: everything that decides anything is
// created if absent, and never replaced.
type Ledger struct{ store store.Store }

// New returns the ledger on st.
func New(st store.Store) *Ledger { return &Ledger{store: st} }

// Store is the store below the ledger; reports and sort runs are written to it with keys from Key.
func (l *Ledger) Store() store.Store { return l.store }

// Key is the key of a batch's file: parts joined with slashes below the batch's folder.
func Key(id batch.ID, parts ...string) archive.Key {
	return archive.Key("batches/" + string(id) + "/" + strings.Join(parts, "/"))
}

func number(n int) string { return fmt.Sprintf("%010d", n) }

func epochText(e int64) string { return fmt.Sprintf("%020d", e) }

// Probe reports nil if the ledger takes what is written to it now: store.ErrNoSpace if it is full. What it writes it removes.
func (l *Ledger) Probe(ctx context.Context) error {
	key := archive.Key("probe/" + rand.Text())
	if err := l.store.Create(ctx, key, strings.NewReader("probe")); err != nil {
		return err
	}
	return l.store.Delete(ctx, key, archive.Identity{})
}

// CreateBatch stores a new batch: store.ErrExist if its id is taken.
func (l *Ledger) CreateBatch(ctx context.Context, b batch.Batch) error {
	if err := b.Validate(); err != nil {
		return err
	}
	return l.createJSON(ctx, Key(b.ID, "batch.json"), b)
}

// Batch reads a batch: store.ErrNotExist if there is none.
func (l *Ledger) Batch(ctx context.Context, id batch.ID) (batch.Batch, error) {
	var b batch.Batch
	if _, err := batch.ParseID(string(id)); err != nil {
		return b, err
	}
	if err := l.readJSON(ctx, Key(id, "batch.json"), &b); err != nil {
		return b, err
	}
	if b.ID != id {
		return b, fmt.Errorf("batch %s says it is batch %q: %w", id, b.ID, ErrCorrupt)
	}
	return b, b.Validate()
}

// Batches yields the ids of all batches, oldest first, in one listing that looks at nothing but batch.json. A folder
// without it is a submission that was not finished, and is passed over.
func (l *Ledger) Batches(ctx context.Context) iter.Seq2[batch.ID, error] {
	return func(yield func(batch.ID, error) bool) {
		for e, err := range l.store.List(ctx, store.ListOptions{Prefix: batchesPrefix, Skip: notBatchFile}) {
			if err == nil && e.Kind == store.Unreadable {
				err = e.Err
			}
			if err != nil {
				yield("", fmt.Errorf("list the batches: %w", err))
				return
			}
			id, err := batch.ParseID(strings.TrimSuffix(strings.TrimPrefix(string(e.Key), batchesPrefix), "/"+batchFile))
			if err == nil && !yield(id, nil) {
				return
			}
		}
	}
}

// CreateEvent stores event e of a batch: store.ErrExist if there is an event of that number already.
func (l *Ledger) CreateEvent(ctx context.Context, id batch.ID, e batch.Event) error {
	e.V = batch.Version
	return l.createJSON(ctx, Key(id, "events", number(e.N)+".json"), e)
}

// Events reads the events after number after, in order. There are few in any batch's life.
func (l *Ledger) Events(ctx context.Context, id batch.ID, after int) ([]batch.Event, error) {
	var out []batch.Event
	for n := after + 1; ; n++ {
		var e batch.Event
		err := l.readJSON(ctx, Key(id, "events", number(n)+".json"), &e)
		if errors.Is(err, store.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if e.N != n || e.V != batch.Version {
			return nil, fmt.Errorf("batch %s: event %d says it is event %d, version %d: %w", id, n, e.N, e.V, ErrCorrupt)
		}
		out = append(out, e)
	}
}

// Status folds all events of b.
func (l *Ledger) Status(ctx context.Context, b batch.Batch) (batch.Status, error) {
	events, err := l.Events(ctx, b.ID, 0)
	if err != nil {
		return batch.Status{}, err
	}
	return b.Initial().Fold(events)
}

// Seal says that a step has total segments; sealing again with the same total is no error.
func (l *Ledger) Seal(ctx context.Context, id batch.ID, step batch.Step, generation, total int) error {
	key := Key(id, "segments", string(step), number(generation), "sealed.json")
	err := l.createJSON(ctx, key, sealed{V: batch.Version, Total: total})
	if !errors.Is(err, store.ErrExist) {
		return err
	}
	got, _, err := l.Sealed(ctx, id, step, generation)
	if err == nil && got != total {
		return fmt.Errorf("batch %s: step %s is sealed with %d segments, not %d: %w", id, step, got, total, ErrCorrupt)
	}
	return err
}

type sealed struct {
	V     int `json:"v"`
	Total int `json:"total"`
}

// Sealed returns the number of segments of a sealed step, and false if it is not sealed.
func (l *Ledger) Sealed(ctx context.Context, id batch.ID, step batch.Step, generation int) (int, bool, error) {
	var s sealed
	err := l.readJSON(ctx, Key(id, "segments", string(step), number(generation), "sealed.json"), &s)
	if errors.Is(err, store.ErrNotExist) {
		return 0, false, nil
	}
	if err == nil && s.V != batch.Version {
		err = fmt.Errorf("batch %s: step %s is sealed in version %d; this program knows %d: %w", id, step, s.V, batch.Version, ErrCorrupt)
	}
	return s.Total, err == nil, err
}

// WritePlanRows stores the rows of one segment of the rename step below a plan's epoch. It may be repeated: whatever an
// earlier execution with the same epoch left is replaced, since nothing refers to it before SealPlan.
func (l *Ledger) WritePlanRows(ctx context.Context, id batch.ID, epoch int64, n int, rows []batch.Row) (batch.PlanSegment, error) {
	seg := batch.PlanSegment{Rows: int64(len(rows))}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for _, r := range rows {
		if r.Moves() {
			seg.Moves++
		}
		if err := enc.Encode(r); err != nil {
			return seg, fmt.Errorf("plan row %d: %w", r.N, err)
		}
	}
	if buf.Len() > maxSmall {
		return seg, fmt.Errorf("plan segment %d: %d rows take %d bytes; at most %d can be read", n, len(rows), buf.Len(), maxSmall)
	}
	sum := sha256.Sum256(buf.Bytes())
	seg.SHA256 = hex.EncodeToString(sum[:])
	return seg, l.store.Replace(ctx, planRowsKey(id, epoch, n), compress(buf.Bytes()))
}

func planRowsKey(id batch.ID, epoch int64, n int) archive.Key {
	return Key(id, "plan", epochText(epoch), "rows", number(n))
}

// PlanRows reads the rows of segment n of a sealed plan, and checks them against the plan.
func (l *Ledger) PlanRows(ctx context.Context, p batch.Plan, n int) ([]batch.Row, error) {
	if n < 0 || n >= len(p.Segments) {
		return nil, fmt.Errorf("batch %s: plan has no segment %d: %w", p.Batch, n, ErrCorrupt)
	}
	key := planRowsKey(p.Batch, p.Epoch, n)
	raw, err := l.readCompressed(ctx, key)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != p.Segments[n].SHA256 {
		return nil, fmt.Errorf("%s: rows are not those that were planned: %w", key, ErrCorrupt)
	}
	rows := make([]batch.Row, 0, p.Segments[n].Rows)
	for line := range bytes.Lines(raw) {
		var r batch.Row
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", key, ErrCorrupt, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// SealPlan stores the plan's manifest: store.ErrExist if the batch has a sealed plan already (read that one instead).
func (l *Ledger) SealPlan(ctx context.Context, p batch.Plan) error {
	p.V = batch.Version
	return l.createJSON(ctx, Key(p.Batch, "plan.json"), p)
}

// Plan reads the sealed plan of a batch and its digest (SHA-256 of the manifest as stored, hex): store.ErrNotExist.
func (l *Ledger) Plan(ctx context.Context, id batch.ID) (batch.Plan, string, error) {
	var p batch.Plan
	raw, err := l.read(ctx, Key(id, "plan.json"))
	if err != nil {
		return p, "", err
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, "", fmt.Errorf("%s: %w: %w", Key(id, "plan.json"), ErrCorrupt, err)
	}
	sum := sha256.Sum256(raw)
	return p, hex.EncodeToString(sum[:]), nil
}

// Rows yields all rows of a plan in order.
func (l *Ledger) Rows(ctx context.Context, p batch.Plan) iter.Seq2[batch.Row, error] {
	return func(yield func(batch.Row, error) bool) {
		for n := range p.Segments {
			rows, err := l.PlanRows(ctx, p, n)
			if err != nil {
				yield(batch.Row{}, err)
				return
			}
			for _, r := range rows {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// Execution is a process that may be moving objects of a segment. It is written before the first move, so that an undo,
// or anything else that builds on the moves, can wait until the process has ended its work or is gone.
type Execution struct {
	batch.Ref
	Epoch   int64   `json:"epoch"`
	Process Process `json:"process"`
	Ended   bool    `json:"-"`
	// Again: the segment may have been begun by an earlier execution.
	Again bool `json:"-"`
}

// Process tells one process from every other, on every machine and over every restart.
type Process struct {
	Worker string `json:"worker"`
	Host   string `json:"host"`
	// Boot is the machine's boot id with the PID namespace; Start is the process's start time in clock ticks since boot.
	Boot  string `json:"boot"`
	PID   int    `json:"pid"`
	Start int64  `json:"start"`
}

// BeginExecution writes e before the first move.
func (l *Ledger) BeginExecution(ctx context.Context, e Execution) error {
	return l.createJSON(ctx, executionKey(e, ""), e)
}

// EndExecution says that e's process will move nothing more under it. It may be repeated.
func (l *Ledger) EndExecution(ctx context.Context, e Execution) error {
	err := l.store.Create(ctx, executionKey(e, endedSuffix), bytes.NewReader(nil))
	if errors.Is(err, store.ErrExist) {
		return nil
	}
	return err
}

// endedSuffix sorts right after the key of the execution that it ends.
const endedSuffix = ".ended"

func executionKey(e Execution, suffix string) archive.Key {
	return Key(e.Batch, "executions", string(e.Step), number(e.Generation), number(e.Segment), epochText(e.Epoch)+suffix)
}

// Executions yields all executions of a batch that have not ended.
func (l *Ledger) Executions(ctx context.Context, id batch.ID) iter.Seq2[Execution, error] {
	return l.executions(ctx, Key(id, "executions", ""))
}

// SegmentExecutions yields the executions of one segment that have not ended.
func (l *Ledger) SegmentExecutions(ctx context.Context, ref batch.Ref) iter.Seq2[Execution, error] {
	return l.executions(ctx, Key(ref.Batch, "executions", string(ref.Step), number(ref.Generation), number(ref.Segment), ""))
}

// Repeated reports whether the segment of e has other executions than e, ended or not.
func (l *Ledger) Repeated(ctx context.Context, e Execution) (bool, error) {
	prefix := Key(e.Batch, "executions", string(e.Step), number(e.Generation), number(e.Segment), "")
	for name, err := range l.names(ctx, string(prefix)) {
		if err != nil {
			return false, err
		}
		if !strings.HasSuffix(name, endedSuffix) && name != epochText(e.Epoch) {
			return true, nil
		}
	}
	return false, nil
}

func (l *Ledger) executions(ctx context.Context, prefix archive.Key) iter.Seq2[Execution, error] {
	return func(yield func(Execution, error) bool) {
		var open archive.Key
		report := func() bool {
			if open == "" {
				return true
			}
			var e Execution
			err := l.readJSON(ctx, open, &e)
			return yield(e, err) && err == nil
		}
		for entry, err := range l.store.List(ctx, store.ListOptions{Prefix: string(prefix)}) {
			if err != nil {
				yield(Execution{}, err)
				return
			}
			if begun, ended := strings.CutSuffix(string(entry.Key), endedSuffix); ended {
				if begun == string(open) {
					open = ""
				} // else it was ended without having begun, and moved nothing
				continue
			}
			if !report() {
				return
			}
			open = entry.Key
		}
		report()
	}
}

// Begun yields the segments of a step that any execution began to work on, ended or not, in order.
func (l *Ledger) Begun(ctx context.Context, id batch.ID, step batch.Step, generation int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		last := -1
		for name, err := range l.names(ctx, string(Key(id, "executions", string(step), number(generation), ""))) {
			text, _, _ := strings.Cut(name, "/")
			n, convErr := strconv.Atoi(text)
			if err == nil && (convErr != nil || n == last) {
				continue
			}
			last = n
			if !yield(n, err) || err != nil {
				return
			}
		}
	}
}

// names yields what follows prefix in the keys that begin with it, in ascending order.
func (l *Ledger) names(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for e, err := range l.store.List(ctx, store.ListOptions{Prefix: prefix}) {
			if !yield(strings.TrimPrefix(string(e.Key), prefix), err) || err != nil {
				return
			}
		}
	}
}

func (l *Ledger) createJSON(ctx context.Context, key archive.Key, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return l.store.Create(ctx, key, bytes.NewReader(append(raw, '\n')))
}

func (l *Ledger) readJSON(ctx context.Context, key archive.Key, v any) error {
	raw, err := l.read(ctx, key)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w: %w", key, ErrCorrupt, err)
	}
	return nil
}

// maxSmall bounds what is read whole: manifests and rows, never records.
const maxSmall = 256 << 20

func (l *Ledger) read(ctx context.Context, key archive.Key) ([]byte, error) {
	c, err := l.store.Open(ctx, key, 0, -1, archive.Identity{})
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(c, maxSmall+1))
	err = errors.Join(err, c.Close())
	if err == nil && len(raw) > maxSmall {
		err = fmt.Errorf("larger than %d bytes: %w", maxSmall, ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return slices.Clip(raw), nil
}

// SaveProgress keeps a copy of a batch's live progress beside it, for other processes where Redis is embedded in one.
func (l *Ledger) SaveProgress(ctx context.Context, p Progress) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("progress of batch %s: %w", p.ID, err)
	}
	return l.store.Replace(ctx, Key(p.ID, "progress.json"), bytes.NewReader(raw))
}

// SavedProgress reads what SaveProgress kept: store.ErrNotExist if nothing was.
func (l *Ledger) SavedProgress(ctx context.Context, id batch.ID) (Progress, error) {
	var p Progress
	err := l.readJSON(ctx, Key(id, "progress.json"), &p)
	return p, err
}
