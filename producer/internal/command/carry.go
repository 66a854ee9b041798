package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

// carrying says how a command carries a batch on.
type carrying struct {
	// yes approves the plan without a question.
	yes bool
	// only plans: the plan is shown and left to be approved by another command.
	only bool
	// sample is about how many rows are carried out, while the rest waits for approval; 0: all.
	sample int64
	// json prints one result instead of text.
	json bool
	// sums prints a checksum list of this format instead of text, if set.
	sums string
}

// carry shows a batch's progress, its plan and its report, and asks for approval in between. It ends when nothing is left to
// do for this command, always with an error unless everything went well: see the exit codes.
func (a *app) carry(ctx context.Context, d *desk, b batch.Batch, o carrying) error {
	err := a.carryOn(ctx, d, b, o)
	if exit, ok := errors.AsType[exitError](err); ok && exit.code == ExitInterrupted {
		return err // of the batch that this one has led to
	}
	if ctx.Err() != nil {
		return a.interrupted(d, b)
	}
	return a.noSpace(d, b, err)
}

// noSpace says where there is no space, and how to go on; any other error it returns as it is.
func (a *app) noSpace(d *desk, b batch.Batch, err error) error {
	if !errors.Is(err, store.ErrNoSpace) {
		return err
	}
	return stop(ExitNotRun, "the ledger %s is full (%v); nothing is lost: free space there, then go on with: %s",
		shownRoot(d.root), err, a.commandLine("resume", string(b.ID)))
}

func (a *app) carryOn(ctx context.Context, d *desk, b batch.Batch, o carrying) error {
	f := a.newFollower(d, b)
	status, err := f.until(ctx, whenPlanned)
	if err != nil {
		return err
	}
	if b.Kind.Has(batch.StepPlan) && !status.Cancelled {
		if err := a.decide(ctx, d, b, status, o); err != nil {
			return err
		}
		if status, err = f.until(ctx, whenOver); err != nil {
			return err
		}
	} else if !status.State.Over() && !status.Paused {
		if status, err = f.until(ctx, whenOver); err != nil {
			return err
		}
	}
	return a.conclude(ctx, d, b, status, o)
}

// decide shows the plan, if there is one, and has it approved where it awaits that.
func (a *app) decide(ctx context.Context, d *desk, b batch.Batch, s batch.Status, o carrying) error {
	p, sum, err := d.ledger.Plan(ctx, b.ID)
	if errors.Is(err, store.ErrNotExist) {
		return nil // it failed or was paused before
	}
	if err != nil {
		return err
	}
	screen := planScreen{batch: b, plan: p, digest: sum}
	if screen.csv, err = a.planCSV(ctx, d, b, p); err != nil {
		a.tell("warning: %v", err)
	}
	awaits := s.State == batch.AwaitingApproval && !s.Paused
	if !o.json {
		a.display.Clear()
		if err := screen.write(a.out(o)); err != nil {
			return err
		}
	}
	if !awaits {
		return nil
	}
	return a.approve(ctx, d, screen, o)
}

func (a *app) approve(ctx context.Context, d *desk, p planScreen, o carrying) error {
	b := p.batch
	if blocked := flow.Blocked(b, p.plan); len(blocked) > 0 {
		return a.blocked(ctx, d, p, o)
	}
	if b.Renaming != nil && b.Renaming.Approved {
		return nil // the flow approves it
	}
	if o.only {
		return a.awaiting(ctx, d, b, o)
	}
	if !o.yes {
		yes, err := a.ask(ctx, fmt.Sprintf("%s %s?", p.verb(), plural(o.atFirst(p.plan.Summary.Moves), "object")))
		if err != nil {
			return err
		}
		if !yes {
			return a.awaiting(ctx, d, b, o)
		}
	}
	if o.sample > 0 && o.sample < p.plan.Summary.Moves {
		return a.carrySample(ctx, d, p, o)
	}
	_, err := d.flow.Decide(ctx, b.ID, batch.Event{Kind: batch.EventApprove, Plan: p.digest, By: by()})
	return err
}

// atFirst is how many of n rows are carried out.
func (o carrying) atFirst(n int64) int64 {
	if o.sample > 0 {
		return min(o.sample, n)
	}
	return n
}

// awaiting ends the command with a plan that nobody approved.
func (a *app) awaiting(ctx context.Context, d *desk, b batch.Batch, o carrying) error {
	if err := a.resultJSON(ctx, d, b, o); err != nil {
		return err
	}
	a.tell("Nothing was %s. To carry out this plan:  %s\n%sTo drop it:  %s",
		verbsOf(b).participle, a.commandLine("apply", string(b.ID)), a.howToEdit(b), a.commandLine("cancel", string(b.ID)))
	return exitError{code: ExitAwaiting}
}

// howToEdit is a line that says how to give other names, where a plan can be edited.
func (a *app) howToEdit(b batch.Batch) string {
	if b.Kind == batch.Undo {
		return ""
	}
	return fmt.Sprintf("To edit it:  %s > plan.csv, then  %s\n",
		a.commandLine("plan", string(b.ID), "--csv"), a.commandLine("plan", string(b.ID), "--edited plan.csv"))
}

// blocked ends the command with a plan that its policy refuses.
func (a *app) blocked(ctx context.Context, d *desk, p planScreen, o carrying) error {
	if err := a.resultJSON(ctx, d, p.batch, o); err != nil {
		return err
	}
	a.tell("Nothing was %s: the plan has conflicts, and --on-conflict is %s. What helps:\n%s"+
		"  other names for some of the rows\n%sTo drop this plan:  %s",
		verbsOf(p.batch).participle, p.batch.Renaming.OnConflict, templateRemedies(p.batch.Kind), a.howToEdit(p.batch), a.commandLine("cancel", string(p.batch.ID)))
	return exitError{code: ExitSomeFailed}
}

// templateRemedies are what helps a plan with conflicts, where a template makes the names.
func templateRemedies(k batch.Kind) string {
	if k != batch.Rename {
		return ""
	}
	return "  --on-conflict number        gives objects that want one name _2, _3 … in order of capture time\n" +
		"  --conflict-template T       gives those whose names are taken names by another template\n" +
		"  --on-conflict skip          renames the others\n" +
		"  --on-conflict same-content  leaves those that have the same content as the one that has the name\n" +
		"  a template that tells more, such as {date:%Y%m%d-%H%M%S%f} or {sha256:8}\n"
}

// ask asks on the terminal; without one the answer is no.
func (a *app) ask(ctx context.Context, question string) (bool, error) {
	if !a.env.Interactive {
		return false, nil
	}
	a.display.Clear()
	fmt.Fprintf(a.display, "%s [y/N] ", question)
	answer := make(chan string, 1)
	// A read from a terminal cannot be ended; where ctx ends first this goroutine lives until the process ends.
	go func() {
		line, err := bufio.NewReader(a.env.Stdin).ReadString('\n')
		if err != nil {
			a.tell("") // no line was ended on the terminal either
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		a.tell("")
		return false, ctx.Err()
	case text := <-answer:
		return text == "y" || text == "yes", nil
	}
}

// conclude says how a batch ended, and turns that into an exit code.
func (a *app) conclude(ctx context.Context, d *desk, b batch.Batch, s batch.Status, o carrying) error {
	a.display.Clear()
	if err := a.resultJSON(ctx, d, b, o); err != nil {
		return err
	}
	switch {
	case s.Paused:
		return stop(ExitNotRun, "batch %s is paused: %s\nGo on with:  %s", b.ID, reasonOf(s), a.commandLine("resume", string(b.ID)))
	case s.State == batch.FailedState:
		return stop(ExitNotRun, "batch %s failed: %s", b.ID, reasonOf(s))
	case !s.State.Over():
		return stop(ExitAwaiting, "batch %s is %s", b.ID, s)
	}
	sum, err := readSummary(ctx, d, b.ID)
	if err != nil {
		return err
	}
	if o.sums != "" {
		if err := writeSums(ctx, d, sum, o.sums, a.env.Stdout); err != nil {
			return err
		}
	}
	if !o.json {
		if err := a.showSummary(d, sum, o); err != nil {
			return err
		}
	}
	switch {
	case s.State == batch.Cancelled:
		return stop(ExitNotRun, "batch %s was cancelled", b.ID)
	case sum.Counts.Failed > 0:
		return exitError{code: ExitSomeFailed}
	}
	return nil
}

func reasonOf(s batch.Status) string {
	if s.Reason == "" {
		return "no reason was given"
	}
	return archive.EscapeText(s.Reason)
}

// interrupted says how to go on after Ctrl-C. On this machine the caller then closes the desk, which gives back what is in
// hand.
func (a *app) interrupted(d *desk, b batch.Batch) error {
	a.display.Clear()
	id := string(b.ID)
	if d.fleet {
		return stop(ExitInterrupted, "detached; the batch goes on\nwatch it:   %s\ncancel it:  %s",
			a.commandLine("watch", id), a.commandLine("cancel", id))
	}
	return stop(ExitInterrupted, "interrupted; what is done is kept\ngo on with:  %s\ncancel it:   %s",
		a.commandLine("resume", id), a.commandLine("cancel", id))
}

// showSummary prints what a finished batch amounts to, and where its report is.
func (a *app) showSummary(d *desk, s report.Summary, o carrying) error {
	out := a.out(o)
	if err := s.Text(out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "Report: %s\n", d.shownKey(reportFolder(s)))
	return err
}

// result is what --json prints when a command has carried a batch on. docs/commands.md describes it.
type result struct {
	V       int             `json:"v"`
	Batch   batch.ID        `json:"batch"`
	Kind    batch.Kind      `json:"kind"`
	Archive archive.Root    `json:"archive"`
	Method  batch.Method    `json:"method,omitempty"`
	Status  batch.Status    `json:"status"`
	Plan    *planResult     `json:"plan,omitempty"`
	Summary *report.Summary `json:"summary,omitempty"`
	Report  string          `json:"report,omitempty"` // the folder of the report's files
}

type planResult struct {
	Digest  string            `json:"digest"`
	Blocked []batch.Reason    `json:"blocked,omitempty"`
	Summary batch.PlanSummary `json:"summary"`
}

// resultJSON prints the result, where JSON was asked for.
func (a *app) resultJSON(ctx context.Context, d *desk, b batch.Batch, o carrying) error {
	if !o.json {
		return nil
	}
	r, err := resultOf(ctx, d, b)
	if err != nil {
		return err
	}
	return a.printJSON(r)
}

func resultOf(ctx context.Context, d *desk, b batch.Batch) (result, error) {
	r := result{V: 1, Batch: b.ID, Kind: b.Kind, Archive: b.Archive, Method: b.Method()}
	var err error
	if r.Status, err = d.ledger.Status(ctx, b); err != nil {
		return r, err
	}
	p, sum, err := d.ledger.Plan(ctx, b.ID)
	if err == nil {
		r.Plan = &planResult{Digest: sum, Blocked: flow.Blocked(b, p), Summary: p.Summary}
	} else if !errors.Is(err, store.ErrNotExist) {
		return r, err
	}
	s, err := readSummary(ctx, d, b.ID)
	if err == nil {
		r.Summary, r.Report = &s, d.shownKey(reportFolder(s))
	} else if !errors.Is(err, store.ErrNotExist) {
		return r, err
	}
	return r, nil
}

// sumFormat checks the flag --format of inspect, and that the batch computes what it needs.
func sumFormat(format string, set digest.Set) error {
	algorithm, err := report.ParseSumFormat(format)
	if err == nil && !set.Has(algorithm) {
		err = fmt.Errorf("%s needs the digest %s, but --digests is %s", format, algorithm, set)
	}
	return err
}

func commas(n int64) string { return humanize.Comma(n) }
