package progress

import "time"

const (
	// window is the time over which rates are measured.
	window = 20 * time.Second
	// spacing is the time between two samples that are kept, which bounds how many there are.
	spacing = 250 * time.Millisecond
	// settling is the time before the first rate is shown: earlier ones mean nothing.
	settling = time.Second
)

type sample struct {
	at             time.Time
	objects, bytes int64
}

// meter measures rates over the last 20 s.
type meter struct{ samples []sample }

func (m *meter) add(at time.Time, objects, bytes int64) {
	s := sample{at, objects, bytes}
	n := len(m.samples)
	if n > 1 && m.samples[n-1].at.Sub(m.samples[n-2].at) < spacing {
		m.samples[n-1] = s
		return
	}
	m.samples = append(m.samples, s)
	for len(m.samples) > 2 && at.Sub(m.samples[0].at) > window {
		m.samples = m.samples[1:]
	}
}

// rates are objects and bytes a second, 0 while they are unknown.
func (m *meter) rates() (objects, bytes float64) {
	if len(m.samples) < 2 {
		return 0, 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	d := last.at.Sub(first.at)
	if d < settling {
		return 0, 0
	}
	per := func(a, b int64) float64 { return float64(max(0, b-a)) / d.Seconds() }
	return per(first.objects, last.objects), per(first.bytes, last.bytes)
}

// left is the time to the end at the present rates, by objects or bytes, whichever takes longer. It is unknown while the
// total is.
func (m *meter) left(s State) (time.Duration, bool) {
	if s.Objects.Total < 0 {
		return 0, false
	}
	objects, bytes := m.rates()
	if objects == 0 && bytes == 0 {
		return 0, false
	}
	longest := 0.0
	for _, x := range []struct {
		a    Amount
		rate float64
	}{{s.Objects, objects}, {s.Bytes, bytes}} {
		if x.rate > 0 && x.a.Total > 0 {
			longest = max(longest, float64(max(0, x.a.Total-x.a.done()))/x.rate)
		}
	}
	const year = 365 * 24 * 3600
	if longest > year {
		return 0, false
	}
	return time.Duration(longest * float64(time.Second)), true
}
