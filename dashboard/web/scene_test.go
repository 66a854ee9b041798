package web_test

import (
	"fmt"
	"time"

	"github.com/reshelf/reshelf/dashboard/internal/fleettest"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
)

// scene is a fleet with something of everything.
type scene struct {
	*fleettest.Fleet
	studio  batch.Batch
	renamed batch.Batch
	settled int
}

func atWork(f *fleettest.Fleet) *scene {
	s := &scene{Fleet: f}
	now := time.Now().UTC()
	s.inHand(now)
	s.finished(now)
	s.workers(now)
	return s
}

func (s *scene) inHand(now time.Time) {
	const mib = 1 << 20
	asking := s.Submit(batch.Batch{Kind: batch.Rename, Name: "Camera cards 2026", Archive: s.Root("file:///mnt/cards"), Submitted: now.Add(-50 * time.Minute)})
	s.List(asking, 19, 1000, 9*mib)
	s.Listed(asking)
	s.Settle(asking, batch.StepInspect, 0, 19, batch.Counts{Done: 998, Skipped: 2, Bytes: 998 * 9 * mib})
	s.Advance(asking, now, batch.Planning)
	s.Plan(asking, 19000, 18211)
	s.Advance(asking, now, batch.AwaitingApproval)

	s.renamed = s.Submit(batch.Batch{Kind: batch.Rename, Name: "Agency delivery", Archive: s.Root("file:///mnt/delivery"), Pool: "nas", Submitted: now.Add(-4 * time.Hour)})
	s.List(s.renamed, 240, 1000, 6*mib)
	s.Listed(s.renamed)
	s.Settle(s.renamed, batch.StepInspect, 0, 240, batch.Counts{Done: 999, Failed: 1, Bytes: 999 * 6 * mib})
	s.Advance(s.renamed, now, batch.Planning)
	s.Plan(s.renamed, 240_000, 231_870)
	s.Advance(s.renamed, now, batch.AwaitingApproval)
	s.Happen(s.renamed, batch.Event{Kind: batch.EventApprove})
	s.Seal(s.renamed, batch.StepRename, 240)
	s.Settle(s.renamed, batch.StepRename, 0, 171, batch.Counts{Done: 996, Skipped: 3, Failed: 1})
	s.Work(s.renamed, batch.StepRename, 6, 640, 6*mib)

	s.studio = s.Submit(batch.Batch{Name: "Studio archive 2009–2026", Archive: s.Root("file:///mnt/studio"), Pool: "nas", Priority: batch.High, Submitted: now.Add(-95 * time.Minute)})
	s.List(s.studio, 1304, 1000, 4*mib)
	s.settled = 512
	s.Settle(s.studio, batch.StepInspect, 0, s.settled, batch.Counts{Done: 999, Skipped: 1, Bytes: 999 * 4 * mib})
	s.Settle(s.studio, batch.StepInspect, s.settled, s.settled+1, batch.Counts{Done: 959, Failed: 41, Bytes: 959 * 4 * mib})
	s.settled++
	s.Work(s.studio, batch.StepInspect, 26, 560, 4*mib)
	s.Enqueue("nas", batch.High, s.studio, 8)

	paused := s.Submit(batch.Batch{Name: "Old backups", Archive: s.Root("file:///mnt/backups"), Priority: batch.Background, Submitted: now.Add(-26 * time.Hour)})
	s.List(paused, 90, 1000, 4*mib)
	s.Listed(paused)
	s.Settle(paused, batch.StepInspect, 0, 31, batch.Counts{Done: 870, Failed: 130, Bytes: 870 * 4 * mib})
	s.Happen(paused, batch.Event{Kind: batch.EventPause, Reason: "the disk of /mnt/backups is being replaced"})
	s.Enqueue("default", batch.Normal, asking, 2)
	s.Enqueue("default", batch.Background, paused, 12)
}

// goOn lets work get on.
func (s *scene) goOn() {
	s.workers(time.Now().UTC())
	s.Settle(s.studio, batch.StepInspect, s.settled, s.settled+3, batch.Counts{Done: 998, Skipped: 2, Bytes: 998 * 4 << 20})
	s.settled += 3
	s.Settle(s.renamed, batch.StepRename, 171, 173, batch.Counts{Done: 1000})
}

func (s *scene) workers(now time.Time) {
	roots := []archive.Root{s.Root("file:///mnt")}
	for i := range 6 {
		w := ledger.Worker{
			ID: fmt.Sprintf("reshelf-worker-%d", i), Process: ledger.Process{Host: fmt.Sprintf("node-%d", i/2+1), PID: 7}, Pools: []string{"default", "nas"},
			Roots: roots, Slots: 8, Busy: []int{8, 8, 7, 6, 3, 0}[i], Version: "v0.1.0", Started: now.Add(-time.Duration(26+i) * time.Hour),
			Health: map[string]string{"redis": "", "ledger": "", "exiftool": ""},
		}
		silent := time.Duration(0)
		switch i {
		case 4:
			w.Health["exiftool"] = "no answer within 10 s; restarted for the 3rd time"
		case 5:
			silent = 47 * time.Second
		}
		s.Register(w, silent)
	}
}

func (s *scene) finished(now time.Time) {
	for _, b := range []struct {
		name, root    string
		kind          batch.Kind
		state         batch.State
		reason        string
		ended         time.Duration
		listed, fail  int64
		renamed, size int64
	}{
		{"", "file:///mnt/inbox", batch.Inspect, batch.FailedState, "archive unavailable: /mnt/inbox is missing", 9 * 24 * time.Hour, 0, 0, 0, 0},
		{"Scans", "file:///mnt/scans", batch.Rename, batch.Cancelled, "wrong template", 60 * time.Hour, 48_210, 0, 12_000, 310 << 30},
		{"Scans, second try", "file:///mnt/scans", batch.Rename, batch.Complete, "", 55 * time.Hour, 48_210, 3, 48_066, 310 << 30},
		{"Weddings", "file:///mnt/weddings", batch.Inspect, batch.Complete, "", 7 * time.Hour, 2_184_553, 12, 0, 41 << 40},
		{"", "file:///mnt/inbox", batch.Undo, batch.Complete, "", 25 * time.Minute, 811, 0, 811, 0},
	} {
		at := now.Add(-b.ended)
		w := batch.Batch{Name: b.name, Kind: b.kind, Archive: s.Root(b.root), Submitted: at.Add(-time.Hour)}
		if b.kind == batch.Undo {
			w.Undoes = s.studio.ID
		}
		w = s.Write(w)
		if b.state == batch.FailedState {
			s.Happen(w, batch.Event{Kind: batch.EventAdvance, To: b.state, Reason: b.reason, At: at})
			continue
		}
		if b.state == batch.Cancelled {
			s.Happen(w, batch.Event{Kind: batch.EventCancel, Reason: b.reason, At: at})
		}
		states := map[batch.Kind][]batch.State{
			batch.Inspect: {batch.Finishing}, batch.Rename: {batch.Planning, batch.Finishing}, batch.Undo: {batch.Finishing},
		}
		s.Advance(w, at, append(states[b.kind], b.state)...)
		s.Report(w, report.Summary{
			State: b.state, Listed: b.listed, ListedBytes: b.size, Renamed: b.renamed, WorkingSeconds: float64(b.listed) / 420,
			Counts:     batch.Counts{Done: b.listed - b.fail - b.listed/200, Failed: b.fail, Skipped: b.listed / 200, Bytes: b.size},
			Duplicates: &report.Duplicates{Algorithm: digest.SHA256},
		})
	}
}
