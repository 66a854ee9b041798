package planning

import (
	"context"
	"fmt"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/naming"
)

// resolver settles the units that want to move.
type resolver struct {
	*planner
	// present holds what the archive has, and settled the names of rows that move, by path.
	present, settled *extsort.Sorter
	// taken holds the numbers that names of each family have, and losers the units that are still to be numbered, by
	// family. taken is made when it is first needed.
	taken, losers *extsort.Sorter
	lost          int64
	maxWaits      int // see the constants
	solveAt       int
}

func (p *planner) resolve(ctx context.Context) error {
	there, err := p.list(ctx)
	if err != nil {
		return err
	}
	r := &resolver{planner: p, present: there, settled: p.sorter("settled"), losers: p.sorter("losers"), maxWaits: maxWaits, solveAt: solveAt}
	if err := r.round(ctx, p.units, p.wishes, p.chains() || p.parks()); err != nil {
		return err
	}
	for n := 1; n <= Rounds && r.lost > 0; n++ {
		units, wishes, err := r.propose(ctx)
		if err != nil {
			return err
		}
		if err := r.round(ctx, units, wishes, false); err != nil {
			return err
		}
	}
	return r.giveUp(ctx)
}

// round checks all wishes and settles the units: those whose wishes are granted, and by policy those that are refused. Where chain is
// set, units may wait for names that others leave.
func (r *resolver) round(ctx context.Context, units, wishes *extsort.Sorter, chain bool) error {
	verdicts := judged{Sorter: r.sorter("verdicts")}
	if r.contents != nil {
		verdicts.pairs = r.sorter("pairs")
	}
	c := checker{
		all: r.policy.KeepsNames(), foldsCase: r.props.FoldsCase, refolds: r.refolds(), chain: chain, copies: r.batch.Copies(),
		refuse: func(id string, w wish, v verdict) error { return verdicts.add(ctx, id, w, v) },
	}
	items := merged(r.present.Sorted(ctx), r.settled.Sorted(ctx), wishes.Sorted(ctx))
	if err := c.run(ctx, r.tick, items); err != nil {
		return err
	}
	var chains chains
	if verdicts.conditions > 0 {
		var err error
		if chains, err = r.findChains(ctx, units, verdicts.Sorter); err != nil {
			return err
		}
	}
	defer chains.stop()
	isDuplicate, stop, err := r.duplicates(ctx, verdicts.pairs)
	if err != nil {
		return err
	}
	defer stop()
	err = r.eachUnit(ctx, units, verdicts.Sorter, func(number int64, u *unit, against []verdict) error {
		at, err := chains.of(number)
		if err != nil {
			return err
		}
		if at.fate == moves {
			u.chain, u.leader, u.order = at.chain+1, chains.leader(at, u.Rows[0].From), at.order
			return r.grant(ctx, u)
		}
		switch is, err := isDuplicate(u); {
		case err != nil:
			return err
		case is:
			return r.emit(ctx, u)
		}
		if r.mayKeep(u, against) {
			u.Again = true
			return r.lose(ctx, u)
		}
		return r.decide(ctx, u, refusals(against, at.fate))
	})
	if err != nil {
		return err
	}
	for _, s := range []*extsort.Sorter{units, wishes, verdicts.Sorter} {
		if err := s.Remove(ctx); err != nil {
			return err
		}
	}
	return chains.remove(ctx)
}

// eachUnit calls yield for each unit in the order of ids, counted from 0, with the verdicts about it.
func (r *resolver) eachUnit(ctx context.Context, units, verdicts *extsort.Sorter, yield func(number int64, u *unit, against []verdict) error) error {
	about := newCursor(verdicts.Sorted(ctx))
	defer about.stop()
	number := int64(0)
	for it, err := range units.Sorted(ctx) {
		if err == nil {
			err = r.tick(ctx)
		}
		if err != nil {
			return err
		}
		u, err := decode[unit](it.Value)
		if err != nil {
			return err
		}
		against, err := take[verdict](about, it.Key)
		if err != nil {
			return err
		}
		if err := yield(number, &u, against); err != nil {
			return err
		}
		number++
	}
	return nil
}

// judged takes verdicts, and counts the conditions among them.
type judged struct {
	*extsort.Sorter
	pairs      *extsort.Sorter // of rows and the objects that keep them from their names, by the latter; nil if they are not needed
	conditions int64
}

func (j *judged) add(ctx context.Context, id string, w wish, v verdict) error {
	if v.Awaits != "" {
		j.conditions++
	}
	if j.pairs != nil && v.isPair() {
		if err := addJSON(ctx, j.pairs, []byte(v.Other), pair{ID: id, Row: v.Row, From: w.From, Other: v.Other}); err != nil {
			return err
		}
	}
	return addJSON(ctx, j.Sorter, []byte(id), v)
}

// mayKeep reports whether a unit that bears a number may keep it, if the natural name is not left after all: only the next round
// tells whether it is.
func (r *resolver) mayKeep(u *unit, against []verdict) bool {
	condition := func(v verdict) bool { return v.Awaits != "" }
	refusal := func(v verdict) bool { return v.Awaits == "" }
	if r.policy != batch.ConflictNumber || !slices.ContainsFunc(against, condition) || !slices.ContainsFunc(against, refusal) {
		return false
	}
	_, ok := u.bearsNumber()
	return ok
}

// decide settles a unit by its verdicts, or sends it to the next round.
func (r *resolver) decide(ctx context.Context, u *unit, against []verdict) error {
	if len(against) == 0 {
		return r.grant(ctx, u)
	}
	final := slices.ContainsFunc(against, func(v verdict) bool { return v.Final })
	if r.policy == batch.ConflictNumber && !final {
		// Where the natural name is taken, the number that the unit bears is as good as another one.
		taken := slices.ContainsFunc(against, func(v verdict) bool { return v.Reason == batch.ReasonExists })
		if _, ok := u.bearsNumber(); ok && taken {
			u.keep()
			return r.emit(ctx, u)
		}
		return r.lose(ctx, u)
	}
	if u.mayTakeSecond(against) {
		return r.lose(ctx, u)
	}
	outcome := batch.Failed
	if r.policy == batch.ConflictSkip {
		outcome = batch.Skipped
	}
	for _, v := range against {
		settle(&u.Rows[v.Row], outcome, v.Reason, u.refusal(v.Message))
	}
	return r.emit(ctx, u)
}

// grant settles a unit that moves, and keeps its names from others.
func (r *resolver) grant(ctx context.Context, u *unit) error {
	for _, row := range u.Rows {
		if !row.Moves() {
			continue
		}
		if err := r.settled.Add(ctx, pathOf(row.To).item(markSettled, ""), []byte(row.To)); err != nil {
			return err
		}
		if r.taken != nil {
			if err := r.take(ctx, row.To); err != nil {
				return err
			}
		}
	}
	return r.emit(ctx, u)
}

func (r *resolver) lose(ctx context.Context, u *unit) error {
	r.lost++
	return addJSON(ctx, r.losers, []byte(string(family(u.Natural))+"\x00\x00"+u.id()), u)
}

// take notes the number of a name that has one.
func (r *resolver) take(ctx context.Context, key archive.Key) error {
	natural, n, ok := cutNumber(key)
	if !ok {
		return nil
	}
	return r.taken.Add(ctx, family(natural).takenItem(n), nil)
}

// takeAll notes the numbers of all names that the archive has, and that rows will have.
func (r *resolver) takeAll(ctx context.Context) error {
	r.taken = r.sorter("taken")
	for it, err := range r.present.Sorted(ctx) {
		if err == nil {
			err = r.tick(ctx)
		}
		if err != nil {
			return err
		}
		there, err := decode[present](it.Value)
		if err != nil {
			return err
		}
		if err := r.take(ctx, there.Key); err != nil {
			return err
		}
	}
	for it, err := range r.settled.Sorted(ctx) {
		if err != nil {
			return err
		}
		if err := r.take(ctx, archive.Key(it.Value)); err != nil {
			return err
		}
	}
	return nil
}

// propose gives each loser its next name, the earlier units of a family first.
func (r *resolver) propose(ctx context.Context) (units, wishes *extsort.Sorter, err error) {
	rename, stop, err := r.nextNames(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	units, wishes = r.sorter("units"), r.sorter("wishes")
	losers := r.losers
	r.losers, r.lost = r.sorter("losers"), 0
	for it, err := range losers.Sorted(ctx) {
		if err == nil {
			err = r.tick(ctx)
		}
		if err != nil {
			return nil, nil, err
		}
		u, err := decode[unit](it.Value)
		if err != nil {
			return nil, nil, err
		}
		if err := rename(&u); err != nil {
			return nil, nil, err
		}
		if u.moves() {
			err = r.want(ctx, units, wishes, &u)
		} else {
			err = r.emit(ctx, &u)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return units, wishes, losers.Remove(ctx)
}

// nextNames returns what gives losers, in their order, the next names to try: those of the second template, or the least numbers that
// no name of their families has.
func (r *resolver) nextNames(ctx context.Context) (rename func(*unit) error, stop func(), err error) {
	if r.policy == batch.ConflictTemplate {
		return func(u *unit) error { u.takeSecond(r.props); return nil }, func() {}, nil
	}
	if r.taken == nil {
		if err := r.takeAll(ctx); err != nil {
			return nil, nil, err
		}
	}
	free := numberer{taken: newCursor(r.taken.Sorted(ctx))}
	return func(u *unit) error { return r.proposeTo(u, &free) }, free.taken.stop, nil
}

// proposeTo gives a unit the next free number, or its natural name again.
func (r *resolver) proposeTo(u *unit, free *numberer) (err error) {
	if u.Again {
		u.Again = false
		return nil
	}
	if u.Number, err = free.next(family(u.Natural), u.Number); err != nil {
		return err
	}
	u.rename(naming.Numbered(u.Natural, u.Number), r.props)
	allOrNone(u.Rows, stuck)
	return nil
}

// numberer hands out free numbers, family by family in order.
type numberer struct {
	taken  *cursor
	family path
	last   int
}

// next is the least free number of the family above tried, and above those that it handed out before.
func (f *numberer) next(of path, tried int) (int, error) {
	if of != f.family {
		f.family, f.last = of, 1
	}
	n := max(f.last, tried) + 1
	for f.taken.ok {
		p, number := cutTaken(f.taken.item.Key)
		switch {
		case p > of || (p == of && number > uint64(n)):
			f.last = n
			return n, nil
		case p == of && number == uint64(n):
			n++
		}
		f.taken.next()
	}
	f.last = n
	return n, f.taken.err
}

// giveUp fails the units that got no name in all rounds.
func (r *resolver) giveUp(ctx context.Context) error {
	for it, err := range r.losers.Sorted(ctx) {
		if err != nil {
			return err
		}
		u, err := decode[unit](it.Value)
		if err != nil {
			return err
		}
		for i := range u.Rows {
			if u.Rows[i].Moves() {
				settle(&u.Rows[i], batch.Failed, batch.ReasonExists,
					fmt.Sprintf("no free name was found with a number in %d rounds; put more into the template", Rounds))
			}
		}
		if err := r.emit(ctx, &u); err != nil {
			return err
		}
	}
	return nil
}
