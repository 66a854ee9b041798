package exiftool

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 30 * time.Second
	// crashLimit is how many files in a row may crash ExifTool before the pool calls itself unhealthy and slows down.
	crashLimit = 8
)

// health counts failures in a row, makes those who would add to them wait, and forgets them at the first success. It
// never closes for good.
type health struct {
	mu        sync.Mutex
	starts    int // failures to get a working ExifTool, in a row
	crashes   int // files that ended ExifTool, in a row
	last      error
	notBefore time.Time
}

// good forgets all failures.
func (h *health) good() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starts, h.crashes, h.last, h.notBefore = 0, 0, nil, time.Time{}
}

// unavailable counts a failure to get a working ExifTool.
func (h *health) unavailable(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starts++
	h.last = err
	h.notBefore = time.Now().Add(backoff(h.starts))
}

// crashed counts a file that ended ExifTool.
func (h *health) crashed(message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.crashes++
	if h.crashes < crashLimit {
		return
	}
	h.last = fmt.Errorf("%d files in a row ended exiftool; the last: %s", h.crashes, message)
	h.notBefore = time.Now().Add(backoff(h.crashes - crashLimit + 1))
}

// err is the last failure of a row that makes the pool unhealthy, nil if there is none.
func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *health) pause() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Until(h.notBefore)
}

// wait waits as long as the failures so far ask for.
func (h *health) wait(ctx context.Context, closing <-chan struct{}) error {
	select {
	case <-closing:
		return ErrClosed
	default:
	}
	d := h.pause()
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closing:
		return ErrClosed
	}
}

// backoff doubles from minBackoff to maxBackoff; n starts at 1.
func backoff(n int) time.Duration {
	return min(minBackoff<<min(n-1, 16), maxBackoff)
}
