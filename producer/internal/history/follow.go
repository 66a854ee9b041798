package history

import (
	"context"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
)

// Of follows all objects that had a key below root at any time, the one that had it last first, each through at most limit
// moves (0: all).
func (h *History) Of(ctx context.Context, root archive.Root, key archive.Key, limit int) ([]Object, error) {
	at := nameOf(root, key)
	events, err := h.events(ctx, at)
	if err != nil {
		return nil, err
	}
	type id struct {
		source, row int64
		stayed      bool
	}
	seen := map[id]bool{}
	var out []Object
	for _, e := range slices.Backward(events) {
		if seen[id{e.move.source, e.move.row, e.move.stayed}] {
			continue
		}
		o, err := h.follow(ctx, e, limit)
		if err != nil {
			return nil, err
		}
		for _, m := range o.Moves {
			seen[id{m.source, m.row, m.stayed}] = true
		}
		out = append(out, o)
	}
	return out, nil
}

// follow follows the object of an event in both directions.
func (h *History) follow(ctx context.Context, e event, limit int) (Object, error) {
	var o Object
	m := e.move
	from, to := nameOf(m.Archive, m.From), nameOf(m.Archive, m.To)
	if e.kind == stayed {
		to = from
	}
	newer, last, lost, err := h.forward(ctx, to, m.source, limit)
	if err != nil {
		return o, err
	}
	older, first, err := h.backward(ctx, from, m.source, limit)
	if err != nil {
		return o, err
	}
	slices.Reverse(newer)
	o.Moves = slices.Concat(newer, []Move{m}, older)
	o.Lost = lost
	if limit > 0 && len(o.Moves) > limit {
		// The move that was asked for stays among those that are shown.
		skip := min(max(0, len(newer)+1-limit), len(newer))
		o.Moves, o.More = o.Moves[skip:min(len(o.Moves), skip+limit)], true
	}
	o.Archive = o.Moves[0].Archive
	o.First, o.Last = first.text(o.Archive), last.text(o.Archive)
	return o, nil
}

// text is the key below root, or, where the name is not below it, the whole path.
func (n name) text(root archive.Root) archive.Key {
	if key, ok := n.in(root); ok {
		return key
	}
	return archive.Key(n.path)
}

// forward follows what was at a name after a batch, the oldest move first, to the name that it has in the end. lost: another
// object came to that name later.
func (h *History) forward(ctx context.Context, at name, after int64, limit int) (moves []Move, end name, lost bool, err error) {
	for limit == 0 || len(moves) < limit {
		events, err := h.events(ctx, at)
		if err != nil {
			return nil, at, false, err
		}
		gone := false
		for _, e := range events {
			if e.move.source <= after {
				continue
			}
			if e.kind == came {
				return moves, at, true, nil
			}
			moves = append(moves, e.move)
			if gone = e.kind == left; gone {
				at, after = nameOf(e.move.Archive, e.move.To), e.move.source
				break
			}
		}
		if !gone {
			break
		}
	}
	return moves, at, false, nil
}

// backward follows what was at a name before a batch, the newest move first, to the first name that is known.
func (h *History) backward(ctx context.Context, at name, before int64, limit int) (moves []Move, begin name, err error) {
	for limit == 0 || len(moves) < limit {
		events, err := h.events(ctx, at)
		if err != nil {
			return nil, at, err
		}
		found := false
		for _, e := range slices.Backward(events) {
			if e.move.source >= before {
				continue
			}
			if e.kind == left {
				return moves, at, nil // what came later is another object
			}
			moves = append(moves, e.move)
			if found = e.kind == came; found {
				at, before = nameOf(e.move.Archive, e.move.From), e.move.source
				break
			}
		}
		if !found {
			break
		}
	}
	return moves, at, nil
}
