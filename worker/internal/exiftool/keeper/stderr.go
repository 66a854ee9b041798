package keeper

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	maxWords    = 20  // lines kept for one file
	maxWordSize = 500 // bytes kept of one line
)

// words drains ExifTool's standard error and keeps the lines of the current file. ExifTool writes a mark after each
// file (-echo4), so that lines are never given to the next one.
type words struct {
	mu    sync.Mutex
	lines []string
	marks chan string
	done  chan struct{}
}

// drain starts reading from r; the goroutine ends with r.
func drain(r io.Reader) *words {
	w := &words{marks: make(chan string, 4), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		var line []byte
		for in := bufio.NewReaderSize(r, 4<<10); ; {
			piece, err := in.ReadSlice('\n')
			line = append(line, piece...)
			if errors.Is(err, bufio.ErrBufferFull) {
				line = shorten(line)
				continue
			}
			w.add(strings.TrimRight(string(line), "\r\n"))
			if err != nil {
				return
			}
			line = line[:0]
		}
	}()
	return w
}

// shorten bounds an endless line: its start is for people, its end may hold a mark.
func shorten(line []byte) []byte {
	const end = 100
	if len(line) <= maxWordSize+end {
		return line
	}
	return append(line[:maxWordSize], line[len(line)-end:]...)
}

const markStart, markEnd = "{reshelf-err", "}"

func (w *words) add(line string) {
	text, mark, marked := strings.Cut(line, markStart)
	if text = strings.TrimSpace(text); text != "" {
		w.mu.Lock()
		if len(w.lines) < maxWords {
			w.lines = append(w.lines, text[:min(len(text), maxWordSize)])
		}
		w.mu.Unlock()
	}
	if marked {
		select {
		case w.marks <- strings.TrimSuffix(mark, markEnd):
		default: // nobody waits for the marks of a process that writes too many
		}
	}
}

// take waits for the mark until deadline, or for the end of the stream, and returns the lines so far without alias, unless
// that is "". It reports whether the mark came.
func (w *words) take(mark, alias string, deadline time.Time) ([]string, bool) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	found := w.await(mark, timer.C)
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.lines
	w.lines = nil
	if alias == "" {
		return lines, found
	}
	for i, l := range lines {
		l = strings.TrimSuffix(l, " - "+alias)
		lines[i] = strings.ReplaceAll(l, alias, "the file")
	}
	return lines, found
}

// await reports whether mark came before the stream or the time ended.
func (w *words) await(mark string, late <-chan time.Time) bool {
	for {
		select {
		case m := <-w.marks:
			if m == mark {
				return true
			}
		case <-w.done:
			return w.holds(mark)
		case <-late:
			return w.holds(mark)
		}
	}
}

// holds looks for mark among the marks that have come: a process may write it and end at once.
func (w *words) holds(mark string) bool {
	for {
		select {
		case m := <-w.marks:
			if m == mark {
				return true
			}
		default:
			return false
		}
	}
}
