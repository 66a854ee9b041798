package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

// journal notes what parts do and when, in fake time.
type journal struct {
	mu    sync.Mutex
	began time.Time
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf("%v %s", time.Since(j.began), fmt.Sprintf(format, args...)))
}

// part takes a second to start and stopTime to stop.
func (j *journal) part(name string, stopTime time.Duration) service.Part {
	return service.Part{
		Name:       name,
		StopWithin: 5 * time.Second,
		Start: func(context.Context) error {
			time.Sleep(time.Second)
			j.add("start %s", name)
			return nil
		},
		Stop: func(ctx context.Context) error {
			time.Sleep(stopTime)
			deadline, _ := ctx.Deadline()
			j.add("stop %s, left %v, ended %v", name, time.Until(deadline), ctx.Err())
			return nil
		},
	}
}

func TestRun(t *testing.T) {
	after := func(d time.Duration, err error) <-chan error {
		failed := make(chan error, 1)
		time.AfterFunc(d, func() { failed <- err })
		return failed
	}
	for _, tt := range []struct {
		name  string
		parts func(j *journal) []service.Part
		want  []string
		errs  []error // each is in the result; none means nil
		text  string  // in the result
	}{
		{
			name:  "stops in reverse when told to",
			parts: func(j *journal) []service.Part { return []service.Part{j.part("a", 0), j.part("b", 2*time.Second)} },
			want: []string{
				"1s start a", "2s start b",
				"1m2s stop b, left 3s, ended <nil>", "1m2s stop a, left 5s, ended <nil>",
			},
		},
		{
			name: "a part that cannot start",
			parts: func(j *journal) []service.Part {
				bad := service.Part{Name: "bad", Start: func(context.Context) error { return errBoom }, Stop: func(context.Context) error { j.add("stop bad"); return nil }}
				return []service.Part{j.part("a", 0), bad, j.part("b", 0)}
			},
			want: []string{"1s start a", "1s stop a, left 5s, ended <nil>"},
			errs: []error{errBoom}, text: "start bad: boom",
		},
		{
			name: "a part that fails later",
			parts: func(j *journal) []service.Part {
				b := j.part("b", 0)
				b.Failed = after(10*time.Second, errBoom)
				return []service.Part{j.part("a", 0), b}
			},
			want: []string{"1s start a", "2s start b", "10s stop b, left 5s, ended <nil>", "10s stop a, left 5s, ended <nil>"},
			errs: []error{errBoom}, text: "b: boom",
		},
		{
			name: "a part that ends without a word",
			parts: func(j *journal) []service.Part {
				return []service.Part{{Name: "quiet", Failed: after(10*time.Second, nil)}}
			},
			errs: []error{service.ErrEnded}, text: "quiet: ended by itself",
		},
		{
			name: "a part that overruns does not hold the others up",
			parts: func(j *journal) []service.Part {
				return []service.Part{j.part("a", 0), j.part("deaf", time.Hour), j.part("b", 0)}
			},
			want: []string{
				"1s start a", "2s start deaf", "3s start b",
				"1m0s stop b, left 5s, ended <nil>", "1m6s stop a, left 5s, ended <nil>",
			},
			errs: []error{service.ErrOverran}, text: "stop deaf: did not stop in time: 5s",
		},
		{
			name: "a part that heeds its limit has not overrun",
			parts: func(j *journal) []service.Part {
				return []service.Part{{Name: "slow", Stop: func(ctx context.Context) error { <-ctx.Done(); j.add("end"); return ctx.Err() }}}
			},
			want: []string{"1m10s end"},
			errs: []error{context.DeadlineExceeded}, text: "stop slow",
		},
		{
			name: "every error is told",
			parts: func(j *journal) []service.Part {
				bad := func(name string) service.Part {
					return service.Part{Name: name, Stop: func(context.Context) error { return errBoom }}
				}
				return []service.Part{bad("x"), bad("y")}
			},
			errs: []error{errBoom}, text: "stop y: boom\nstop x: boom",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(2 * time.Hour) // until the deaf have ended
				j := &journal{began: time.Now()}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := service.Run(ctx, slog.New(slog.DiscardHandler), tt.parts(j)...)
				j.mu.Lock()
				defer j.mu.Unlock()
				if diff := cmp.Diff(tt.want, j.lines); diff != "" {
					t.Errorf("what the parts did (-want +got):\n%s", diff)
				}
				if len(tt.errs) == 0 && err != nil {
					t.Errorf("got error %v, want none", err)
				}
				for _, want := range tt.errs {
					if !errors.Is(err, want) || !strings.Contains(err.Error(), tt.text) {
						t.Errorf("got error %v, want %v with %q", err, want, tt.text)
					}
				}
			})
		})
	}
}

func TestRunWhenToldToStopDuringStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{began: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		hanging := service.Part{Name: "hanging", Start: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		if err := service.Run(ctx, slog.New(slog.DiscardHandler), j.part("a", 0), hanging, j.part("b", 0)); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		want := []string{"1s start a", "1.5s stop a, left 5s, ended <nil>"}
		if diff := cmp.Diff(want, j.lines); diff != "" {
			t.Errorf("what the parts did (-want +got):\n%s", diff)
		}
	})
}

func TestRunLogsEachPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		j := &journal{began: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_ = service.Run(ctx, slog.New(slog.NewTextHandler(&log, nil)), j.part("a", 2*time.Second))
		for _, want := range []string{
			"msg=started part=a took=1s", "msg=running took=1s", `msg=stopping because="context deadline exceeded"`,
			"msg=stopped part=a took=2s", `msg="all stopped" took=2s`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log.String())
			}
		}
	})
}

func TestBackground(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(ctx context.Context) error
		took time.Duration
		err  error
	}{
		{"ends when stopped", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, time.Minute, nil},
		{"ends badly when stopped", func(ctx context.Context) error { <-ctx.Done(); return errBoom }, time.Minute, errBoom},
		{"fails", func(context.Context) error { time.Sleep(time.Second); return errBoom }, time.Second, errBoom},
		{"ends by itself", func(context.Context) error { time.Sleep(time.Second); return nil }, time.Second, service.ErrEnded},
		{"is deaf", func(ctx context.Context) error { time.Sleep(time.Hour); return nil }, time.Minute + 3*time.Second, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(2 * time.Hour) // until the deaf have ended
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := service.Run(ctx, slog.New(slog.DiscardHandler), service.Background("loop", 3*time.Second, tt.run))
				if !errors.Is(err, tt.err) {
					t.Errorf("got error %v, want %v", err, tt.err)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
			})
		})
	}
}
