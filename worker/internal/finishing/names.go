package finishing

import (
	"context"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/report"
)

// addNames notes the names of the rows of a segment that were carried out or tried.
func (f *finish) addNames(ctx context.Context, segment int, ends []rowEnd) error {
	for _, e := range ends {
		if !e.tried {
			continue
		}
		for _, key := range []archive.Key{e.Row.From, e.Now, e.Copy} {
			if key == "" {
				continue
			}
			if err := f.names.Add(ctx, report.NameEntryOf(key, segment), nil); err != nil {
				return err
			}
			f.named = true
		}
	}
	return nil
}

// writeNames writes the file of names, if there are any.
func (f *finish) writeNames(ctx context.Context) error {
	if !f.named {
		return nil
	}
	out, err := create(ctx, f, report.NamesName, report.NewNameWriter)
	if err != nil {
		return err
	}
	n := 0
	for item, err := range f.names.Sorted(ctx) {
		if err != nil {
			return err
		}
		if n++; n%aliveEvery == 0 {
			if err := f.alive(ctx); err != nil {
				return err
			}
			f.hold.Advance(aliveEvery, 0)
		}
		if err := out.to.Add(item.Key); err != nil {
			return err
		}
	}
	if err := out.finish(f); err != nil {
		return err
	}
	return f.names.Remove(ctx)
}
