package naming

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// Bounds of Options.
const (
	maxShifts   = 100
	maxMaps     = 20
	maxMapBytes = 256 << 10
)

// Options are what a template is used with. They travel in the batch, so every worker makes the same names. The zero value
// works.
type Options struct {
	// Profile of names; Portable if it is "".
	Profile Profile `json:"profile,omitempty"`
	// TimeZone is that of capture times without a UTC offset, and of those in UTC because their format says so; mtime is shown
	// in it. It is an IANA name or a UTC offset. If it is "" such capture times are used as they stand, %z has no value for
	// those without an offset, and mtime is shown in UTC.
	TimeZone string `json:"timezone,omitempty"`
	// Shifts correct the clocks of cameras; the first one that fits counts.
	Shifts []Shift `json:"clockShifts,omitempty"`
	// Maps are those of the filter map, by name.
	Maps map[string]Map `json:"maps,omitempty"`
}

// Map replaces whole texts, which are composed (NFC), by others.
type Map map[string]string

// Validate checks everything but whether a template can use the options. Errors wrap ErrOptions.
func (o Options) Validate() error {
	if _, ok := o.Profile.rules(); !ok {
		return fmt.Errorf("%w: unknown profile %q; want one of %v", ErrOptions, o.Profile, Profiles())
	}
	if _, err := parseZone(o.TimeZone); err != nil {
		return err
	}
	if len(o.Shifts) > maxShifts {
		return fmt.Errorf("%w: %d clock shifts; at most %d", ErrOptions, len(o.Shifts), maxShifts)
	}
	for _, s := range o.Shifts {
		if s.Camera == "" || len(s.Camera) > maxTextBytes || s.Seconds > int64(maxShift.Seconds()) || s.Seconds < -int64(maxShift.Seconds()) {
			return fmt.Errorf("%w: clock shift %.100q", ErrOptions, s.String())
		}
	}
	return validMaps(o.Maps)
}

func validMaps(all map[string]Map) error {
	if len(all) > maxMaps {
		return fmt.Errorf("%w: %d maps; at most %d", ErrOptions, len(all), maxMaps)
	}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if wordLength(name) != len(name) || name == "" {
			return fmt.Errorf(`%w: map %.100q: its name may hold letters, digits, "_" and "-"`, ErrOptions, name)
		}
		for from, to := range all[name] {
			size += len(from) + len(to)
			if !utf8.ValidString(from) || !utf8.ValidString(to) || len(from) > maxTextBytes || len(to) > maxTextBytes {
				return fmt.Errorf("%w: map %q: an entry is not UTF-8 or longer than %d bytes", ErrOptions, name, maxTextBytes)
			}
		}
	}
	if size > maxMapBytes {
		return fmt.Errorf("%w: the maps hold %d bytes; at most %d", ErrOptions, size, maxMapBytes)
	}
	return nil
}
