package naming

import (
	"fmt"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
)

// checker resolves the names in a syntax tree and compiles it into parts.
type checker struct {
	source  string
	fields  []fieldSpec
	filters []filterSpec
	needs   Needs
	// tags and lists are the names of those that are read, columns those of the manifest.
	tags, lists, columns []string
	counters             []counter
	// uncounted: counters are refused.
	uncounted bool
	// before is what stands before the field in hand, which begins at fieldStart, if each section around it has what it holds.
	before     []part
	fieldStart int
}

func (c *checker) fail(offset int, problem, want string) error {
	return syntaxError(c.source, offset, problem, want)
}

// template compiles the whole tree; it also checks what only the ends of a template can have wrong.
func (c *checker) template(nodes []node) ([]part, error) {
	if len(nodes) == 0 {
		return nil, c.fail(0, "the template is empty", `text and fields, such as "{date:%Y/%m}/{name}{ext}"`)
	}
	if t, ok := nodes[0].(textNode); ok {
		first, _, more := strings.Cut(t.token.text, "/")
		if first == "" || more && isDots(first) {
			return nil, c.fail(t.token.start, "the name would leave the archive", "a path below the archive, without a slash or dots at its start")
		}
	}
	if t, ok := nodes[len(nodes)-1].(textNode); ok && strings.HasSuffix(t.token.text, "/") {
		return nil, c.fail(t.token.end, "the template ends with a folder", `the object's name after "/", such as {name}{ext}`)
	}
	return c.parts(nodes)
}

func (c *checker) parts(nodes []node) ([]part, error) {
	out := make([]part, 0, len(nodes))
	for _, n := range nodes {
		p, err := c.part(n)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
		c.before = append(c.before, p)
	}
	return out, nil
}

func (c *checker) part(n node) (part, error) {
	switch n := n.(type) {
	case textNode:
		if err := c.folders(n.token); err != nil {
			return nil, err
		}
		return literal(ownText(n.token.text)), nil
	case sectionNode:
		outside := len(c.before)
		parts, err := c.parts(n.nodes)
		if err != nil {
			return nil, err
		}
		c.before = c.before[:outside]
		if !holdsField(n.nodes) {
			return nil, c.fail(n.start, "a section without a field never vanishes", `a field in it, such as [_{model}], or {"["} for a bracket in the name`)
		}
		return section(parts), nil
	case fieldNode:
		return c.field(n)
	}
	panic(fmt.Sprintf("naming: no such node %T", n))
}

func holdsField(nodes []node) bool {
	return slices.ContainsFunc(nodes, func(n node) bool {
		_, ok := n.(fieldNode)
		return ok
	})
}

// folders refuses slashes and dots that make no folder.
func (c *checker) folders(t token) error {
	if i := strings.Index(t.text, "//"); i >= 0 {
		return c.fail(t.start+i+1, "a folder without a name", "one slash")
	}
	offset := t.start
	for i, s := range strings.Split(t.text, "/") {
		if i > 0 && isDots(s) && strings.HasPrefix(t.text[offset-t.start+len(s):], "/") {
			return c.fail(offset, fmt.Sprintf("%q would leave or repeat a folder", s), "the name of a folder")
		}
		offset += len(s) + 1
	}
	return nil
}

func isDots(s string) bool { return s == "." || s == ".." }

func (c *checker) field(n fieldNode) (part, error) {
	f := field{source: n.source}
	c.fieldStart = n.start
	for _, cn := range n.choices {
		ch, err := c.choice(cn)
		if err != nil {
			return nil, err
		}
		f.choices = append(f.choices, ch)
	}
	return f, nil
}

func (c *checker) choice(n choiceNode) (choice, error) {
	var ch choice
	var err error
	switch n.source.kind {
	case tokenString:
		if n.format.kind != tokenEnd {
			return choice{}, c.fail(n.format.start, "a string has no format", `"|", "??" or "}"`)
		}
		if err := c.folders(token{text: n.source.text, start: n.source.start + 1}); err != nil {
			return choice{}, err
		}
		ch.look, ch.mayBeEmpty = constant(ownText(n.source.text)), true
	case tokenTag, tokenSidecar:
		ch.look = c.tag(n.source)
	default:
		if ch, err = c.named(n); err != nil {
			return choice{}, err
		}
	}
	shiftable := ch.isDate
	for _, fn := range n.filters {
		f, err := c.filter(fn)
		if err != nil {
			return choice{}, err
		}
		switch {
		case f.shift != nil && !shiftable:
			return choice{}, c.fail(fn.name.start, "there is no date to shift", "the filter shift right after a date, such as {date|shift(\"+1h\")}")
		case f.shift != nil:
			if ch.shift += *f.shift; ch.shift.Abs() > maxShift {
				return choice{}, c.fail(fn.args[0].start, "the shifts of this date make more than a century", wantShift)
			}
		default:
			shiftable = false
			ch.filters = append(ch.filters, f)
		}
	}
	return ch, nil
}

// tag resolves a tag of the object, or of its sidecar.
func (c *checker) tag(t token) lookup {
	c.needs.Tags = true
	c.tags = append(c.tags, t.text)
	if t.kind == tokenSidecar {
		return sidecarLookup(t.text)
	}
	return tagLookup(t.text)
}

// named resolves a field by its name: one of the table's, or a digest algorithm.
func (c *checker) named(n choiceNode) (choice, error) {
	name := n.source.text
	i := slices.IndexFunc(c.fields, func(s fieldSpec) bool { return s.name == name })
	spec, ok := digestSpec(name)
	if i >= 0 {
		spec, ok = c.fields[i], true
	}
	if !ok {
		return choice{}, c.fail(n.source.start, fmt.Sprintf("unknown field %q", name), "one of "+c.fieldNames()+", or an ExifTool tag such as IFD0:Artist")
	}
	if c.uncounted && name == counterField {
		return choice{}, c.fail(n.source.start, fmt.Sprintf("%q in a template that not all objects are named by", name), "what tells objects apart by itself, such as {sha256:8}")
	}
	build := spec.build
	if n.tag.kind != tokenEnd {
		if spec.of == nil {
			return choice{}, c.fail(n.tag.start, fmt.Sprintf("the field %q is of no tag", name), `":" and a format, "|", "??" or "}"`)
		}
		build = spec.of(n.tag)
		c.tags = append(c.tags, n.tag.text)
		c.tags = append(c.tags, metadata.DateTags()...)
		c.needs.Tags = true
	} else {
		c.needs = c.needs.And(spec.needs)
	}
	look, bad := build(n.format.text, n.format.kind != tokenEnd)
	if bad != nil {
		offset := n.source.start
		if n.format.kind != tokenEnd {
			offset = n.format.start
		}
		if !n.format.quoted {
			offset += bad.offset
		}
		return choice{}, c.fail(offset, bad.problem, bad.want)
	}
	c.tags, c.lists = append(c.tags, spec.tags...), append(c.lists, spec.lists...)
	return choice{look: look, mayBeEmpty: spec.mayBeEmpty, isDate: spec.isDate}, nil
}

func (c *checker) fieldNames() string {
	var names []string
	for _, s := range c.fields {
		names = append(names, s.name)
	}
	for _, a := range digest.Algorithms() {
		names = append(names, a.String())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (c *checker) filter(n filterNode) (filter, error) {
	i := slices.IndexFunc(c.filters, func(s filterSpec) bool { return s.name == n.name.text })
	if i < 0 {
		var names []string
		for _, s := range c.filters {
			names = append(names, s.name)
		}
		return filter{}, c.fail(n.name.start, fmt.Sprintf("unknown filter %q", n.name.text), "one of "+strings.Join(names, ", "))
	}
	spec := c.filters[i]
	if len(n.args) < spec.least || len(n.args) > spec.most {
		return filter{}, c.fail(n.name.start, fmt.Sprintf("%d arguments for the filter %q", len(n.args), spec.name), spec.usage)
	}
	args := make([]string, len(n.args))
	for i, a := range n.args {
		args[i] = a.text
	}
	f, bad := spec.build(args)
	if bad != nil {
		at := n.name.start
		if bad.arg > 0 {
			at = n.args[min(bad.arg, len(n.args))-1].start
		}
		return filter{}, c.fail(at, bad.problem, bad.want)
	}
	return f, nil
}

// And is what two templates need together.
func (n Needs) And(o Needs) Needs {
	return Needs{
		Tags:     n.Tags || o.Tags,
		Digests:  n.Digests | o.Digests,
		Seq:      n.Seq || o.Seq,
		Date:     n.Date || o.Date,
		Original: n.Original || o.Original,
	}
}
