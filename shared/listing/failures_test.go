package listing_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store"
)

// scripted lists the entries that it is given, whatever is asked for.
type scripted struct {
	store.Store
	entries []store.Entry
	err     error
}

func (s scripted) List(_ context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for _, e := range s.entries {
			if (opts.After == "" || e.Key > opts.After) && !yield(e, nil) {
				return
			}
		}
		if s.err != nil {
			yield(store.Entry{}, s.err)
		}
	}
}

func named(key archive.Key) store.Entry { return store.Entry{Object: archive.Object{Key: key}} }

func TestListUnreadableFolder(t *testing.T) {
	unreadable := named("d")
	unreadable.Kind, unreadable.Err = store.Unreadable, errors.New("open d: "+strings.Repeat("\x1b é", 400))
	st := scripted{Store: newArchive(t), entries: []store.Entry{named("a"), unreadable, named("d/x")}}
	led, b := newLedger(t), newBatch(t, func(b *batch.Batch) { b.Filter.Include = []string{"a", "x"} })
	if _, _, err := list(t, led, st, b, listing.Options{}); err != nil {
		t.Fatal(err)
	}
	segs := segments(t, led, b.ID)
	if diff := cmp.Diff([]string{"a", "d", "d/x"}, keysOf(segs)); diff != "" {
		t.Fatalf("keys (-want +got):\n%s", diff)
	}
	o := segs[0].Objects[1]
	if o.Outcome != batch.Failed || o.Problem != batch.ReasonUnreadable {
		t.Errorf("outcome %q, problem %q; want failed, unreadable", o.Outcome, o.Problem)
	}
	if !strings.HasPrefix(o.Detail, `the folder could not be listed: open d: \u{1b} é`) || len(o.Detail) > 600 {
		t.Errorf("detail = %q", o.Detail)
	}
}

// What cannot be read or addressed is part of the list all the same, in its order.
func TestListWhatCannotBeRead(t *testing.T) {
	unaddressable := func(key archive.Key) store.Entry {
		e := named(key)
		_, err := archive.ParseKey(string(key))
		e.Kind, e.Err = store.Unaddressable, err
		return e
	}
	cold, nameless := named("cold"), named("cold2")
	cold.Kind, cold.Class = store.Cold, "DEEP_ARCHIVE"
	nameless.Kind = store.Cold
	garbled := named("x\uFFFD") // a key that could be addressed, and is not the true one
	garbled.Kind = store.Unaddressable
	st := scripted{Store: newArchive(t), entries: []store.Entry{
		unaddressable("../up"), unaddressable("./a"), unaddressable("/lead"), unaddressable("@eaDir//thumb"), unaddressable("a/\x00"), unaddressable("a//b"),
		cold, nameless, unaddressable("dir/"), unaddressable("d\xff//\x1b"), named("plain"), garbled,
	}}
	want := []struct {
		key     string
		outcome batch.Outcome
		problem batch.Reason
		detail  string
	}{
		{"../up", batch.Failed, batch.ReasonUnaddressable, "rename it with the tool that made it"},
		{"./a", batch.Failed, batch.ReasonUnaddressable, `the segment "."`},
		{"/lead", batch.Failed, batch.ReasonUnaddressable, `the segment ""`},
		{"a/\x00", batch.Failed, batch.ReasonUnaddressable, "NUL"},
		{"a//b", batch.Failed, batch.ReasonUnaddressable, `the segment ""`},
		{"cold", batch.Skipped, batch.ReasonCold, "class DEEP_ARCHIVE"},
		{"cold2", batch.Skipped, batch.ReasonCold, "restore the object, then inspect it again"},
		{"dir/", batch.Failed, batch.ReasonUnaddressable, `the segment ""`},
		{"d\xff//\x1b", batch.Failed, batch.ReasonUnaddressable, `\x1b`},
		{"plain", "", "", ""},
		{"x\uFFFD", batch.Failed, batch.ReasonUnaddressable, "cannot be addressed; rename"},
	}
	for _, size := range []int{1, 1000} { // one object a segment: what cannot be addressed is where the next begins
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			led, b := newLedger(t), newBatch(t)
			if _, _, err := list(t, led, st, b, listing.Options{Objects: size}); err != nil {
				t.Fatal(err)
			}
			segs := segments(t, led, b.ID)
			if got := excludedIn(segs); got != 1 {
				t.Errorf("%d excluded, want 1, in a folder that is litter", got)
			}
			var got []batch.Listed
			for _, seg := range segs {
				got = append(got, seg.Objects...)
			}
			if len(got) != len(want) {
				t.Fatalf("listed %q, want %d objects", keysOf(segs), len(want))
			}
			for i, w := range want {
				o := got[i]
				if string(o.Key) != w.key || o.Outcome != w.outcome || o.Problem != w.problem || !strings.Contains(o.Detail, w.detail) {
					t.Errorf("%d: got %+v, want %+v", i, o, w)
				}
			}
		})
	}
}

func TestListFailures(t *testing.T) {
	outage := fmt.Errorf("list: %w", store.ErrUnavailable)
	rootEntry := store.Entry{Kind: store.Unreadable, Err: errors.New("permission denied")}
	lost := errors.New("claim lost")
	told := errors.New("nobody listens")
	tests := []struct {
		name string
		st   scripted
		opts listing.Options
		mod  func(*batch.Batch)
		hold claim
		made error
		want error
		text string
	}{
		{name: "root is missing", st: scripted{err: outage}, want: store.ErrUnavailable, text: "list file:///archive"},
		{name: "root goes away", st: scripted{entries: []store.Entry{named("a")}, err: outage}, want: store.ErrUnavailable},
		{name: "root cannot be listed", st: scripted{entries: []store.Entry{rootEntry}}, want: store.ErrUnavailable, text: "permission"},
		{name: "empty after a full one", opts: listing.Options{Previous: 7}, want: store.ErrUnavailable, text: "found 7 objects"},
		{name: "only litter after a full one", st: scripted{entries: []store.Entry{named("lost+found")}},
			opts: listing.Options{Previous: 7}, want: store.ErrUnavailable, text: "1 files or folders excluded"},
		{name: "out of order", st: scripted{entries: []store.Entry{named("b"), named("a")}}, text: "a after b"},
		{name: "twice", st: scripted{entries: []store.Entry{named("b"), named("b")}}, text: "b after b"},
		{name: "not a key", st: scripted{entries: []store.Entry{named("a//b")}}, want: archive.ErrKey},
		{name: "longer than any key", want: archive.ErrKey,
			st: scripted{entries: []store.Entry{{Kind: store.Unaddressable, Object: archive.Object{Key: archive.Key(strings.Repeat("/", archive.MaxKeyBytes+1))}}}}},
		{name: "claim lost", st: scripted{entries: []store.Entry{named("a")}}, hold: claim{held: func() error { return lost }}, want: lost},
		{name: "made fails", st: scripted{entries: []store.Entry{named("a")}}, made: told, want: told},
		{name: "bad filter", mod: func(b *batch.Batch) { b.Filter.Exclude = []string{"["} }, want: listing.ErrPattern},
		{name: "manifest was never spooled", mod: manifestBatch, want: store.ErrNotExist, text: "manifest of batch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.st.Store = newArchive(t)
			b := newBatch(t)
			if tt.mod != nil {
				tt.mod(&b)
			}
			led := newLedger(t)
			made := func(context.Context, ledger.Header) error { return tt.made }
			_, err := listing.List(t.Context(), &tt.hold, led, tt.st, b, tt.opts, made)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("err = %v; want %v with %q", err, tt.want, tt.text)
			}
			if _, sealed, err := led.Sealed(t.Context(), b.ID, batch.StepInspect, 1); sealed || err != nil {
				t.Errorf("sealed = %v, %v; want false", sealed, err)
			}
		})
	}
}

// A problem alone shows that the archive is there.
func TestListOfProblemsIsNotEmpty(t *testing.T) {
	link := named("link")
	link.Kind = store.Symlink
	led, b := newLedger(t), newBatch(t)
	st := scripted{Store: newArchive(t), entries: []store.Entry{link}}
	if _, _, err := list(t, led, st, b, listing.Options{Previous: 7}); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(segments(t, led, b.ID)); len(got) != 1 {
		t.Errorf("keys = %q, want the link", got)
	}
}

// A list whose segments do not fit together is reported, never continued.
func TestListRefusesDamage(t *testing.T) {
	object := func(key archive.Key) batch.Listed { return batch.Listed{Object: archive.Object{Key: key}} }
	tests := []struct {
		name string
		segs map[int]batch.Segment
	}{
		{"descending", map[int]batch.Segment{0: {Objects: []batch.Listed{object("b")}}, 1: {Objects: []batch.Listed{object("a")}}}},
		{"gap", map[int]batch.Segment{0: {Objects: []batch.Listed{object("a")}}, 2: {Objects: []batch.Listed{object("b")}}}},
		{"empty within", map[int]batch.Segment{0: {}, 1: {Objects: []batch.Listed{object("b")}, End: true}}},
		{"past the end", map[int]batch.Segment{0: {End: true}, 1: {Objects: []batch.Listed{object("b")}, End: true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			led, b := newLedger(t), newBatch(t)
			for n, seg := range tt.segs {
				ref := batch.Ref{Batch: b.ID, Step: batch.StepInspect, Generation: 1, Segment: n}
				if _, err := led.CreateSegment(t.Context(), ref, seg); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := list(t, led, newArchive(t, "a", "b", "c"), b, listing.Options{}); !errors.Is(err, ledger.ErrCorrupt) {
				t.Errorf("err = %v, want %v", err, ledger.ErrCorrupt)
			}
		})
	}
}
