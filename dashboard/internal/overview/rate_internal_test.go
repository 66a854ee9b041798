package overview

import (
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	m := &meter{}
	at := func(s int, step string, objects, bytes int64) (float64, float64) {
		m.add(step, sample{start.Add(time.Duration(s) * time.Second), objects, bytes})
		return m.rates()
	}
	tests := []struct {
		second         int
		step           string
		objects, bytes int64
		want, wantByte float64
	}{
		{0, "inspect", 0, 0, 0, 0},
		{1, "inspect", 100, 1000, 0, 0}, // too short to tell
		{2, "inspect", 200, 2000, 100, 1000},
		{10, "inspect", 200, 2000, 20, 200},
		{35, "inspect", 450, 4500, 10, 100}, // against second 10: the others are too old
		{36, "inspect", 150, 1500, 0, 0},    // a worker died: what it had in hand counts no more
		{37, "rename", 5, 0, 0, 0},          // another step starts anew
		{100, "rename", 6, 0, 0, 0},         // nobody looked for long
		{104, "rename", 14, 0, 2, 0},
	}
	for _, tt := range tests {
		if objects, bytes := at(tt.second, tt.step, tt.objects, tt.bytes); objects != tt.want || bytes != tt.wantByte {
			t.Errorf("second %d: got %g objects and %g bytes a second, want %g and %g", tt.second, objects, bytes, tt.want, tt.wantByte)
		}
	}
	for s := range 1000 {
		at(200+s/10, "rename", 14, 0)
	}
	if n := len(m.samples); n > 10*31 {
		t.Errorf("got %d samples kept", n)
	}
}

func TestLeft(t *testing.T) {
	b := Batch{
		Objects: Amount{Settled: 50, InHand: 10, Total: 100}, ObjectsPerSecond: 2,
		Bytes: Amount{Settled: 500, InHand: 100, Total: 1000}, BytesPerSecond: 10,
	}
	if got := left(b); got != 40 {
		t.Errorf("got %g s left, want the longer one, 40", got)
	}
	b.Listing = true
	if got := left(b); got != 0 {
		t.Errorf("got %g s left while listing, want none", got)
	}
	b.Listing, b.BytesPerSecond, b.ObjectsPerSecond = false, 1e-12, 0
	if got := left(b); got != 0 {
		t.Errorf("got %g s left, want none beyond a year", got)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":           "plain",
		"é\x1b[31m\u202e": `é\u{1b}[31m\u{202e}`,
		"\xff":            `\xff`,
		"":                "",
	} {
		if got := text(in); got != want {
			t.Errorf("text(%q): got %q, want %q", in, got, want)
		}
	}
}
