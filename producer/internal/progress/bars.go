package progress

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"golang.org/x/text/width"
)

const (
	// refresh is the least time between two drawings.
	refresh = 100 * time.Millisecond
	// barCells is the width of a bar, and labelCells that of the phase's name before it.
	barCells   = 24
	labelCells = 11
)

// bars are the last lines of a terminal: they are drawn over whenever they change.
type bars struct {
	lines int // on the terminal now
	drawn time.Time
	last  shown
}

// frame is the text that replaces the lines on the terminal by lines, each cut to fit, so that the terminal wraps none
// and going up by their number leads to the first one again.
func (b *bars) frame(lines []string, columns int) string {
	var f strings.Builder
	f.WriteString(b.erase())
	for _, line := range lines {
		f.WriteString(cut(line, columns-1))
		f.WriteByte('\n')
	}
	b.lines = len(lines)
	return f.String()
}

// erase is the text that takes the lines off the terminal: cursor up, to the line's start, erase to the end (ECMA-48).
func (b *bars) erase() string {
	if b.lines == 0 {
		return ""
	}
	up := b.lines
	b.lines = 0
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", up)
}

// draw writes v unless the last drawing was just now.
func (b *bars) draw(out io.Writer, v shown, columns int) {
	now := time.Now()
	b.last = v
	if b.lines > 0 && now.Sub(b.drawn) < refresh {
		return
	}
	b.drawn = now
	_, _ = io.WriteString(out, b.frame(v.lines(), columns))
}

// above writes whole lines above the bars.
func (b *bars) above(out io.Writer, p []byte, columns int) (int, error) {
	if b.lines == 0 {
		return out.Write(p)
	}
	if _, err := io.WriteString(out, b.erase()); err != nil {
		return 0, err
	}
	n, err := out.Write(p)
	if err == nil {
		_, err = io.WriteString(out, b.frame(b.last.lines(), columns))
	}
	return n, err
}

func (v shown) lines() []string {
	label := fmt.Sprintf("%-*s ", labelCells, v.phase)
	if !v.state.Counted {
		return []string{strings.TrimRight(label+v.right, " ")}
	}
	lines := []string{label + bar(v.state.Objects) + " " + v.left}
	if v.right != "" {
		lines = append(lines, strings.Repeat(" ", labelCells+1)+bar(v.state.Bytes)+" "+v.right)
	}
	return lines
}

// bar draws what is settled full, what is in hand lighter, and the rest lightest; only the last while the total is unknown.
// It is full only when everything is done.
func bar(a Amount) string {
	cells := func(n int64, round func(float64) float64) int {
		switch {
		case a.Total <= 0:
			return 0
		case n >= a.Total:
			return barCells
		}
		return min(barCells-1, int(round(float64(n)/float64(a.Total)*barCells)))
	}
	settled, done := cells(a.Settled, math.Floor), cells(a.done(), math.Ceil)
	if a.InHand == 0 {
		done = settled
	}
	return strings.Repeat("█", settled) + strings.Repeat("▒", done-settled) + strings.Repeat("░", barCells-done)
}

// cut cuts a line of printable text to so many cells (Unicode Standard Annex 11; combining marks count as one).
func cut(line string, cells int) string {
	n := 0
	for i, r := range line {
		n++
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			n++
		}
		if n > cells {
			return line[:i]
		}
	}
	return line
}
