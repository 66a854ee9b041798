package s3store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
)

// renamesEnv asks for a larger storm: so many renames.
const renamesEnv = "RESHELF_RENAMES"

const (
	together   = 4   // executions of each request at once
	crashes    = 0.3 // of the steps of a protocol
	faults     = 0.1 // of the calls
	collisions = 0.8 // targets for each source
)

// A storm of renames: each is executed by several at once, which die at any step, behind a connection and a server that
// fail, onto targets that others have, too, while somebody else creates and overwrites objects. When it is over, and
// all is repeated in peace, every content is there once, where it may be. Then all is undone in the same weather.
func TestRenameStorm(t *testing.T) {
	n, _ := strconv.Atoi(cmp.Or(os.Getenv(renamesEnv), "60"))
	for name, s := range servers() {
		if s.limits.AssumeSingleWriter || name == "VersityTLS" {
			continue // somebody else does write; and what TLS adds, the proxy ends
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			newStorm(t, s, n, seed).run()
		})
	}
}

// storm is one run. Its random choices are drawn under a lock.
type storm struct {
	*testing.T
	server server
	at     place // past the proxy
	stores []*s3store.Store
	proxy  *proxy
	clock  struct {
		sync.Mutex
		*rand.Rand
	}
	calm bool // no faults and no crashes any more; set while nothing runs

	ops     []store.RenameRequest
	content []string // of the sources, by operation

	mu      sync.Mutex
	foreign map[archive.Key][]string // what somebody else wrote, by key, the newest last
}

func newStorm(t *testing.T, s server, n int, seed uint64) *storm {
	t.Helper()
	w := &storm{T: t, server: s, at: newPlace(t, s.start(t), "arch ive"), foreign: map[archive.Key][]string{}, calm: true}
	w.clock.Rand = rand.New(rand.NewPCG(seed, 1))
	through, x := w.at.via(t, w.weather)
	w.proxy = x
	probes := &kept{}
	for range together {
		st := through.open(t, s3store.Options{Renames: true, Probes: probes})
		st.SetStep(w.step)
		w.stores = append(w.stores, st)
	}
	for i := range n {
		from, to := archive.Key(fmt.Sprintf("src/%03d", i)), archive.Key(fmt.Sprintf("dst/%03d", w.choose(int(float64(n)*collisions))))
		w.content = append(w.content, fmt.Sprintf("content %d of seed %d", i, seed))
		w.at.put(t, from, w.content[i], plain)
		req := request(t, w.stores[0], from, to)
		req.OpID = fmt.Sprintf("op-%d", i)
		w.ops = append(w.ops, req)
	}
	return w
}

func (w *storm) choose(n int) int {
	w.clock.Lock()
	defer w.clock.Unlock()
	return w.clock.IntN(n)
}

func (w *storm) likely(p float64) bool {
	w.clock.Lock()
	defer w.clock.Unlock()
	return w.clock.Float64() < p
}

func (w *storm) step(string) error {
	if !w.calm && w.likely(crashes) {
		return s3store.ErrStop
	}
	return nil
}

func (w *storm) weather(call) fault {
	if w.calm || !w.likely(faults) {
		return pass
	}
	return everyFault[w.choose(len(everyFault))]
}

func (w *storm) run() {
	began := time.Now()
	results := w.executeAll(w.ops, renaming, w.interfere)
	w.check(results)
	count := map[string]int{}
	for _, err := range results {
		count[outcome(err)]++
	}
	w.Logf("%d renames in %s: %v; faults: %v; somebody else wrote %d objects", len(w.ops), time.Since(began).Round(time.Millisecond), count, w.proxy.hit, w.written())

	began = time.Now()
	undos, undone := w.undos(results)
	w.checkUndone(undone, undos, w.executeAll(undos, renaming, func(context.Context) {}))
	w.Logf("%d undone in %s", len(undos), time.Since(began).Round(time.Millisecond))
}

func outcome(err error) string {
	for _, known := range []error{store.ErrExist, store.ErrChanged, store.ErrNotExist, store.ErrUnsupported} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if err != nil {
		return err.Error()
	}
	return "renamed"
}

// Ways to execute a request.
func renaming(ctx context.Context, st *s3store.Store, req store.RenameRequest) error {
	return st.Rename(ctx, req)
}
func copying(ctx context.Context, st *s3store.Store, req store.RenameRequest) error {
	return st.Copy(ctx, copyRequest(req))
}

// executeAll has each request executed by several at once in the storm, with somebody else at work, and repeats it after.
func (w *storm) executeAll(ops []store.RenameRequest, execute func(context.Context, *s3store.Store, store.RenameRequest) error, other func(context.Context)) []error {
	w.calm = false
	ctx, stop := context.WithCancel(w.Context())
	var writer, workers sync.WaitGroup
	writer.Go(func() { other(ctx) })
	queue := make(chan int)
	for _, st := range w.stores {
		for range 2 {
			workers.Go(func() {
				for i := range queue {
					_ = execute(w.Context(), st, ops[i])
				}
			})
		}
	}
	for i := range ops {
		for range together {
			queue <- i
		}
	}
	close(queue)
	workers.Wait()
	stop()
	writer.Wait()
	w.calm = true
	time.Sleep(150 * time.Millisecond) // a server may still act on calls that were cut
	results := make([]error, len(ops))
	for range 2 { // the second finds what is done already
		var again sync.WaitGroup
		for k := range together {
			again.Go(func() {
				for i := k; i < len(ops); i += together {
					req := ops[i]
					req.Again = true
					results[i] = execute(w.Context(), w.stores[k], req)
				}
			})
		}
		again.Wait()
	}
	return results
}

// interfere is somebody else, who creates objects where renames go, and overwrites and creates what they rename.
func (w *storm) interfere(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		op := w.ops[w.choose(len(w.ops))]
		content := fmt.Sprintf("somebody else's %d", n)
		key, o := op.From, plain
		if w.likely(0.5) {
			key = op.To
			o.SetMatchETagExcept("*")
		}
		unlock := w.proxy.serial("/" + w.at.bucket + "/" + w.at.name(key))
		err := w.at.write(context.Background(), key, content, o)
		unlock()
		if err == nil {
			w.mu.Lock()
			w.foreign[key] = append(w.foreign[key], content)
			w.mu.Unlock()
		} else if code := minio.ToErrorResponse(err).StatusCode; code != 412 && code != 409 && code != 500 {
			w.Errorf("somebody else: %v", err)
		}
		time.Sleep(time.Duration(w.choose(40)) * time.Millisecond)
	}
}

func (w *storm) written() (n int) {
	for _, contents := range w.foreign {
		n += len(contents)
	}
	return n
}

// check compares what is there with what may be.
func (w *storm) check(results []error) {
	want := map[archive.Key]string{}
	for key, contents := range w.foreign {
		want[key] = contents[len(contents)-1]
	}
	for i, op := range w.ops {
		key := op.From
		switch err := results[i]; {
		case err == nil:
			key = op.To
		case errors.Is(err, store.ErrChanged) && want[key] != "":
			continue // its owner overwrote it before it was copied
		case errors.Is(err, store.ErrExist):
		default:
			w.Errorf("%s: %v", op.From, err)
			continue
		}
		if other, taken := want[key]; taken {
			w.Errorf("%q is to hold both %q and %q", key, other, w.content[i])
		}
		want[key] = w.content[i]
	}
	w.at.wantOnly(w, want)
	w.at.wantNoUploads(w)
}

// undos are the requests that take back those that were carried out, and the numbers of these.
func (w *storm) undos(results []error) (undos []store.RenameRequest, undone []int) {
	for i, op := range w.ops {
		if results[i] != nil {
			continue
		}
		req := request(w, w.stores[0], op.To, op.From)
		req.OpID, req.Undoes = "undo-"+op.OpID, &store.Undone{OpID: op.OpID, Was: op.Want}
		undos, undone = append(undos, req), append(undone, i)
	}
	return undos, undone
}

// history tells what a versioned bucket has at both names.
func (w *storm) history(op store.RenameRequest) string {
	var text []string
	for _, key := range []archive.Key{op.From, op.To} {
		now, err := w.stores[0].Stat(w.Context(), key)
		text = append(text, fmt.Sprintf("%s is %+v (%v):", key, now, err))
		for v := range w.at.server.Client().ListObjects(w.Context(), w.at.bucket, minio.ListObjectsOptions{Prefix: w.at.name(key), WithVersions: w.server.versioned}) {
			text = append(text, fmt.Sprintf("[%s %s %d %t]", v.VersionID, v.ETag, v.Size, v.IsDeleteMarker))
		}
	}
	return fmt.Sprintf("was %+v; %s", op.Want, text)
}

// checkUndone checks that all is as it was before; in a versioned bucket that means the very objects.
func (w *storm) checkUndone(undone []int, undos []store.RenameRequest, results []error) {
	want := maps.Clone(w.at.everything(w))
	for k, i := range undone {
		op, err := w.ops[i], results[k]
		foreign := len(w.foreign[op.From]) > 0
		switch {
		case foreign && errors.Is(err, store.ErrExist):
			want[op.To] = w.content[i]
			continue
		case foreign || err != nil:
			w.Errorf("undo of %s: %v; somebody else has its name: %t; %s", op.From, err, foreign, w.history(op))
			continue
		}
		delete(want, op.To)
		want[op.From] = w.content[i]
		now, err := w.stores[0].Stat(w.Context(), op.From)
		if err != nil {
			w.Errorf("undone: %v", err)
			continue
		}
		if w.server.redates { // what it puts below a marker gets the time of that
			now.MTime = op.Want.MTime
		}
		if w.server.versioned && now.Identity != op.Want {
			w.Errorf("%s is %+v, was %+v", op.From, now.Identity, op.Want)
		}
	}
	if len(undone) > 0 && !slices.ContainsFunc(results, func(err error) bool { return err == nil }) {
		w.Error("nothing was undone")
	}
	w.at.wantOnly(w, want)
	w.at.wantNoUploads(w)
}
