package overview

import "time"

const (
	// window is the time over which rates are measured.
	window = 30 * time.Second
	// settling is the shortest time from which a rate is told.
	settling = 2 * time.Second
)

type sample struct {
	at             time.Time
	objects, bytes int64
}

// meter measures how fast one step of a batch goes. It holds at most one sample for each overview in a window.
type meter struct {
	step    string // what is measured; another one starts anew
	samples []sample
}

func (m *meter) add(step string, s sample) {
	if step != m.step {
		m.step, m.samples = step, m.samples[:0]
	}
	keep := 0
	for keep < len(m.samples) && s.at.Sub(m.samples[keep].at) > window {
		keep++
	}
	m.samples = append(m.samples[:0], m.samples[keep:]...)
	m.samples = append(m.samples, s)
}

// rates are objects and bytes a second, 0 while they are unknown.
func (m *meter) rates() (objects, bytes float64) {
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	d := last.at.Sub(first.at)
	if d < settling {
		return 0, 0
	}
	per := func(a, b int64) float64 { return float64(max(0, b-a)) / d.Seconds() }
	return per(first.objects, last.objects), per(first.bytes, last.bytes)
}

// left is how many seconds b takes until its step ends, 0 if that is unknown. Work in hand counts as done, as in the rates.
func left(b Batch) float64 {
	if b.Listing || b.Paused {
		return 0
	}
	longest := 0.0
	for _, x := range []struct {
		Amount
		rate float64
	}{{b.Objects, b.ObjectsPerSecond}, {b.Bytes, b.BytesPerSecond}} {
		if x.rate > 0 {
			longest = max(longest, float64(max(0, x.Total-x.Settled-x.InHand))/x.rate)
		}
	}
	const year = 365 * 24 * 3600
	if longest > year {
		return 0
	}
	return longest
}
