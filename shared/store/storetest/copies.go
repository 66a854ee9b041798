package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
)

func (s suite) copies(t *testing.T) {
	s.run(t, "Copies", fixture.copied)
	s.run(t, "NeverReplaces", func(f fixture) { f.copyNeverReplaces(false) })
	s.run(t, "SourceMissing", func(f fixture) {
		f.create("a", "b")
		for _, from := range []archive.Key{"c", "a/b", "x/y"} {
			for _, to := range []archive.Key{"new", "b"} {
				req := f.copyRequest("a", to)
				req.From = from
				err := f.Copy(f.Context(), req)
				f.wantError("copy", err, store.ErrNotExist, from)
				f.wantError("copy", err, store.ErrNotExist, to)
			}
		}
		f.wantKeys("a", "b")
	})
	s.run(t, "SourceChanged", func(f fixture) {
		f.createContent("a", "a")
		for _, other := range others(f.identity("a")) {
			req := f.copyRequest("a", "b")
			req.Want = other
			f.wantError(fmt.Sprintf("copy of %+v", other), f.Copy(f.Context(), req), store.ErrChanged, "a")
		}
		f.wantKeys("a")
	})
	s.run(t, "Digest", func(f fixture) {
		f.createContent("a", "abc")
		for text, ok := range map[string]bool{"crc32:352441c2": true, "crc32:352441c3": false} {
			d, err := digest.Parse(text)
			if err != nil {
				f.Fatal(err)
			}
			req := f.copyRequest("a", archive.Key("copy-"+d.Hex()))
			req.Digest = d
			switch err := f.Copy(f.Context(), req); {
			case ok && err != nil:
				f.Error(err)
			case !ok && !f.Properties().Marks: // where an ETag stands for the content, the digest need not be looked at
				f.wantError("copy of other content", err, store.ErrChanged, "a")
				f.wantGone(req.To)
			}
		}
	})
	s.run(t, "Repeated", fixture.copyRepeated)
	s.run(t, "During", fixture.copyTells)
	s.run(t, "Ended", fixture.copyEnded)
	s.run(t, "HardLinks", fixture.linked)
}

// copyRequest is a copy of the object at from as it is now.
func (f fixture) copyRequest(from, to archive.Key) store.CopyRequest {
	f.Helper()
	return store.CopyRequest{
		From: from, To: to, Want: f.identity(from), OpID: opID(from, to), AssumeSingleWriter: f.opts.AssumeSingleWriter,
	}
}

func (f fixture) copy(from, to archive.Key) store.CopyRequest {
	f.Helper()
	req := f.copyRequest(from, to)
	if err := f.Copy(f.Context(), req); err != nil {
		f.Fatal(err)
	}
	return req
}

func (f fixture) wantGone(key archive.Key) {
	f.Helper()
	_, err := f.Stat(f.Context(), key)
	f.wantError("stat", err, store.ErrNotExist, key)
}

func (f fixture) wantCopied(req store.CopyRequest, want bool) {
	f.Helper()
	if got, err := f.Copied(f.Context(), req); err != nil || got != want {
		f.Errorf("copied %q to %q: got %t (%v), want %t", req.From, req.To, got, err, want)
	}
}

func (f fixture) copied() {
	f.createContent("a", "a")
	f.createContent("d/b", "")
	for from, to := range map[archive.Key]archive.Key{"a": "x/y/z", "d/b": "d/c"} {
		f.wantCopied(f.copyRequest(from, to), false)
		req := f.copy(from, to)
		f.wantCopied(req, true)
		if now := f.identity(from); now != req.Want {
			f.Errorf("%q is %+v after it was copied, %+v before", from, now, req.Want)
		}
		obj, err := f.Stat(f.Context(), to)
		switch {
		case err != nil:
			f.Error(err)
		case f.Properties().KeepsMTime && obj.MTime != req.Want.MTime:
			f.Errorf("%q: modified %d, the original %d", to, obj.MTime, req.Want.MTime)
		case obj.Inode != 0 && obj.Inode == req.Want.Inode:
			f.Errorf("%q has the inode of the original", to)
		case f.Properties().Marks && obj.Mark != req.OpID:
			f.Errorf("%q bears %q, want %q", to, obj.Mark, req.OpID)
		}
	}
	f.wantKeys("a", "d/b", "d/c", "x/y/z")
	for key, content := range map[archive.Key]string{"a": "a", "x/y/z": "a", "d/b": "", "d/c": ""} {
		f.wantContent(key, content)
	}
	if err := f.Sync(f.Context(), []archive.Key{"x/y/z", "d/c"}); err != nil {
		f.Error(err)
	}
}

func (f fixture) copyNeverReplaces(link bool) {
	f.createContent("a", "same size 1")
	f.createContent("b", "same size 2")
	f.createContent("d/e", "other")
	taken := []archive.Key{"b", "d/e", "a"}
	if f.Properties().Folders {
		taken = append(taken, "b/c", "b/c/d", "d", "d/e/f", "a/x")
	}
	for _, to := range taken {
		req := f.copyRequest("a", to)
		req.Link = link
		f.wantError("copy", f.Copy(f.Context(), req), store.ErrExist, to)
		req.AssumeSingleWriter = true
		f.wantError("copy by a single writer", f.Copy(f.Context(), req), store.ErrExist, to)
		f.wantCopied(req, false)
	}
	f.wantKeys("a", "b", "d/e")
	f.wantContent("a", "same size 1")
	f.wantContent("b", "same size 2")
	f.wantContent("d/e", "other")
}

// copyRepeated repeats requests that were carried out, and others beside what these made.
func (f fixture) copyRepeated() {
	f.createContent("a", "content")
	f.createContent("other", "CONTENT")
	req := f.copy("a", "b")
	before := f.identity("b")
	for range 2 {
		if err := f.Copy(f.Context(), req); err != nil {
			f.Errorf("repeated: %v", err)
		}
	}
	if now := f.identity("b"); now != before {
		f.Errorf("the copy is %+v after it was asked for again, %+v before", now, before)
	}
	foreign := f.copyRequest("other", "b")
	f.wantError("copy of another object", f.Copy(f.Context(), foreign), store.ErrExist, "b")
	f.wantCopied(foreign, false)
	back := f.copyRequest("b", "a") // the original is not a copy of the copy
	if f.Properties().Marks {
		f.wantError("copy back", f.Copy(f.Context(), back), store.ErrExist, "a")
	}
	// Whatever becomes of the original, the copy stays, and is never taken for anything that it is not.
	if err := f.Rename(f.Context(), f.request("a", "c")); err != nil {
		f.Fatal(err)
	}
	if err := f.Copy(f.Context(), req); err != nil {
		f.wantError("copy of what is gone", err, store.ErrNotExist, "a")
	}
	f.wantKeys("b", "c", "other")
	for key, content := range map[archive.Key]string{"b": "content", "c": "content", "other": "CONTENT"} {
		f.wantContent(key, content)
	}
}

func (f fixture) copyTells() {
	content := patterned(3<<20 + 7)
	f.createContent("a", content)
	req := f.copyRequest("a", "b")
	var sum, last int64
	req.During = func(n int64) error {
		if sum, last = sum+n, n; n < 0 {
			f.Errorf("%d bytes copied", n)
		}
		f.wantGone("b")
		return nil
	}
	if err := f.Copy(f.Context(), req); err != nil {
		f.Fatal(err)
	}
	if sum != int64(len(content)) || last != 0 {
		f.Errorf("told %d bytes, at last %d; want %d, 0", sum, last, len(content))
	}
	f.wantContent("b", content)
}

var errEnded = errors.New("ended")

// copyEnded ends copies at each moment at which that is asked.
func (f fixture) copyEnded() {
	content := patterned(2<<20 + 7)
	f.createContent("a", content)
	for at := 0; ; at++ {
		ctx, cancel := context.WithCancel(f.Context())
		req, n, want := f.copyRequest("a", "b"), 0, errEnded
		req.During = func(int64) error {
			if n++; n != at+1 {
				return nil
			}
			if at%2 == 1 {
				want = context.Canceled
				cancel()
				return ctx.Err()
			}
			return errEnded
		}
		err := f.Copy(ctx, req)
		cancel()
		if n <= at {
			break
		}
		f.wantError(fmt.Sprintf("copy that is ended at %d", at), err, want, "b")
		f.wantKeys("a")
	}
	f.wantKeys("a", "b")
	f.wantContent("a", content)
	f.wantContent("b", content)
}

func (f fixture) linked() {
	f.createContent("a", "a")
	req := f.copyRequest("a", "x/y")
	req.Link = true
	err := f.Copy(f.Context(), req)
	if errors.Is(err, store.ErrUnsupported) && !f.Properties().Local {
		f.wantKeys("a")
		f.wantCopied(req, false)
		return
	}
	if err != nil {
		f.Fatal(err)
	}
	for range 2 {
		if err := f.Copy(f.Context(), req); err != nil {
			f.Errorf("repeated: %v", err)
		}
		f.wantCopied(req, true)
	}
	if got := f.identity("x/y"); got != req.Want {
		f.Errorf("the link is %+v, the original %+v", got, req.Want)
	}
	f.wantKeys("a", "x/y")
	f.wantContent("x/y", "a")
	if err := f.Rename(f.Context(), f.request("a", "b")); err != nil {
		f.Fatal(err)
	}
	f.wantKeys("b", "x/y")
	f.wantContent("x/y", "a")
}

func (s suite) linksNeverReplace(t *testing.T) {
	s.run(t, "NeverReplace", func(f fixture) {
		if f.Properties().Local {
			f.copyNeverReplaces(true)
		}
	})
}

func (s suite) copyRaces(t *testing.T) {
	for name, link := range map[string]bool{"Copies": false, "HardLinks": true} {
		s.run(t, "OneTargetOf"+name, func(f fixture) {
			if link && !f.Properties().Local {
				return
			}
			for round := range 5 {
				f.raceForCopy(archive.Key(fmt.Sprintf("race%d/", round)), link)
			}
		})
		s.run(t, "OneRequestFor"+name, func(f fixture) {
			if link && !f.Properties().Local {
				return
			}
			for round := range 5 {
				from := archive.Key(fmt.Sprintf("from%d", round))
				f.create(from)
				req := f.copyRequest(from, "to/"+from)
				req.Link = link
				if err := errors.Join(together(16, func(int) error { return f.Copy(f.Context(), req) })...); err != nil {
					f.Error(err)
				}
				f.wantContent("to/"+from, string(from))
				f.wantContent(from, string(from))
			}
		})
	}
	s.run(t, "CreateOrCopy", func(f fixture) {
		for round := range 10 {
			from := archive.Key(fmt.Sprintf("from%d", round))
			f.create(from)
			req := f.copyRequest(from, "to/"+from)
			errs := together(2, func(i int) error {
				if i == 0 {
					return f.Create(f.Context(), req.To, strings.NewReader("created"))
				}
				return f.Copy(f.Context(), req)
			})
			want := string(from)
			if f.winner(errs, store.ErrExist) == 0 {
				want = "created"
			}
			f.wantContent(req.To, want)
			f.wantContent(from, string(from))
		}
	})
	s.run(t, "CopyOrRename", func(f fixture) {
		for round := range 10 {
			from := archive.Key(fmt.Sprintf("from%d", round))
			f.create(from)
			move, req := f.request(from, "moved/"+from), f.copyRequest(from, "copied/"+from)
			errs := together(2, func(i int) error {
				if i == 0 {
					return f.Rename(f.Context(), move)
				}
				return f.Copy(f.Context(), req)
			})
			if errs[0] != nil {
				f.Error(errs[0])
			}
			f.wantContent(move.To, string(from))
			if errs[1] == nil {
				f.wantContent(req.To, string(from))
			}
		}
	})
}

// raceForCopy copies 16 objects to one name: one gets it, and all stay as they are.
func (f fixture) raceForCopy(dir archive.Key, link bool) {
	f.Helper()
	reqs := make([]store.CopyRequest, 16)
	for i := range reqs {
		from := dir + archive.Key(fmt.Sprintf("from%02d", i))
		f.create(from)
		reqs[i] = f.copyRequest(from, dir+"to/target")
		reqs[i].Link = link
	}
	won := f.winner(together(len(reqs), func(i int) error { return f.Copy(f.Context(), reqs[i]) }), store.ErrExist)
	f.wantContent(dir+"to/target", string(reqs[won].From))
	for _, req := range reqs {
		f.wantContent(req.From, string(req.From))
	}
}
