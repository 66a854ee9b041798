package s3store_test

import (
	"errors"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// A process that dies at any step of a rename leaves the object whole, and a repetition completes it and clears up.
func TestCrash(t *testing.T) {
	for name, s := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			running, probes := s.start(t), &kept{}
			for _, again := range []bool{true, false} {
				var steps []string
				for n := 0; ; n++ {
					at := newPlace(t, running, "p")
					step := crashAt(t, at, s, n, again, probes)
					if step == "" {
						break
					}
					steps = append(steps, step)
				}
				if len(steps) < 5 {
					t.Errorf("it died only at %q", steps)
				}
			}
		})
	}
}

// crashAt has a rename die at its n-th step, which it returns; "" if there are not so many.
func crashAt(t *testing.T, at place, s server, n int, again bool, probes s3store.Probes) string {
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
	err := st.Rename(t.Context(), req)
	if died == "" {
		must(t, err)
		return ""
	}
	if !errors.Is(err, s3store.ErrStop) {
		t.Fatalf("at %q: got %v", died, err)
	}
	all := at.everything(t)
	if len(all) == 0 {
		t.Fatalf("at %q the object is lost", died)
	}
	st.SetStep(nil)
	req.Again = again
	for range 2 {
		if err := st.Rename(t.Context(), req); err != nil {
			t.Errorf("died at %q, repeated: %v", died, err)
		}
	}
	at.wantOnly(t, map[archive.Key]string{"d/b": "content"})
	if again {
		at.wantNoUploads(t)
	}
	return died
}

// Where only versions guard a deletion, what somebody writes right before it is not left below the marker, also where the
// execution dies that made this.
func TestHiddenComesBack(t *testing.T) {
	t.Parallel()
	running, probes := s3test.Versity(t, s3test.Versioned), &kept{}
	for name, dies := range map[string]bool{"Lives": false, "Dies": true} {
		t.Run(name, func(t *testing.T) {
			at := newPlace(t, running, "p")
			st, _ := behind(t, at, probes, func(c call) fault {
				if c.op == "DELETE" && c.n == 0 {
					at.put(t, "a", "THEIRS", plain)
				}
				return pass
			})
			can := st.Capabilities()
			can.ConditionalDelete = false
			st.SetCapabilities(can)
			at.put(t, "a", "ours", plain)
			req := request(t, st, "a", "b")
			st.SetStep(func(step string) error {
				if dies && step == "hidden" {
					return s3store.ErrStop
				}
				return nil
			})
			if err := st.Rename(t.Context(), req); (err != nil) != dies {
				t.Fatalf("got %v", err)
			}
			st.SetStep(nil)
			req.Again = true
			must(t, st.Rename(t.Context(), req))
			at.wantOnly(t, map[archive.Key]string{"a": "THEIRS", "b": "ours"})
		})
	}
}
