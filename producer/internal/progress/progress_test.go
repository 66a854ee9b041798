package progress_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/producer/internal/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func state(settled, hand, total int64) progress.State {
	return progress.State{
		Phase: "inspecting", Counted: true,
		Objects: progress.Amount{Settled: settled, InHand: hand, Total: total, AtLeast: settled + hand},
		Bytes:   progress.Amount{Settled: settled << 20, InHand: hand << 20, Total: max(-1, total<<20)},
	}
}

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := progress.New(&out, progress.Options{})
		listing := state(0, 0, -1)
		listing.Objects.AtLeast, listing.Note = 500, "listing"
		d.Show(listing)
		time.Sleep(time.Second)
		d.Show(listing)
		for i := range int64(110) { // 10 objects a second for 11 s
			time.Sleep(100 * time.Millisecond)
			s := state(i, 1, 1000)
			s.Failed = i / 50
			d.Show(s)
		}
		fmt.Fprintln(d, "a log line")
		for range 15 {
			d.Show(progress.State{Phase: "planning"})
			time.Sleep(100 * time.Millisecond)
		}
		d.Show(progress.State{Phase: "finishing"})
		d.Close()
		want := []string{
			"inspecting: 0 of at least 500 objects, listing",
			"inspecting: 50 of 1,000 objects (5 %), 50 MiB of 1000 MiB, 8.3 objects/s, 8.3 MiB/s, 1m54s left",
			"inspecting: 100 of 1,000 objects (10 %), 100 MiB of 1000 MiB, 9.1 objects/s, 9.1 MiB/s, 1m39s left, 1 failed",
			"a log line",
			"planning",
		}
		if diff := cmp.Diff(want, strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}

func TestRateIsOfTheLastTwentySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := progress.New(&out, progress.Options{})
		n := int64(0)
		for i := range 400 { // 20 s at 100 objects a second, then 20 s at 10
			time.Sleep(100 * time.Millisecond)
			if n += 10; i >= 200 {
				n -= 9
			}
			d.Show(state(n, 0, 10_000))
		}
		time.Sleep(5 * time.Second)
		d.Show(state(n, 0, 10_000))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if last := lines[len(lines)-1]; !strings.Contains(last, " 7.5 objects/s") && !strings.Contains(last, " 8 objects/s") {
			t.Errorf("after a slow half and a pause: got %q, want about 150 objects in 20 s", last)
		}
	})
}

// screen is what a terminal shows of what is written to it, as far as the bars use it: cursor up, erase to the end.
type screen struct {
	lines []string
	row   int
}

var control = regexp.MustCompile("\x1b\\[([0-9;?]*)([A-Za-z])")

func (s *screen) Write(p []byte) (int, error) {
	rest := string(p)
	for rest != "" {
		loc := control.FindStringSubmatchIndex(rest)
		switch {
		case loc != nil && loc[0] == 0:
			s.control(rest[loc[2]:loc[3]], rest[loc[4]:loc[5]])
			rest = rest[loc[1]:]
			continue
		case rest[0] == '\n':
			s.row++
			rest = rest[1:]
			continue
		}
		end := len(rest)
		if loc != nil {
			end = loc[0]
		}
		if i := strings.IndexByte(rest[:end], '\n'); i >= 0 {
			end = i
		}
		for len(s.lines) <= s.row {
			s.lines = append(s.lines, "")
		}
		s.lines[s.row] += rest[:end]
		rest = rest[end:]
	}
	return len(p), nil
}

func (s *screen) control(arg, name string) {
	n := 1
	fmt.Sscan(arg, &n)
	switch name {
	case "A":
		s.row = max(0, s.row-n)
	case "J":
		s.lines = s.lines[:min(len(s.lines), s.row)]
	case "K":
		if s.row < len(s.lines) {
			s.lines[s.row] = ""
		}
	}
}

func (s *screen) text() string {
	return strings.Join(s.lines, "\n")
}

func TestBars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		d := progress.New(out, progress.Options{Bars: true, Columns: func() int { return 100 }})
		for i := range int64(21) {
			d.Show(state(25*i, 25, 1000))
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Fprintln(d, "a log line")
		want := strings.Join([]string{
			"a log line",
			"inspecting  ████████████▒░░░░░░░░░░░ 525 of 1,000 objects  250 objects/s",
			"            ████████████▒░░░░░░░░░░░ 525 MiB of 1000 MiB  250 MiB/s  2s left",
		}, "\n")
		if diff := cmp.Diff(want, out.text()); diff != "" {
			t.Errorf("screen (-want +got):\n%s", diff)
		}
		d.Clear()
		if got, want := out.text(), "a log line"; got != want {
			t.Errorf("after Clear: got %q, want %q", got, want)
		}
		fmt.Fprintln(d, "Rename 12 objects?")
		d.Show(progress.State{Phase: "planning", Note: "waiting"})
		if got, want := out.text(), "a log line\nRename 12 objects?\nplanning    waiting"; got != want {
			t.Errorf("after Show: got %q, want %q", got, want)
		}
		d.Close()
	})
}

func TestBarsFitTheTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		d := progress.New(out, progress.Options{Bars: true, Columns: func() int { return 60 }})
		s := state(10, 0, 20)
		s.Note = strings.Repeat("日本", 50)
		d.Show(s)
		lines := strings.Split(out.text(), "\n")
		if got, want := lines[1], "            ████████████░░░░░░░░░░░░ 10 MiB of 20 MiB  日本"; got != want {
			t.Errorf("got %q, want %q, which is 59 cells wide", got, want)
		}
		d.Close()
		if got := out.text(); got != "" {
			t.Errorf("after Close: got %q", got)
		}
	})
}

func TestDrawsAtMostTenTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := progress.New(&out, progress.Options{Bars: true})
		for i := range int64(1000) {
			d.Show(state(i, 0, 1000))
			time.Sleep(time.Millisecond)
		}
		if got := strings.Count(out.String(), "inspecting"); got != 10 {
			t.Errorf("drawn %d times in a second, want 10", got)
		}
		if d.Close(); strings.Count(out.String(), "\x1b[2A\r\x1b[J") != 10 {
			t.Errorf("got %q, want each drawing taken away", out.String())
		}
	})
}
