package batch

import (
	"encoding/json"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
)

// Ref names one segment of one step of one batch. Generation starts at 1 and grows when failed objects are retried.
type Ref struct {
	Batch      ID   `json:"batch"`
	Step       Step `json:"step"`
	Generation int  `json:"generation"`
	Segment    int  `json:"segment"` // from 0
}

// String is for logs: "01h…/inspect/1/42".
func (r Ref) String() string {
	return fmt.Sprintf("%s/%s/%d/%d", r.Batch, r.Step, r.Generation, r.Segment)
}

// Task is the payload of one asynq task: one attempt at one segment. It gives no right to work; a claim does.
// Attempt starts at 1.
type Task struct {
	V          int  `json:"v"`
	Batch      ID   `json:"batch"`
	Step       Step `json:"step"`
	Generation int  `json:"generation"`
	Segment    int  `json:"segment"`
	Attempt    int  `json:"attempt"`
}

// Ref is the segment that the task is an attempt at.
func (t Task) Ref() Ref {
	return Ref{Batch: t.Batch, Step: t.Step, Generation: t.Generation, Segment: t.Segment}
}

// ID is the asynq task id: a convenience, not a lock.
func (t Task) ID() string { return fmt.Sprintf("%s/%d", t.Ref(), t.Attempt) }

// ParseTask decodes and checks a payload.
func ParseTask(payload []byte) (Task, error) {
	var t Task
	if err := json.Unmarshal(payload, &t); err != nil {
		return Task{}, fmt.Errorf("%w task: %w", ErrInvalid, err)
	}
	if t.V != Version {
		return Task{}, fmt.Errorf("%w task: version %d; this program knows %d", ErrInvalid, t.V, Version)
	}
	if _, err := ParseID(string(t.Batch)); err != nil {
		return Task{}, err
	}
	if t.Segment < 0 || t.Attempt < 1 || t.Generation < 1 || t.Step == "" {
		return Task{}, fmt.Errorf("%w task: %+v", ErrInvalid, t)
	}
	return t, nil
}

// Listed is one object of a segment. Where Problem is set there is nothing to inspect, and the record says why.
type Listed struct {
	archive.Object
	Outcome Outcome `json:"outcome,omitempty"` // Skipped or Failed where Problem is set
	Problem Reason  `json:"problem,omitempty"`
	Detail  string  `json:"detail,omitempty"` // escaped text for a person
}

// Segment is the slice of a step's work that one task does. It is created once and never changes. Objects are in
// ascending order of key, all strictly after those of the segment before.
type Segment struct {
	Objects []Listed
	// Excluded counts what the filter left out since the last object of the segment before.
	Excluded int64
	// End: the step has no segment after this one. Only the last segment may hold no objects.
	End bool
}

// Bytes is the sum of the objects' sizes.
func (s Segment) Bytes() (n int64) {
	for _, o := range s.Objects {
		n += o.Size
	}
	return n
}
