package renaming_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// late is a claim of a batch that is cancelled after so many looks.
type late struct {
	claim
	after *atomic.Int64
}

func (l late) Cancelled() bool { return l.after.Add(-1) < 0 }

// Between executions that die, or find the batch cancelled half way, somebody puts, links, renames and deletes objects at any names on the way. No content
// is lost but what was deleted, records are true, and where nothing disturbs an undo it does what its plan says.
func TestMeddlingBetweenExecutionsOfAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(rt *rapid.T) {
			var st store.Store
			folds := rapid.Bool().Draw(rt, "folds")
			nas := rapid.Bool().Draw(rt, "nas")
			switch {
			case nas:
				st = newNAS(folds)
			case folds:
				st = lone{memstore.NewFolding(archive.Root{}, naming.Fold)}
			default:
				st = lone{memstore.New(archive.Root{})}
			}
			pool := []string{"a", "b", "c", "d", "e", "f"}
			n := rapid.IntRange(2, 5).Draw(rt, "n")
			targets := rapid.Permutation(pool).Draw(rt, "targets")
			var moves []string
			grouped := rapid.IntRange(0, n).Draw(rt, "group end")
			for i := range n {
				if targets[i] == pool[i] {
					continue
				}
				to := targets[i]
				if folds && rapid.Bool().Draw(rt, "upper") {
					to = strings.ToUpper(to)
				}
				m := pool[i] + " -> " + to
				if i < grouped {
					m += " @ a"
				}
				moves = append(moves, m)
			}
			if len(moves) == 0 {
				return
			}
			w := onNAS(rt, st, moves...)
			names := []archive.Key{"a", "b", "c", "d", "e", "f", "foreign", "other"}
			for _, r := range w.rows {
				names = append(names, r.Park, r.To)
			}
			want := map[string]bool{}
			for _, c := range contents(rt, st) {
				want[c] = true
			}
			x := 0
			ctx := context.Background()
			meddle := func(label string) {
				from, to := rapid.SampledFrom(names).Draw(rt, "from"), rapid.SampledFrom(names).Draw(rt, "to")
				o, err := st.Stat(ctx, from)
				switch rapid.IntRange(0, 5).Draw(rt, label) {
				case 0: // put
					x++
					c := fmt.Sprintf("foreign %d", x)
					if st.Create(ctx, to, strings.NewReader(c)) == nil {
						want[c] = true
					}
				case 1:
					if err == nil {
						_ = st.Copy(ctx, store.CopyRequest{From: from, To: to, Want: o.Identity, Link: true})
					}
				case 2:
					if err == nil {
						_ = st.Rename(ctx, store.RenameRequest{From: from, To: to, Want: o.Identity, AssumeSingleWriter: true})
					}
				case 3:
					if err == nil {
						c := contents(rt, st)[from]
						if c == "" {
							return
						}
						deleter := st
						if l, ok := st.(lone); ok {
							deleter = l.Store
						}
						if deleter.Delete(ctx, from, o.Identity) == nil {
							delete(want, c)
						}
					}
				}
			}
			all := func(when string) {
				there := map[string]bool{}
				for _, c := range contents(rt, st) {
					there[c] = true
				}
				for c := range want {
					if !there[c] {
						rt.Fatalf("%s: %q is gone: %v", when, c, contents(rt, st))
					}
				}
			}
			carryOut := func(w *world, label string) {
				disturbed := label == "batch"
				for range rapid.IntRange(0, 3).Draw(rt, "deaths") {
					disturbed = true
					if w.diesAfter(rapid.IntRange(1, 60).Draw(rt, "left"), rapid.Bool().Draw(rt, "last")) == nil {
						break
					}
					all(label + " after a death")
					if rapid.IntRange(0, 2).Draw(rt, "meddles") == 0 {
						meddle("meddle")
					}
				}
				after := &atomic.Int64{}
				after.Store(1 << 30)
				if rapid.Bool().Draw(rt, "cancels") {
					disturbed = true
					after.Store(int64(rapid.IntRange(0, 20).Draw(rt, "cancelled after")))
				}
				if err := w.execute(late{after: after}); err != nil {
					if strings.Contains(err.Error(), "the archive is empty") {
						return
					}
					rt.Fatal(err)
				}
				all(label + " after all")
				records := w.records(rt)
				for _, row := range w.rows {
					r, at := records[row.From], cmpOr(records[row.From].To, row.From)
					if !row.Moves() {
						continue
					}
					if !disturbed && r.Outcome != batch.Done {
						rt.Errorf("%s: the plan said that %s goes to %s: %s %s", label, row.From, row.To, r.Outcome, r.Message)
					}
					if o, err := st.Stat(ctx, at); r.Reason != batch.ReasonMissing && r.Reason != batch.ReasonChanged && (err != nil || o.Identity != r.Identity) {
						rt.Errorf("%s: %s is not at %s: %s %s %s; %v", label, row.From, at, r.Outcome, r.Reason, r.Message, contents(rt, st))
					}
				}
			}
			carryOut(w, "batch")
			if rapid.IntRange(0, 2).Draw(rt, "meddles") == 0 {
				meddle("meddle")
			}
			if !nas && rapid.Bool().Draw(rt, "one step") {
				w.batch.AssumeSingleWriter = false
			}
			rt.Logf("before undo %v", contents(rt, st))
			u := w.again(rt, idB)
			for _, r := range u.rows {
				rt.Logf("undo %s -> %s by %s: %s %s", r.From, r.To, r.Park, r.Outcome, r.Message)
			}
			if len(u.rows) > 0 {
				carryOut(u, "undo")
				v := u.again(rt, "01arz3ndektsv4rrffq69g5faz")
				if len(v.rows) > 0 && rapid.Bool().Draw(rt, "and back") {
					carryOut(v, "undo of undo")
				}
			}
		})
	})
}
