package s3store_test

import (
	"cmp"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
)

func copyRequest(req store.RenameRequest) store.CopyRequest {
	return store.CopyRequest{From: req.From, To: req.To, Want: req.Want, OpID: req.OpID, Again: req.Again, AssumeSingleWriter: req.AssumeSingleWriter}
}

// A process that dies at any step of a copy leaves the object as it was and no half of a copy, and a repetition completes it.
func TestCopyCrash(t *testing.T) {
	for name, s := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			running, probes := s.start(t), &kept{}
			var steps []string
			for n := 0; ; n++ {
				step := copyCrashesAt(t, newPlace(t, running, "p"), s, n, probes)
				if step == "" {
					break
				}
				steps = append(steps, step)
			}
			if len(steps) < 3 {
				t.Errorf("it died only at %q", steps)
			}
		})
	}
}

func copyCrashesAt(t *testing.T, at place, s server, n int, probes s3store.Probes) string {
	t.Helper()
	st := at.open(t, s3store.Options{Renames: true, Probes: probes})
	at.put(t, "a", "content", plain)
	req := request(t, st, "a", "d/b")
	req.AssumeSingleWriter = s.limits.AssumeSingleWriter
	died := ""
	st.SetStep(func(step string) error {
		if n--; n >= 0 {
			return nil
		}
		if died == "" {
			died = step
		}
		return s3store.ErrStop
	})
	err := st.Copy(t.Context(), copyRequest(req))
	if died == "" {
		must(t, err)
		return ""
	}
	if !errors.Is(err, s3store.ErrStop) {
		t.Fatalf("at %q: got %v", died, err)
	}
	all := at.everything(t)
	if made, there := all["d/b"]; all["a"] != "content" || there && made != "content" {
		t.Fatalf("at %q there are %q", died, all)
	}
	st.SetStep(nil)
	req.Again = true
	for range 2 {
		if err := st.Copy(t.Context(), copyRequest(req)); err != nil {
			t.Errorf("died at %q, repeated: %v", died, err)
		}
	}
	if made, err := st.Copied(t.Context(), copyRequest(req)); !made || err != nil {
		t.Errorf("died at %q, repeated: copied %t, %v", died, made, err)
	}
	at.wantOnly(t, map[archive.Key]string{"a": "content", "d/b": "content"})
	at.wantNoUploads(t)
	return died
}

// A storm as of renames, of copies: when it is over every object is as it was, or as somebody else left it, and each name that was asked
// for has one whole content, of an object that was to be copied there or of somebody else.
func TestCopyStorm(t *testing.T) {
	n, _ := strconv.Atoi(cmp.Or(os.Getenv(renamesEnv), "40"))
	for name, s := range servers() {
		if s.limits.AssumeSingleWriter || name == "VersityTLS" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			w := newStorm(t, s, n, seed)
			w.checkCopies(w.executeAll(w.ops, copying, w.interfere))
		})
	}
}

func (w *storm) checkCopies(results []error) {
	want, made := map[archive.Key]string{}, 0
	for i, op := range w.ops {
		want[op.From] = w.content[i]
	}
	for key, contents := range w.foreign {
		want[key] = contents[len(contents)-1]
	}
	for i, op := range w.ops {
		switch err := results[i]; {
		case err == nil:
			if other, taken := want[op.To]; taken {
				w.Errorf("%q is to hold both %q and %q", op.To, other, w.content[i])
			}
			want[op.To] = w.content[i]
			made++
		case errors.Is(err, store.ErrExist):
		case errors.Is(err, store.ErrChanged) && len(w.foreign[op.From]) > 0:
		default:
			w.Errorf("%s: %v", op.From, err)
		}
	}
	if made == 0 {
		w.Error("nothing was copied")
	}
	w.at.wantOnly(w, want)
	w.at.wantNoUploads(w)
}
