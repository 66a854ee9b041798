// Package planning makes the plan of a batch: for every object from, to, or why not.
//
// A plan is made in phases that stream. Each ends in external sorts (extsort) below plan/<epoch>/sort in the ledger, so
// memory does not grow with the archive:
//
//  1. Evaluate. The records of the inspect step are sorted by naming.Groups.Key and arranged into units: a principal with
//     the companions that move with it. The template names the principal, by its record and what its XMP sidecar says; its
//     companions follow. What a manifest says of the objects and which names they had first is sorted alike and joined, where
//     the template asks for it. Units that cannot be named, or have their names already, are settled here.
//  2. Check. The names that the others want are merged with every key of the archive, excluded ones too, in an order that
//     puts a folder right before what lies in it, keys folded (naming.Fold). One pass over it finds the names that are
//     wanted twice, that are taken, or that are folders or below objects.
//  3. Resolve, by the batch's conflict policy. Policy number repeats: it proposes the least free number to each unit in
//     order of capture time and key, and checks again, at most Rounds times. Policy template proposes the names of its second
//     template, once.
//  4. Write. The rows are sorted by the key of the unit's principal and written in segments, and the summary is counted.
//     Where the archive cannot rename safely, and nobody says that nobody else writes, rows that would move fail here.
//
// Of a batch that copies, what "moves" gets a copy, and no name is ever left.
//
// The manifest that seals the plan is created if absent: of several executions the first wins, and the others adopt what
// it sealed. An execution that was interrupted leaves nothing that counts; the next one starts again under its own epoch.
package planning

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
)

// Hold is the claim under which work is done.
type Hold interface {
	// Held is nil while the claim is certainly held; else stop at once and touch nothing any more.
	Held() error
	// Cancelled: the batch was cancelled.
	Cancelled() bool
	// Advance tells what was done since the last call. Every phase tells what it passes over, so the sum is a sign of
	// life and not a number of rows.
	Advance(objects, bytes int64)
}

// Rounds is how often policy number tries other numbers for a unit before its rows fail.
const Rounds = 100

// Defaults of Options.
const (
	DefaultRows   = 1000
	DefaultMemory = 32 << 20
)

// Options of a plan; the zero value works.
type Options struct {
	// Rows is the most that a segment of the rename step holds, and a group can have. Defaults to DefaultRows.
	Rows int
	// Memory is what all sorts hold together, in bytes. Defaults to DefaultMemory.
	Memory int
}

func (o Options) withDefaults() Options {
	if o.Rows == 0 {
		o.Rows = DefaultRows
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	return o
}

// generation of the inspect step that plans are made from.
const generation = 1

// errCancelled ends a plan early.
var errCancelled = errors.New("the batch was cancelled")

// Plan makes and seals the plan of a batch of kind rename, or adopts the one that is sealed. It returns nil where the
// batch was cancelled meanwhile; then there may be no plan. epoch is that of the claim; no other execution has the same.
func Plan(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, epoch int64, opts Options) error {
	if b.Renaming == nil {
		return fmt.Errorf("plan batch %s: %w: it has no template", b.ID, batch.ErrInvalid)
	}
	t, err := b.Renaming.Parse()
	if err != nil {
		return fmt.Errorf("plan batch %s: %w", b.ID, err)
	}
	second, err := b.Renaming.ParseConflict()
	if err != nil {
		return fmt.Errorf("plan batch %s: the template for names that are taken: %w", b.ID, err)
	}
	groups, err := b.Renaming.ParseGroups()
	if err != nil {
		return fmt.Errorf("plan batch %s: %w", b.ID, err)
	}
	p := &planner{
		desk:    newDesk(hold, led, st, b, epoch, opts),
		archive: st, template: t, second: second, groups: groups, policy: b.Renaming.OnConflict,
	}
	if err := p.desk.seal(ctx, p.plan); err != nil {
		return fmt.Errorf("plan batch %s: %w", b.ID, err)
	}
	return nil
}

// desk is what every way of making a plan needs: the claim, the sorts and the sealing.
type desk struct {
	hold    Hold
	led     *ledger.Ledger
	batch   batch.Batch
	props   store.Properties // of the archive
	epoch   int64
	opts    Options
	passed  int64
	sorts   *extsort.Group
	sorters []*extsort.Sorter
}

func newDesk(hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, epoch int64, opts Options) *desk {
	opts = opts.withDefaults()
	sorts := extsort.NewGroup(led.Store(), extsort.Options{Memory: opts.Memory})
	return &desk{hold: hold, led: led, batch: b, props: st.Properties(), epoch: epoch, opts: opts, sorts: sorts}
}

// chains reports whether objects may get names that others of the batch leave, one after the other.
func (d *desk) chains() bool {
	return d.props.AtomicRename && !d.batch.AssumeSingleWriter && !d.batch.Copies()
}

// parks reports whether they may by way of names in between, where the shorter way is not to be had.
func (d *desk) parks() bool {
	return d.props.Parks && !d.chains() && !d.batch.Copies() && (d.props.GuardedRename || d.batch.AssumeSingleWriter)
}

// refolds reports whether objects may get names that the archive does not tell from their old ones, by way of names in between. In a bucket
// that folds names the marks of copies would not tell where an object is.
func (d *desk) refolds() bool { return d.props.FoldsCase && !d.props.Marks && !d.batch.Copies() }

// refolded reports whether a row is renamed so.
func (d *desk) refolded(r batch.Row) bool { return d.refolds() && r.Moves() && r.SameFolded() }

// exchanges reports whether objects of the batch may exchange their names.
func (d *desk) exchanges() bool { return d.chains() && d.props.Exchange }

// seal runs work and seals the plan that it returns, unless one is sealed already.
func (d *desk) seal(ctx context.Context, work func(context.Context) (batch.Plan, error)) error {
	switch _, _, err := d.led.Plan(ctx, d.batch.ID); {
	case err == nil:
		return nil
	case !errors.Is(err, store.ErrNotExist):
		return err
	}
	defer d.clear(ctx)
	plan, err := work(ctx)
	if err == nil {
		err = d.check(ctx)
	}
	if errors.Is(err, errCancelled) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.led.SealPlan(ctx, plan); err != nil && !errors.Is(err, store.ErrExist) {
		return err
	}
	return nil
}

// tickEvery is after how many records the claim is looked at.
const tickEvery = 256

// tick counts one record and now and then checks whether to go on.
func (d *desk) tick(ctx context.Context) error {
	d.passed++
	if d.passed%tickEvery != 0 {
		return nil
	}
	d.hold.Advance(tickEvery, 0)
	return d.check(ctx)
}

func (d *desk) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.hold.Held(); err != nil {
		return err
	}
	if d.hold.Cancelled() {
		return errCancelled
	}
	return nil
}

func (d *desk) epochPrefix() string {
	return string(ledger.Key(d.batch.ID, "plan", fmt.Sprintf("%020d", d.epoch)))
}

// sorter starts a sort. Each has its own place below the epoch.
func (d *desk) sorter(name string) *extsort.Sorter {
	prefix := fmt.Sprintf("%s/sort/%03d-%s", d.epochPrefix(), len(d.sorters), name)
	s := d.sorts.Sorter(prefix)
	d.sorters = append(d.sorters, s)
	return s
}

// clearWithin bounds what follows a plan, also where ctx is done.
const clearWithin = time.Minute

// clear removes scratch: the sorts of this execution, and everything that executions whose plan was not sealed left
// behind. What cannot be removed does no harm, and goes with the batch.
func (d *desk) clear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearWithin)
	defer cancel()
	for _, s := range d.sorters {
		_ = s.Remove(ctx)
	}
	sealed, _, err := d.led.Plan(ctx, d.batch.ID)
	if err != nil {
		return
	}
	keep := string(ledger.Key(d.batch.ID, "plan", fmt.Sprintf("%020d", sealed.Epoch), "rows", ""))
	for e, err := range d.led.Store().List(ctx, store.ListOptions{Prefix: string(ledger.Key(d.batch.ID, "plan", ""))}) {
		if err != nil {
			return
		}
		if !strings.HasPrefix(string(e.Key), keep) {
			_ = d.led.Store().Delete(ctx, e.Key, archive.Identity{})
		}
	}
}

// planner makes the plan of a rename.
type planner struct {
	*desk
	archive  store.Store
	template *naming.Template
	second   *naming.Template // names what the template gives no free name; nil if the policy has none
	groups   *naming.Groups
	policy   batch.Conflict

	// columns holds what the manifest says of objects, by what they may belong to, like the members of evaluate; nil if no name
	// is made of it.
	columns *extsort.Sorter
	// originals holds the first names of objects that have others now, likewise.
	originals *extsort.Sorter
	// contents holds what tells contents apart, by key; nil if the policy does not ask for it.
	contents *extsort.Sorter
	// rows holds rows whose outcome is settled, by principal and key.
	rows *extsort.Sorter
	// units and wishes hold the units that want to move, by id, and the names that they want, by path.
	units, wishes *extsort.Sorter
	moving        int64
}

func (p *planner) plan(ctx context.Context) (batch.Plan, error) {
	p.rows, p.units, p.wishes = p.sorter("rows"), p.sorter("units"), p.sorter("wishes")
	if p.policy == batch.ConflictSameContent {
		p.contents = p.sorter("contents")
	}
	if err := p.evaluate(ctx); err != nil {
		return batch.Plan{}, err
	}
	if p.moving > 0 {
		if err := p.resolve(ctx); err != nil {
			return batch.Plan{}, err
		}
	}
	return p.write(ctx)
}

// write writes the rows, which are settled.
func (p *planner) write(ctx context.Context) (batch.Plan, error) {
	w := newWriter(p.desk)
	for it, err := range p.rows.Sorted(ctx) {
		if err != nil {
			return batch.Plan{}, err
		}
		row, err := decode[batch.Row](it.Value)
		if err != nil {
			return batch.Plan{}, err
		}
		if err := w.add(ctx, row); err != nil {
			return batch.Plan{}, err
		}
	}
	return w.finish(ctx)
}
