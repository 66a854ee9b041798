// Package overview gathers what the dashboard shows: the batches in hand, the workers, the queues, and the batches that
// were finished last. It only reads.
package overview

import (
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
)

// Bounds of an Overview. What is beyond them is counted, not shown.
const (
	MaxBatches  = 50
	MaxWorkers  = 200
	MaxQueues   = 200
	MaxFinished = 20
	MaxProblems = 10
	// MaxText is the length of any one text, in runes.
	MaxText = 200
)

// Overview is what was known at one moment. It is never changed after it was made. All texts are escaped for people
// (archive.EscapeText) and cut; they are still to be escaped for the language that they are written into.
type Overview struct {
	At time.Time `json:"at"`
	// Problems say what could not be read, and what is shown in its place.
	Problems []string `json:"problems,omitempty"`

	// Batches in hand, newest first, at most MaxBatches of InHand.
	Batches []Batch `json:"batches"`
	InHand  int     `json:"inHand"`

	// Workers of the registry by id, at most MaxWorkers of Registered. Slots and Busy are the sums over all of them.
	Workers    []Worker `json:"workers"`
	Registered int      `json:"registered"`
	Slots      int      `json:"slots"`
	Busy       int      `json:"busy"`

	// Queues by name, at most MaxQueues of Queued. Pending and Active are the sums over all of them.
	Queues  []Queue `json:"queues"`
	Queued  int     `json:"queued"`
	Pending int64   `json:"pending"`
	Active  int64   `json:"active"`

	// Finished are the batches that were submitted last of those that are over, newest first, at most MaxFinished.
	Finished []Finished `json:"finished"`
	// Adrift are batches that the ledger says are not over, and that Redis does not know: Redis was lost.
	Adrift []Finished `json:"adrift,omitempty"`
}

// Batch is a batch in hand.
type Batch struct {
	ID        batch.ID       `json:"id"`
	Name      string         `json:"name,omitempty"`
	Kind      batch.Kind     `json:"kind"`
	Archive   string         `json:"archive"`
	Pool      string         `json:"pool"`
	Priority  batch.Priority `json:"priority"`
	Submitted time.Time      `json:"submitted"`

	State     batch.State `json:"state"`
	Paused    bool        `json:"paused,omitempty"`
	Cancelled bool        `json:"cancelled,omitempty"`
	// Words are the state in words: "inspecting, paused".
	Words  string `json:"words"`
	Reason string `json:"reason,omitempty"`
	Steps  []Step `json:"steps"`

	// Counted is the step whose objects are counted: StepInspect until renaming begins, then StepRename; "" if there is
	// nothing to count yet.
	Counted batch.Step `json:"counted,omitempty"`
	Objects Amount     `json:"objects"`
	// Bytes of the objects; zero for StepRename, which reads none.
	Bytes Amount `json:"bytes"`
	// Listing: the totals are those of what is listed so far, and grow.
	Listing bool `json:"listing,omitempty"`
	// Skipped and Failed objects so far.
	Skipped int64 `json:"skipped"`
	Failed  int64 `json:"failed"`

	// Rates over the last half minute, work in hand included; 0 while they are unknown.
	ObjectsPerSecond float64 `json:"objectsPerSecond,omitempty"`
	BytesPerSecond   float64 `json:"bytesPerSecond,omitempty"`
	// Left is the time to the end of the step at these rates, in seconds; 0 while it is unknown.
	Left float64 `json:"left,omitempty"`
	// Plan is set from the moment the plan is sealed.
	Plan *Plan `json:"plan,omitempty"`

	planned bool // there is a sealed plan, read or not
}

// Amount is how much of something is done.
type Amount struct {
	// Settled is recorded and never goes backwards within a step.
	Settled int64 `json:"settled"`
	// InHand is being worked on, and is done again if its worker dies.
	InHand int64 `json:"inHand"`
	// Total is 0 if there is none.
	Total int64 `json:"total"`
}

// Step is one step of a batch.
type Step struct {
	Name batch.Step `json:"name"`
	// Over and Now: the step has ended, or is at work. Neither: it is to come.
	Over bool `json:"over,omitempty"`
	Now  bool `json:"now,omitempty"`
	// Settled segments of Known; Total is -1 until it is known how many there will be.
	Settled int `json:"settled"`
	Known   int `json:"known"`
	Total   int `json:"total"`
}

// Plan is what a sealed plan amounts to, in rows.
type Plan struct {
	Rows  int64 `json:"rows"`
	Moves int64 `json:"moves"`
}

// Worker is a worker of the registry.
type Worker struct {
	ID      string    `json:"id"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Pools   []string  `json:"pools"`
	Slots   int       `json:"slots"`
	Busy    int       `json:"busy"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// ExifTool is its version, "" until one has started.
	ExifTool string `json:"exiftool,omitempty"`
	// Silent is the time since its last sign of life, in seconds.
	Silent float64 `json:"silent"`
	// Checks by name.
	Checks []Check `json:"checks"`
}

// Check is one part of a worker that can be unwell.
type Check struct {
	Name string `json:"name"`
	// Error is "" if it is well.
	Error string `json:"error,omitempty"`
}

// Well reports whether all checks are.
func (w Worker) Well() bool {
	for _, c := range w.Checks {
		if c.Error != "" {
			return false
		}
	}
	return true
}

// Queue is one queue of the fleet.
type Queue struct {
	Name     string         `json:"name"`
	Pool     string         `json:"pool"`
	Priority batch.Priority `json:"priority"`
	Pending  int64          `json:"pending"`
	Active   int64          `json:"active"`
}

// Finished is a batch as the ledger has it.
type Finished struct {
	ID        batch.ID    `json:"id"`
	Name      string      `json:"name,omitempty"`
	Kind      batch.Kind  `json:"kind"`
	Archive   string      `json:"archive"`
	Submitted time.Time   `json:"submitted"`
	Changed   time.Time   `json:"changed"`
	State     batch.State `json:"state"`
	Words     string      `json:"words"`
	Reason    string      `json:"reason,omitempty"`
	// Final is nil for a batch without a report, which is one that failed.
	Final *Final `json:"final,omitempty"`
}

// Final are the counts of a report: they were computed from the final records.
type Final struct {
	Counts         batch.Counts `json:"counts"`
	Listed         int64        `json:"listed"`
	ListedBytes    int64        `json:"listedBytes"`
	Renamed        int64        `json:"renamed"`
	WorkingSeconds float64      `json:"workingSeconds"`
	WastedBytes    int64        `json:"wastedBytes"`
}

func finalOf(s report.Summary) *Final {
	f := &Final{
		Counts: s.Counts, Listed: s.Listed, ListedBytes: s.ListedBytes, Renamed: s.Renamed, WorkingSeconds: s.WorkingSeconds,
	}
	if s.Duplicates != nil {
		f.WastedBytes = s.Duplicates.WastedBytes
	}
	return f
}

// text makes any string fit to be shown: whatever was stored by whomever, it has no controls and is of bounded length.
func text(s string) string {
	n := 0
	for i := range s {
		if n++; n > MaxText {
			return archive.EscapeText(s[:i]) + "…"
		}
	}
	return archive.EscapeText(s)
}
