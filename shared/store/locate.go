package store

import (
	"context"
	"errors"

	"github.com/reshelf/reshelf/shared/archive"
)

// Sight is what stands at a key.
type Sight struct {
	Taken  bool
	Object archive.Object // zero if it is not a regular file
}

// Is reports whether the object that want describes is there.
func (s Sight) Is(want archive.Identity) bool {
	return s.Object.Key != "" && want.Same(s.Object.Identity)
}

// Look looks at a key. That nothing is there, or no object, is no error.
func Look(ctx context.Context, st Store, key archive.Key) (Sight, error) {
	o, err := st.Stat(ctx, key)
	switch {
	case errors.Is(err, ErrNotExist):
		return Sight{}, nil
	case errors.Is(err, ErrNotRegular):
		return Sight{Taken: true}, nil
	}
	return Sight{Taken: true, Object: o}, err
}

// Spelled are those of the keys that a listing has exactly so, which Stat does not tell where names are folded. It lists each folder of
// the keys once.
func Spelled(ctx context.Context, st Store, keys ...archive.Key) (map[archive.Key]bool, error) {
	wanted, folders, spelled := map[archive.Key]bool{}, map[archive.Key]bool{}, map[archive.Key]bool{}
	for _, key := range keys {
		wanted[key], folders[key.Dir()] = true, true
	}
	for dir := range folders {
		opts := ListOptions{Skip: func(key archive.Key, isDir bool) bool {
			if isDir {
				return len(key) > len(dir)
			}
			return !wanted[key]
		}}
		if dir != "" {
			opts.Prefix = string(dir) + "/"
		}
		for e, err := range st.List(ctx, opts) {
			if err != nil {
				return nil, err
			}
			spelled[e.Key] = e.Kind == Regular
		}
	}
	return spelled, nil
}

// Place says where the object of a rename is.
type Place int

// Places of an object.
const (
	AtSource Place = iota // and the target is free, or is the same object under another name
	AtTarget              // an execution of this request moved it
	Conflict              // at the source, and the target is taken by something else
	Changed               // something else is at the source
	Missing               // nothing is at the source, and the target is free or taken by something else
)

// Whereabouts are what stands at both names of a request.
type Whereabouts struct {
	Source, Target Sight
	request        RenameRequest
	marks          bool
}

// Locate looks at both names of a request.
func Locate(ctx context.Context, st Store, req RenameRequest) (Whereabouts, error) {
	source, err := Look(ctx, st, req.From)
	if err != nil {
		return Whereabouts{}, err
	}
	target, err := Look(ctx, st, req.To)
	if err != nil {
		return Whereabouts{}, err
	}
	return Whereabouts{Source: source, Target: target, request: req, marks: st.Properties().Marks}, nil
}

// Proven reports whether the target certainly is the object of the request, whatever is at the source: it bears the mark
// of the request, it is the very file that was asked for, or the very version that an undo was to bring back.
func (w Whereabouts) Proven() bool {
	o, req := w.Target.Object, w.request
	switch {
	case o.Key == "":
		return false
	case req.OpID != "" && o.Mark == req.OpID:
		return true
	case req.Want.Inode != 0 && req.Want.Inode == o.Inode:
		return w.Target.Is(req.Want)
	case req.Undoes != nil && req.Undoes.Was.Version != "" && req.Undoes.Was.Version == o.Version:
		return w.Target.Is(req.Undoes.Was)
	}
	return false
}

// Half reports whether the object is at both names, since a rename was interrupted: a copy whose source is still there, or a
// file with two names.
func (w Whereabouts) Half() bool { return w.Source.Is(w.request.Want) && w.Proven() }

// Place says where the object is, by the rules of Store.Rename. An identity without a mark or a number is proof only
// where nothing is at the source, and the store knows no marks.
func (w Whereabouts) Place() Place {
	want := w.request.Want
	switch {
	case w.Source.Is(want) && (!w.Target.Taken || w.Proven()):
		return AtSource
	case w.Source.Is(want):
		return Conflict
	case w.Proven(), !w.marks && !w.Source.Taken && w.Target.Is(want) && want.MTime != 0:
		return AtTarget
	case w.Source.Taken:
		return Changed
	}
	return Missing
}
