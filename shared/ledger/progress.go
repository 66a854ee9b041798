package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/batch"
)

// Progress is what Redis knows of a batch in hand.
type Progress struct {
	ID         batch.ID
	Kind       batch.Kind
	Archive    string
	Name       string
	Pool       string
	Status     batch.Status
	Generation int
	Submitted  time.Time
	// Listed so far; the listing has ended when Total of the inspect step is not negative.
	ListedObjects, ListedBytes, ListedExcluded int64
	Steps                                      map[batch.Step]StepProgress
	// Window is the segments enqueued or claimed, bounded by the dispatch window.
	Window []WindowEntry
}

// StepProgress is how far one step is. Settled counts never go backwards within one Redis lifetime.
type StepProgress struct {
	Known   int // segments made so far
	Total   int // -1 until sealed
	Settled int
	Counts  batch.Counts
}

// WindowEntry is one segment of the window. Objects and Bytes are work in hand, not settled.
type WindowEntry struct {
	Step    batch.Step
	Segment int
	Attempt int
	State   string // "q" enqueued, "c" claimed, "r" to be dispatched again
	Epoch   int64
	Worker  string
	Objects int64
	Bytes   int64
}

// Progress reads the live state of one batch: ErrNotLive if Redis does not know it.
func (l *Live) Progress(ctx context.Context, id batch.ID) (Progress, error) {
	b, w, _ := l.keys(id)
	var hash, window *redis.MapStringStringCmd
	_, err := l.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		hash, window = p.HGetAll(ctx, b), p.HGetAll(ctx, w)
		return nil
	})
	if err != nil {
		return Progress{}, fmt.Errorf("read batch %s: %w", id, err)
	}
	if len(hash.Val()) == 0 {
		return Progress{}, fmt.Errorf("batch %s: %w", id, ErrNotLive)
	}
	p := decodeProgress(id, hash.Val())
	for _, f := range slices.Sorted(maps.Keys(window.Val())) {
		p.Window = append(p.Window, decodeEntry(f, window.Val()[f]))
	}
	return p, nil
}

func decodeProgress(id batch.ID, h map[string]string) Progress {
	num := func(f string, missing int64) int64 {
		n, err := strconv.ParseInt(h[f], 10, 64)
		if err != nil {
			return missing
		}
		return n
	}
	p := Progress{
		ID: id, Kind: batch.Kind(h["kind"]), Archive: h["archive"], Name: h["name"], Pool: h["pool"],
		Generation: int(num("generation", 1)), Submitted: time.UnixMilli(num("submitted", 0)).UTC(),
		ListedObjects: num("listed.objects", 0), ListedBytes: num("listed.bytes", 0), ListedExcluded: num("listed.excluded", 0),
		Status: batch.Status{
			State: batch.State(h["state"]), Event: int(num("event", 0)), Paused: h["paused"] == "1",
			Cancelled: h["cancelled"] == "1", Priority: batch.Priority(h["priority"]), Reason: h["reason"],
		},
		Steps: map[batch.Step]StepProgress{},
	}
	for _, s := range p.Kind.Steps() {
		f := string(s)
		p.Steps[s] = StepProgress{
			Known: int(num(f+".known", 0)), Total: int(num(f+".total", -1)), Settled: int(num(f+".settled", 0)),
			Counts: batch.Counts{Done: num(f+".done", 0), Skipped: num(f+".skipped", 0), Failed: num(f+".failed", 0), Bytes: num(f+".bytes", 0)},
		}
	}
	return p
}

func decodeEntry(f, raw string) WindowEntry {
	var e struct {
		A       int
		S, E, W string
		P       string
	}
	if err := json.Unmarshal([]byte(raw), &e); err != nil {
		return WindowEntry{State: "?"}
	}
	step, segment, _ := strings.Cut(f, "/")
	out := WindowEntry{Step: batch.Step(step), Attempt: e.A, State: e.S, Worker: e.W}
	out.Segment, _ = strconv.Atoi(segment)
	out.Epoch, _ = strconv.ParseInt(e.E, 10, 64)
	objects, bytes, _ := strings.Cut(e.P, ":")
	out.Objects, _ = strconv.ParseInt(objects, 10, 64)
	out.Bytes, _ = strconv.ParseInt(bytes, 10, 64)
	return out
}
