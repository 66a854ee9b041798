package command

import (
	"github.com/dustin/go-humanize"

	"github.com/reshelf/reshelf/producer/internal/progress"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
)

// stateOf turns live progress into what is shown. Only settled counts are called settled; the window's are in hand.
func stateOf(p ledger.Progress, method batch.Method, plan *batch.Plan) progress.State {
	s := progress.State{Phase: string(p.Status.State), Counted: true}
	step := p.Steps[p.Status.State.Step()]
	s.Objects.Settled, s.Bytes.Settled, s.Failed = step.Counts.Objects(), step.Counts.Bytes, step.Counts.Failed
	for _, e := range p.Window {
		if e.Step == p.Status.State.Step() && e.State == "c" {
			s.Objects.InHand += e.Objects
			s.Bytes.InHand += e.Bytes
		}
	}
	switch p.Status.State {
	case batch.Inspecting:
		inspecting(&s, p, step)
	case batch.Renaming:
		renaming(&s, method, plan)
	default:
		s.Counted, s.Note = false, since(s.Objects)
	}
	if p.Status.Cancelled {
		s.Note = "cancelled, ending"
	}
	return s
}

// renaming shows bytes only where they are read and written.
func renaming(s *progress.State, method batch.Method, plan *batch.Plan) {
	s.Objects.Total, s.Bytes.Total = -1, -1
	if plan != nil {
		s.Objects.Total, s.Bytes.Total = plan.Summary.Rows, plan.Summary.Bytes
	}
	switch method {
	case batch.MethodCopy:
		s.Phase = "copying"
		return
	case batch.MethodLink:
		s.Phase = "linking"
	case batch.MethodRename:
	}
	s.Bytes = progress.Amount{}
}

func inspecting(s *progress.State, p ledger.Progress, step ledger.StepProgress) {
	s.Objects.Total, s.Bytes.Total = p.ListedObjects, p.ListedBytes
	if step.Total >= 0 {
		return
	}
	s.Objects.AtLeast, s.Bytes.AtLeast = p.ListedObjects, p.ListedBytes
	s.Objects.Total, s.Bytes.Total = -1, -1
	s.Note = "listing, " + plural(p.ListedObjects, "object") + " found"
}

// since says how much a step without a known total has done.
func since(a progress.Amount) string {
	if a.InHand == 0 {
		return ""
	}
	return humanize.Comma(a.InHand) + " steps"
}
