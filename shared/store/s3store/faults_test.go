package s3store_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// on makes a fault at the first calls of a kind.
func on(op string, f fault, times int) func(call) fault {
	return func(c call) fault {
		if c.op == op && c.n < times {
			return f
		}
		return pass
	}
}

// behind opens a ledger that is reached through a proxy whose plan starts once the ledger is open.
func behind(t *testing.T, at place, probes s3store.Probes, plan func(call) fault) (*s3store.Store, *proxy) {
	t.Helper()
	open := false
	var base map[string]int
	through, x := at.via(t, func(c call) fault {
		if !open {
			return pass
		}
		c.n -= base[c.op]
		return plan(c)
	})
	st := through.open(t, s3store.Options{Renames: true, Ledger: true, Probes: probes})
	base = map[string]int{}
	for op, n := range x.seen {
		base[op] = n
	}
	open = true
	return st, x
}

// Each fault, twice, at each call of each operation: the operation does what it says, and nothing twice.
func TestFaults(t *testing.T) {
	large := patterned(9 << 20)
	for name, s := range servers() {
		if name == "VersityTLS" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			running, probes := s.start(t), &kept{}
			newPlace(t, running, "p").open(t, s3store.Options{Renames: true, Probes: probes})
			for op, test := range map[string]struct {
				calls []string // that it makes
				do    func(t *testing.T, at place, st *s3store.Store)
			}{
				"Create": {[]string{"PUT", "HEAD"}, func(t *testing.T, at place, st *s3store.Store) {
					must(t, st.Create(t.Context(), "a", strings.NewReader("small")))
					if err := st.Create(t.Context(), "a", strings.NewReader("other")); !errors.Is(err, store.ErrExist) {
						t.Errorf("a second time: got %v", err)
					}
					at.wantOnly(t, map[archive.Key]string{"a": "small"})
				}},
				"CreateLarge": {[]string{"begin", "part", "complete"}, func(t *testing.T, at place, st *s3store.Store) {
					must(t, st.Create(t.Context(), "a", iotest.HalfReader(strings.NewReader(large))))
					at.wantOnly(t, map[archive.Key]string{"a": large})
				}},
				"Replace": {[]string{"PUT"}, func(t *testing.T, at place, st *s3store.Store) {
					at.put(t, "a", "old", plain)
					must(t, st.Replace(t.Context(), "a", strings.NewReader("new")))
					at.wantOnly(t, map[archive.Key]string{"a": "new"})
				}},
				"ReplaceLarge": {[]string{"complete"}, func(t *testing.T, at place, st *s3store.Store) {
					at.put(t, "a", "old", plain)
					must(t, st.Replace(t.Context(), "a", strings.NewReader(large)))
					at.wantOnly(t, map[archive.Key]string{"a": large})
				}},
				"Delete": {[]string{"HEAD", "DELETE"}, func(t *testing.T, at place, st *s3store.Store) {
					at.put(t, "a", "a", plain)
					at.put(t, "b", "b", plain)
					must(t, st.Delete(t.Context(), "a", archive.Identity{}))
					at.wantOnly(t, map[archive.Key]string{"b": "b"})
				}},
				"Stat": {[]string{"HEAD"}, func(t *testing.T, at place, st *s3store.Store) {
					at.put(t, "a", "12345", plain)
					obj, err := st.Stat(t.Context(), "a")
					must(t, err)
					if obj.Size != 5 {
						t.Errorf("got %+v", obj)
					}
				}},
				"Open": {[]string{"GET"}, func(t *testing.T, at place, st *s3store.Store) {
					at.put(t, "a", large[:1<<20], plain)
					checkRead(t, st, "a", 0, large[:1<<20])
					checkRead(t, st, "a", 1000, large[1000:1<<20])
				}},
				"List": {[]string{"list"}, func(t *testing.T, at place, st *s3store.Store) {
					want := map[archive.Key]string{}
					for i := range 30 {
						want[archive.Key(fmt.Sprintf("d%d/%d", i%3, i))] = "x"
						at.put(t, archive.Key(fmt.Sprintf("d%d/%d", i%3, i)), "x", plain)
					}
					var got []archive.Key
					for e, err := range st.List(t.Context(), store.ListOptions{}) {
						must(t, err)
						got = append(got, e.Key)
					}
					if len(got) != len(want) || !slices.IsSorted(got) {
						t.Errorf("got %q", got)
					}
				}},
				"Rename": {[]string{"HEAD", "begin", "copy part", "copy", "complete", "DELETE"}, func(t *testing.T, at place, st *s3store.Store) {
					at.put(t, "a", "content", plain)
					must(t, st.Rename(t.Context(), request(t, st, "a", "d/b")))
					at.wantOnly(t, map[archive.Key]string{"d/b": "content"})
					at.wantNoUploads(t)
				}},
			} {
				other := op == "Rename" || op == "Delete" // what servers differ in
				if s.limits.AssumeSingleWriter && op == "Rename" || name != "Versity" && !other {
					continue
				}
				t.Run(op, func(t *testing.T) {
					t.Parallel()
					for _, c := range test.calls {
						for _, f := range everyFault {
							at := newPlace(t, running, "p")
							st, x := behind(t, at, probes, on(c, f, 2))
							test.do(t, at, st)
							if t.Failed() {
								t.Fatalf("%q at %q; calls: %v", f, c, x.seen)
							}
						}
					}
				})
			}
		})
	}
}

// An object whose ETag the server does not tell is asked for again: another execution may just be deleting it. Where it never
// tells, the rename is refused, and nothing has changed.
func TestNoETag(t *testing.T) {
	server := s3test.Versity(t)
	for times, want := range map[int]error{1: nil, 1000: store.ErrUnsupported} {
		at := newPlace(t, server, "p")
		at.put(t, "a", "content", plain)
		source := at.open(t, s3store.Options{})
		obj, err := source.Stat(t.Context(), "a")
		must(t, err)
		st, _ := behind(t, at, &kept{}, on("HEAD", noETag, times))
		err = st.Rename(t.Context(), store.RenameRequest{From: "a", To: "b", Want: obj.Identity, OpID: "op"})
		if !errors.Is(err, want) {
			t.Errorf("%d times without: got %v, want %v", times, err, want)
		}
		there := map[archive.Key]string{"b": "content"}
		if want != nil {
			there = map[archive.Key]string{"a": "content"}
		}
		at.wantOnly(t, there)
	}
}

// A server that dies while it completes an upload may say afterwards that it has, and have nothing.
func TestHollow(t *testing.T) {
	t.Parallel()
	running, probes := s3test.Versity(t), &kept{}
	plan := func(c call) fault {
		if c.op != "complete" {
			return pass
		}
		return map[int]fault{0: cutBefore, 1: hollow}[c.n]
	}
	at := newPlace(t, running, "p")
	st, _ := behind(t, at, probes, plan)
	large := patterned(9 << 20)
	for what, write := range map[string]func() error{
		"create":  func() error { return st.Create(t.Context(), "a", strings.NewReader(large)) },
		"replace": func() error { return st.Replace(t.Context(), "a", strings.NewReader(large)) },
	} {
		at := newPlace(t, running, "p")
		st, _ = behind(t, at, probes, plan)
		if err := write(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, and there is %d", what, err, len(at.everything(t)))
		}
	}
	at = newPlace(t, running, "p")
	st, _ = behind(t, at, probes, plan)
	at.put(t, "a", "content", plain)
	must(t, st.Rename(t.Context(), request(t, st, "a", "b")))
	at.wantOnly(t, map[archive.Key]string{"b": "content"})
	at.wantNoUploads(t)
}

func checkRead(t *testing.T, st store.Store, key archive.Key, offset int64, want string) {
	t.Helper()
	c, err := st.Open(t.Context(), key, offset, -1, archive.Identity{})
	must(t, err)
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != want {
		t.Errorf("read %d bytes, %v; want %d", len(got), err, len(want))
	}
}

// What is read through a connection that breaks all the time is the content, or ErrChanged.
func TestReadResumed(t *testing.T) {
	t.Parallel()
	s, probes, content := s3test.Versity(t), &kept{}, patterned(1<<20)
	const seed = 3
	for name, test := range map[string]struct {
		plan    func(call) fault
		replace bool
		want    error
	}{
		"Cut":     {plan: on("GET", cutBody, 5)},
		"Hang":    {plan: on("GET", hang, 2)},
		"Random":  {plan: random(seed, 0.7, cutBody, cutBefore, err500, slowDown, cutAfter)},
		"Changed": {plan: on("GET", cutBody, 1), replace: true, want: store.ErrChanged},
		// A server that heeds no conditions, or no ranges.
		"ChangedUnasked": {plan: func(c call) fault { return map[int]fault{0: cutBody}[c.n] + map[bool]fault{true: noIfMatch}[c.n > 0] }, replace: true, want: store.ErrChanged},
		"Whole":          {plan: func(c call) fault { return map[int]fault{0: cutBody}[c.n] + map[bool]fault{true: wholeBody}[c.n > 0] }, want: store.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newPlace(t, s, "")
			at.put(t, "a", content, plain)
			st, _ := behind(t, at, probes, func(c call) fault {
				if c.op != "GET" {
					return pass
				}
				if span := c.Header.Get("Range"); span != "" && !strings.HasPrefix(span, "bytes=0-") && c.Header.Get("If-Match") == "" {
					t.Error("the rest was asked for without a condition")
				}
				return test.plan(c)
			})
			st.SetIdle(300 * time.Millisecond)
			c, err := st.Open(t.Context(), "a", 0, -1, archive.Identity{})
			must(t, err)
			defer c.Close()
			if test.replace {
				at.put(t, "a", strings.ToUpper(content), plain)
			}
			got, err := io.ReadAll(c)
			if !strings.HasPrefix(content, string(got)) {
				t.Error("other content")
			}
			if !errors.Is(err, test.want) || test.want == nil && string(got) != content {
				t.Errorf("read %d bytes of %d, %v; want %v", len(got), len(content), err, test.want)
			}
		})
	}
}

// random makes one of some faults with a probability.
func random(seed uint64, p float64, faults ...fault) func(call) fault {
	r := rand.New(rand.NewPCG(seed, seed))
	return func(call) fault { // of calls that come one after the other
		if r.Float64() >= p {
			return pass
		}
		return faults[r.IntN(len(faults))]
	}
}

// A listing of several pages through a connection that breaks is complete and without doubles.
func TestListResumed(t *testing.T) {
	t.Parallel()
	at := newPlace(t, s3test.Versity(t), "p")
	var want []archive.Key
	for i := range 2100 {
		want = append(want, archive.Key(fmt.Sprintf("d%d/%04d", i/500, i)))
	}
	at.fill(t, want)
	for seed := range uint64(3) {
		st, x := behind(t, at, &kept{}, random(seed, 0.5, cutBody, cutBefore, cutAfter, err500, slowDown))
		var got []archive.Key
		for e, err := range st.List(t.Context(), store.ListOptions{}) {
			must(t, err)
			got = append(got, e.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: listed %d keys, want %d; faults %v", seed, len(got), len(want), x.hit)
		}
	}
}

// A source that somebody overwrites at any step stays, and so does what somebody creates at the target.
func TestRenameMeddled(t *testing.T) {
	for name, s := range servers() {
		if s.limits.AssumeSingleWriter {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			running, probes := s.start(t), &kept{}
			for _, step := range []string{"source seen", "upload begun", "parts copied", "copied", "verified"} {
				for _, content := range []string{"THEIRS", "longer than ours"} {
					for _, key := range []archive.Key{"a", "b"} {
						t.Run(fmt.Sprintf("%s/%s/%d", step, key, len(content)), func(t *testing.T) {
							meddle(t, newPlace(t, running, "p"), probes, step, key, content)
						})
					}
				}
			}
		})
	}
}

func meddle(t *testing.T, at place, probes s3store.Probes, step string, key archive.Key, content string) {
	t.Helper()
	st := at.open(t, s3store.Options{Renames: true, Probes: probes})
	at.put(t, "a", "before", plain)
	req := request(t, st, "a", "b")
	made := false
	st.SetStep(func(at2 string) error {
		if at2 == step && !made {
			made = true
			o := plain
			if key == "b" {
				o.SetMatchETagExcept("*")
			}
			if err := at.write(t.Context(), key, content, o); err != nil && minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed {
				content = ""
			} else {
				must(t, err)
			}
		}
		return nil
	})
	err := st.Rename(t.Context(), req)
	if !made {
		t.Fatalf("there was no step %q", step)
	}
	want := map[archive.Key]string{}
	switch {
	case errors.Is(err, store.ErrExist):
		want["a"] = "before"
	case err == nil:
		want["b"] = "before"
	case !errors.Is(err, store.ErrChanged):
		t.Errorf("got %v", err)
	}
	if content != "" {
		want[key] = content
	}
	at.wantOnly(t, want)
}
