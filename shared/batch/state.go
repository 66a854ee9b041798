package batch

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrTransition: the batch is not in a state in which that can happen. The message says which state it is in.
var ErrTransition = errors.New("not possible now")

// State is where a batch stands. A pause is not a state of its own: it is a flag beside it, so that a resumed batch goes
// on where it was.
type State string

// States. They are stored by name.
const (
	Inspecting       State = "inspecting" // listing and inspecting, which overlap
	Planning         State = "planning"
	AwaitingApproval State = "awaiting-approval"
	Renaming         State = "renaming"
	Finishing        State = "finishing"
	Complete         State = "complete"
	Cancelled        State = "cancelled"
	FailedState      State = "failed"
)

// transitions is the one table of what may follow what. docs/architecture.md draws it; a test compares the two.
func transitions() map[State][]State {
	return map[State][]State{
		"":               {Inspecting, Planning},
		Inspecting:       {Planning, Finishing, FailedState},
		Planning:         {AwaitingApproval, Finishing, FailedState},
		AwaitingApproval: {Renaming, Finishing, FailedState},
		Renaming:         {Finishing, FailedState},
		Finishing:        {Complete, Cancelled, FailedState},
	}
}

// Next are the states that may follow s.
func (s State) Next() []State { return transitions()[s] }

// Over reports whether nothing follows s.
func (s State) Over() bool { return s == Complete || s == Cancelled || s == FailedState }

// Step is the step whose end ends state s, "" where none is at work. While inspecting, the list step is at work too.
func (s State) Step() Step {
	switch s {
	case Inspecting:
		return StepInspect
	case Planning:
		return StepPlan
	case Renaming:
		return StepRename
	case Finishing:
		return StepFinish
	}
	return ""
}

// EventKind is what happened.
type EventKind string

// Kinds of event: state changes made by the flow, and decisions made by people.
const (
	EventAdvance  EventKind = "advance" // to another state
	EventApprove  EventKind = "approve" // of the plan with that digest
	EventPause    EventKind = "pause"
	EventResume   EventKind = "resume"
	EventCancel   EventKind = "cancel"
	EventPriority EventKind = "priority"
)

// Event is one entry in a batch's history. Events are numbered from 1 and created if absent, so the number is the
// compare-and-swap: of two writers one loses, reads the other's event and decides anew.
type Event struct {
	V        int       `json:"v"`
	N        int       `json:"n"`
	Kind     EventKind `json:"kind"`
	To       State     `json:"to,omitempty"`       // advance
	Plan     string    `json:"plan,omitempty"`     // approve: the plan's digest
	Priority Priority  `json:"priority,omitempty"` // priority
	Reason   string    `json:"reason,omitempty"`   // pause, cancel, advance to failed
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at"`
}

// Status is what the events of a batch amount to.
type Status struct {
	State     State    `json:"state"`
	Event     int      `json:"event"` // number of the last event
	Paused    bool     `json:"paused,omitempty"`
	Cancelled bool     `json:"cancelled,omitempty"`
	Priority  Priority `json:"priority"`
	// Reason is why it is paused, cancelled or failed.
	Reason string `json:"reason,omitempty"`
	// Approved is the digest of the approved plan.
	Approved string    `json:"approved,omitempty"`
	Changed  time.Time `json:"changed"` // time of the last event
}

// Initial is the status of a batch before its first event.
func (b Batch) Initial() Status {
	s := Status{State: Inspecting, Priority: b.Priority, Changed: b.Submitted}
	if b.Kind.Derived() {
		s.State = Planning
	}
	return s
}

// Apply is the status after e: ErrTransition if e cannot follow.
func (s Status) Apply(e Event) (Status, error) {
	if e.N != s.Event+1 {
		return s, fmt.Errorf("event %d after event %d: %w", e.N, s.Event, ErrTransition)
	}
	next, err := s.decide(e)
	if err != nil {
		return s, err
	}
	next.Event, next.Changed = e.N, e.At
	return next, nil
}

func (s Status) decide(e Event) (Status, error) {
	no := func(why string) (Status, error) { return s, fmt.Errorf("%s: %w: %s", e.Kind, ErrTransition, why) }
	if s.State.Over() {
		return no("the batch is " + string(s.State))
	}
	switch e.Kind {
	case EventAdvance:
		if !slices.Contains(s.State.Next(), e.To) {
			return no(fmt.Sprintf("%s does not follow %s", e.To, s.State))
		}
		s.State = e.To
		if e.To == FailedState {
			s.Reason = e.Reason
		}
	case EventApprove:
		if s.State != AwaitingApproval || s.Cancelled {
			return no("the batch is " + s.String())
		}
		s.State, s.Approved = Renaming, e.Plan
	case EventPause:
		if s.Cancelled || s.Paused {
			return no("the batch is " + s.String())
		}
		s.Paused, s.Reason = true, e.Reason
	case EventResume:
		if !s.Paused {
			return no("the batch is not paused")
		}
		s.Paused, s.Reason = false, ""
	case EventCancel:
		if s.Cancelled || s.State == Finishing {
			return no("the batch is " + s.String())
		}
		s.Cancelled, s.Paused, s.Reason = true, false, e.Reason
	case EventPriority:
		if e.Priority.Weight() == 0 {
			return no(fmt.Sprintf("unknown priority %q", e.Priority))
		}
		s.Priority = e.Priority
	default:
		return no("unknown event")
	}
	return s, nil
}

// Withdrawn reports whether the batch renamed nothing and never will, though it may have a plan: it ended, or was cancelled,
// before anybody approved one.
func (s Status) Withdrawn() bool {
	return s.Approved == "" && (s.Cancelled || s.State == Finishing || s.State.Over())
}

// String is the state in words: "renaming", "inspecting, paused", "finishing, cancelled".
func (s Status) String() string {
	switch {
	case s.State.Over():
		return string(s.State)
	case s.Cancelled:
		return string(s.State) + ", cancelled"
	case s.Paused:
		return string(s.State) + ", paused"
	}
	return string(s.State)
}

// Fold applies events in order.
func (s Status) Fold(events []Event) (Status, error) {
	for _, e := range events {
		var err error
		if s, err = s.Apply(e); err != nil {
			return s, err
		}
	}
	return s, nil
}
