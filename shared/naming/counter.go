package naming

import (
	"fmt"
	"slices"
	"strings"
)

// Scopes of counters. In each scope numbers begin anew.
const (
	scopeBatch  = "batch"  // all objects of the batch
	scopeFolder = "folder" // the folder that an object is in now
	scopeDay    = "day"    // the day of the capture time, as names show it
	scopePrefix = "prefix" // what the template makes before the counter, for example the new folder
)

func scopes() []string { return []string{scopeBatch, scopeFolder, scopeDay, scopePrefix} }

// counterField is the name of the field that counts.
const counterField = "seq"

// counter numbers objects within a scope other than that of the batch.
type counter struct {
	scope string
	// prefix is what stands before the field that begins at fieldStart, for scopePrefix.
	prefix     []part
	fieldStart int
}

// maxCount and maxStep bound start and step of a counter, so that no number of objects lets it overflow.
const (
	maxCount = 1_000_000_000
	maxStep  = 1_000_000
)

// MaxCounters bounds the scopes besides the batch that a template counts in: objects are put in order in each of them.
const MaxCounters = 16

// seqFormat is a counter's format: "4,start=10,step=10,by=day".
type seqFormat struct {
	width, start, step int
	by                 string
}

func parseSeq(format string, given bool) (seqFormat, *problem) {
	f := seqFormat{width: 1, start: 1, step: 1, by: scopeBatch}
	if !given {
		return f, nil
	}
	offset := 0
	said := map[string]bool{}
	for i, item := range strings.Split(format, ",") {
		name, value, named := strings.Cut(strings.TrimSpace(item), "=")
		var bad *problem
		switch {
		case said[name]:
			bad = &problem{problem: fmt.Sprintf(`%q twice`, name+"="), want: "each once"}
		case !named && i == 0:
			f.width, bad = number(name, 1, 18)
			if bad != nil {
				bad.want += `, or one of "start=", "step=" and "by="`
			}
		case name == "start":
			f.start, bad = number(value, 0, maxCount)
		case name == "step":
			f.step, bad = number(value, 1, maxStep)
		case name == "by" && slices.Contains(scopes(), value):
			f.by = value
		case name == "by":
			bad = &problem{problem: fmt.Sprintf("unknown scope %q", value), want: "one of " + strings.Join(scopes(), ", ")}
		default:
			bad = &problem{problem: fmt.Sprintf("format %q", strings.TrimSpace(item)), want: `one of "start=", "step=" and "by="`}
		}
		said[name] = named
		if bad != nil {
			bad.offset = offset + len(item) - len(strings.TrimLeft(item, " "))
			return f, bad
		}
		offset += len(item) + 1
	}
	return f, nil
}

// seqField is a counter.
func (c *checker) seqField(format string, given bool) (lookup, *problem) {
	f, bad := parseSeq(format, given)
	if bad != nil {
		return nil, bad
	}
	get := func(v *Values) int64 { return v.Seq }
	if f.by == scopeBatch {
		c.needs.Seq = true
	} else {
		at := c.count(f.by)
		if at == MaxCounters {
			return nil, &problem{problem: fmt.Sprintf("counters in more than %d scopes", MaxCounters), want: `fewer, such as "by=batch" for some of them`}
		}
		get = func(v *Values) int64 {
			if at >= len(v.Counters) {
				return 0
			}
			return v.Counters[at]
		}
	}
	return func(v *Values) (text, string) {
		n := get(v)
		if n < 1 {
			return text{}, "the object has no number in the plan"
		}
		return valueText(fmt.Sprintf("%0*d", f.width, int64(f.start)+(n-1)*int64(f.step))), ""
	}, nil
}

// count is the index of the counter of a scope at this place of the template, which it adds if there is none. It is MaxCounters
// if that is one too many.
func (c *checker) count(scope string) int {
	n := counter{scope: scope}
	if scope == scopePrefix {
		n.prefix, n.fieldStart = slices.Clone(c.before), c.fieldStart
	}
	for i, o := range c.counters {
		if o.scope == n.scope && o.fieldStart == n.fieldStart {
			return i
		}
	}
	if len(c.counters) < MaxCounters {
		c.counters = append(c.counters, n)
		return len(c.counters) - 1
	}
	return MaxCounters
}

// Counters is how many scopes the template counts in besides the batch. Values.Counters holds an object's number in each: its
// place, from 1, among the objects for which Scope is equal, in the order of Captured, then key.
func (t *Template) Counters() int { return len(t.counters) }

// Scope is what an object shares with those that the ith counter counts together with it. Text before a counter is compared as
// Fold compares; counters within that text do not matter.
func (t *Template) Scope(i int, v Values) string {
	switch t.counters[i].scope {
	case scopeFolder:
		return string(v.Key.Dir())
	case scopeDay:
		return prefix(t.Captured(v), len("2006-01-02"))
	}
	v.Seq, v.Counters = 1, slices.Repeat([]int64{1}, len(t.counters))
	a, err := t.assemble(t.counters[i].prefix, t.settled(v))
	if err != nil {
		return "" // it gets no name, or none with this counter
	}
	return fold(a.soFar())
}

// soFar is the beginning of a key.
func (a *assembler) soFar() string {
	last := a.current.String()
	if last != "" {
		last = a.profile.segment(last, true, false, &changes{})
	}
	return strings.Join(append(slices.Clone(a.segments), last), "/")
}
