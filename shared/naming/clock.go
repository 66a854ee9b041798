package naming

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // time zones have their rules wherever a plan is made

	"github.com/reshelf/reshelf/shared/metadata"
)

// ErrOptions is wrapped by every error about what a template is used with.
var ErrOptions = errors.New("invalid option of names")

// maxShift bounds by how much a date can be shifted: a century.
const maxShift = 36525 * 24 * time.Hour

// Shift corrects the clock of a camera.
type Shift struct {
	// Camera is its model, its make and model with a blank between them, or its serial number, whatever their case; or "*"
	// for every object.
	Camera string `json:"camera"`
	// Seconds are added to what its clock says.
	Seconds int64 `json:"seconds"`
}

// ParseShift reads a Shift as the command takes it: "Canon EOS R5=+1h2m". Errors wrap ErrOptions.
func ParseShift(s string) (Shift, error) {
	i := strings.LastIndex(s, "=")
	if i < 0 || strings.TrimSpace(s[:i]) == "" {
		return Shift{}, fmt.Errorf(`%w: clock shift %q: want CAMERA=SHIFT, such as "Canon EOS R5=+1h2m"`, ErrOptions, s)
	}
	by, err := parseShift(s[i+1:])
	if err != nil {
		return Shift{}, fmt.Errorf("%w: clock shift %q: %w", ErrOptions, s, err)
	}
	return Shift{Camera: strings.TrimSpace(s[:i]), Seconds: int64(by / time.Second)}, nil
}

// String is what ParseShift reads.
func (s Shift) String() string { return s.Camera + "=" + s.by() }

// by is the shift with its sign: "+1h2m0s".
func (s Shift) by() string {
	d := (time.Duration(s.Seconds) * time.Second).String()
	if s.Seconds >= 0 {
		d = "+" + d
	}
	return d
}

// wantShift says how shifts are written.
const wantShift = `a shift such as "+1h2m" or "-7d" (w, d, h, m, s)`

// parseShift reads a shift: a sign, and numbers with their units, each unit once and the larger ones first.
func parseShift(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no %s", s, strings.TrimPrefix(wantShift, "a "))
	rest := strings.TrimLeft(s, "+-")
	if len(s)-len(rest) > 1 || rest == "" {
		return 0, bad
	}
	var sum time.Duration
	for _, u := range []struct {
		unit string
		is   time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
		after, ok := strings.CutPrefix(rest[len(digits):], u.unit)
		if digits == "" || !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > int64(maxShift/u.is) {
			return 0, fmt.Errorf("%q is more than a century", s)
		}
		sum += time.Duration(n) * u.is
		rest = after
	}
	switch {
	case rest != "":
		return 0, bad
	case sum > maxShift:
		return 0, fmt.Errorf("%q is more than a century", s)
	case s[0] == '-':
		sum = -sum
	}
	return sum, nil
}

// parseZone reads a time zone: an IANA name ("Europe/Athens") or a UTC offset ("+03:00").
func parseZone(s string) (*time.Location, error) {
	if s == "" {
		return nil, nil
	}
	if t, err := metadata.ParseTime("2000:01:01 00:00:00" + s); err == nil && t.Offset != "" {
		if at, ok := t.Time(nil); ok {
			return at.Location(), nil
		}
	}
	loc, err := time.LoadLocation(s)
	if err != nil || s == "Local" {
		return nil, fmt.Errorf("%w: unknown time zone %q; want an IANA name such as Europe/Athens, or a UTC offset such as +03:00", ErrOptions, s)
	}
	return loc, nil
}

// clock says how capture times are read.
type clock struct {
	location *time.Location
	shifts   []Shift
}

// set corrects a capture time. A camera's clock is shifted, unless a sidecar corrected it already or satellites told the time. What is in
// UTC because its format says so gets the time zone's clock, if there is a time zone.
func (c clock) set(f metadata.Facts) metadata.Facts {
	if c.location == nil && len(c.shifts) == 0 {
		return f
	}
	t := f.Capture
	if s, ok := c.shift(f); ok {
		t = moved(t, func(at time.Time) time.Time { return at.Add(time.Duration(s.Seconds) * time.Second) })
		t.Source += " " + s.by()
	}
	if at, ok := t.Time(nil); ok && c.location != nil && f.Capture.IsUTC() {
		at = at.In(c.location)
		t = moved(t, func(time.Time) time.Time { return at })
		if t.Offset = at.Format("-07:00"); t.Offset == "+00:00" {
			t.Offset = "Z"
		}
	}
	f.Capture = t
	return f
}

// shift is that of the camera that the facts name.
func (c clock) shift(f metadata.Facts) (Shift, bool) {
	if f.Capture.Wall == "" || f.Capture.IsFix() || strings.HasPrefix(f.Capture.Source, metadata.SidecarSource) {
		return Shift{}, false
	}
	for _, s := range c.shifts {
		is := func(name string) bool { return name != "" && strings.EqualFold(s.Camera, name) }
		if s.Camera == "*" || is(f.Model) || is(f.Make+" "+f.Model) || is(f.Serial) {
			return s, true
		}
	}
	return Shift{}, false
}

// moved is t with another wall clock of whole seconds; its sub-seconds stay as the camera wrote them.
func moved(t metadata.Time, move func(time.Time) time.Time) metadata.Time {
	const layout = "2006-01-02T15:04:05"
	if len(t.Wall) < len(layout) {
		return t
	}
	at, err := time.Parse(layout, t.Wall[:len(layout)])
	if err != nil {
		return t
	}
	if at = move(at); at.Year() < 1 || at.Year() > 9999 {
		return t
	}
	t.Wall = at.Format(layout) + t.Wall[len(layout):]
	return t
}
