package s3store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

var errSlow = minio.ErrorResponse{Code: "SlowDown", StatusCode: 503}

// Where an endpoint asks to slow down, all wait, longer each time, and not for long once it answers.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p s3store.Pace
		waits := func() time.Duration {
			began := time.Now()
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() {
					if err := s3store.Wait(&p, t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			return time.Since(began)
		}
		if d := waits(); d != 0 || s3store.State(&p) != nil {
			t.Errorf("all is well: waited %s, %v", d, s3store.State(&p))
		}
		var total time.Duration
		for i := range 12 {
			for range 4 { // calls that were under way together
				s3store.Learn(&p, errSlow)
			}
			least, most := min(50*time.Millisecond<<i, 10*time.Second), min(100*time.Millisecond<<i, 20*time.Second)
			d := waits()
			if d < least || d > most {
				t.Errorf("after %d: waited %s, want %s to %s", i+1, d, least, most)
			}
			total += d
			time.Sleep(time.Nanosecond)
		}
		if err := s3store.State(&p); err == nil || !strings.Contains(err.Error(), "48 times") {
			t.Errorf("got %v", err)
		}
		for range 8 {
			s3store.Learn(&p, nil)
		}
		s3store.Learn(&p, errSlow)
		if d := waits(); d > 100*time.Millisecond {
			t.Errorf("it answered 8 times: waited %s", d)
		}
		time.Sleep(11 * time.Second)
		if err := s3store.State(&p); err != nil {
			t.Errorf("long after: %v", err)
		}
		s3store.Learn(&p, errSlow)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s3store.Wait(&p, ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// One store that is asked to slow down slows all of its endpoint.
func TestSlowed(t *testing.T) {
	t.Parallel()
	at, _ := newPlace(t, s3test.Versity(t), "").via(t, on("HEAD", slowDown, 3))
	clients := newClients(t)
	st, err := clients.Open(t.Context(), at.root(t), s3store.Options{})
	must(t, err)
	if slowed := clients.Slowed(); len(slowed) > 0 {
		t.Errorf("got %q before", slowed)
	}
	at.put(t, "a", "x", plain)
	_, err = st.Stat(t.Context(), "a")
	must(t, err)
	if slowed := clients.Slowed(); !strings.Contains(slowed[at.endpoint], "3 times") {
		t.Errorf("got %q", slowed)
	}
}

// A server that is away for a while costs that while.
func TestServerAway(t *testing.T) {
	t.Parallel()
	at := newPlace(t, s3test.Versity(t), "p")
	st := at.open(t, s3store.Options{Renames: true})
	content := patterned(1 << 20)
	const n = 30
	for i := range n {
		at.put(t, archive.Key(fmt.Sprintf("r%02d", i)), fmt.Sprint(i), plain)
	}
	at.put(t, "large", content, plain)
	want := map[archive.Key]string{"large": content}
	reqs := make([]store.RenameRequest, n)
	for i := range reqs {
		reqs[i] = request(t, st, archive.Key(fmt.Sprintf("r%02d", i)), archive.Key(fmt.Sprintf("to/%02d", i)))
		want[reqs[i].To] = fmt.Sprint(i)
		want[archive.Key(fmt.Sprintf("c%02d", i))] = fmt.Sprint(i)
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			time.Sleep(time.Duration(i) * 30 * time.Millisecond)
			if err := st.Rename(t.Context(), reqs[i]); err != nil {
				t.Error(err)
			}
			if err := st.Create(t.Context(), archive.Key(fmt.Sprintf("c%02d", i)), strings.NewReader(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
			c, err := st.Open(t.Context(), "large", 0, -1, archive.Identity{})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if got, err := io.ReadAll(c); err != nil || string(got) != content {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	at.server.Stop()
	time.Sleep(2 * time.Second)
	at.server.Start()
	all.Wait()
	at.wantOnly(t, want)
	at.wantNoUploads(t)
}

// What is wrong with credentials and buckets is told, each by its own words, and never with the secret.
func TestRefused(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *s3test.Server{"Versity": versity(), "Rclone": s3test.Rclone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			right := newPlace(t, start(t), "p")
			const secret = "SECRETSECRETSECRET"
			addProfile(t, "unknown-"+name, "NOSUCHKEY", secret)
			addProfile(t, "wrong-"+name, right.server.AccessKey, secret)
			for what, test := range map[string]struct {
				profile, bucket string
				words           string
			}{
				"UnknownKey":  {"unknown-" + name, right.bucket, "does not accept the credentials"},
				"WrongSecret": {"wrong-" + name, right.bucket, "does not accept the credentials"},
				"NoProfile":   {"nobody", right.bucket, "there are no credentials"},
				"None":        {"", right.bucket, "there are no credentials"},
				"NoBucket":    {right.profile, "no-such-bucket", "there is no such bucket"},
			} {
				t.Run(what, func(t *testing.T) {
					at := right
					at.profile, at.bucket = test.profile, test.bucket
					_, err := newClients(t).Open(t.Context(), at.root(t), s3store.Options{Renames: true})
					if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), test.words) {
						t.Errorf("got %v, want %q", err, test.words)
					}
					if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), right.server.SecretKey)) {
						t.Error("the error tells the secret")
					}
				})
			}
		})
	}
}

// A bucket that goes away, or credentials that are refused from now on, do not make objects missing: some servers answer
// 404 then.
func TestGoneMeanwhile(t *testing.T) {
	t.Parallel()
	at := newPlace(t, s3test.Versity(t), "")
	st := at.open(t, s3store.Options{Renames: true, Ledger: true})
	at.put(t, "a", "x", plain)
	req := request(t, st, "a", "b")
	must(t, at.server.Client().RemoveObject(t.Context(), at.bucket, "a", minio.RemoveObjectOptions{}))
	must(t, at.server.Client().RemoveBucket(t.Context(), at.bucket))
	time.Sleep(1100 * time.Millisecond)
	_, statErr := st.Stat(t.Context(), "a")
	_, openErr := st.Open(t.Context(), "a", 0, -1, archive.Identity{})
	for what, err := range map[string]error{
		"stat": statErr, "open": openErr, "rename": st.Rename(t.Context(), req), "create": st.Create(t.Context(), "c", strings.NewReader("x")),
		"delete": st.Delete(t.Context(), "a", archive.Identity{}),
	} {
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotExist) {
			t.Errorf("%s: got %v, want %v", what, err, store.ErrUnavailable)
		}
	}
}
