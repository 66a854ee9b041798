package naming

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ParseRules reads and checks a file of rules, in YAML of at most MaxRulesBytes. Errors are [*RulesError].
func ParseRules(text []byte) (Rules, error) {
	if len(text) > MaxRulesBytes {
		return Rules{}, wrong("", fmt.Sprintf("at most %d", MaxRulesBytes), "%d bytes", len(text))
	}
	top, err := document(text)
	if err != nil {
		return Rules{}, err
	}
	f := rulesFile{lines: map[string]int{"": top.Line}}
	r := f.rules(top)
	if f.err == nil {
		_, f.err = r.compile()
	}
	if f.err != nil {
		if f.err.Line == 0 {
			f.err.Line = f.line(f.err.Field)
		}
		return Rules{}, f.err
	}
	return r, nil
}

// document is the one document of a file.
func document(text []byte) (*yaml.Node, *RulesError) {
	const want = "one document of YAML with roles and companions"
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		return nil, wrong("", want, "the file is empty")
	case err != nil:
		return nil, fromYAML(err, want)
	}
	switch err := d.Decode(&more); {
	case err == nil:
		return nil, &RulesError{Line: more.Line, Problem: "a second document", Want: want}
	case !errors.Is(err, io.EOF):
		return nil, fromYAML(err, want)
	}
	return doc.Content[0], nil
}

// fromYAML takes the line out of "yaml: line 3: did not find ...".
func fromYAML(err error, want string) *RulesError {
	problem := strings.TrimPrefix(err.Error(), "yaml: ")
	e := &RulesError{Problem: problem, Want: want}
	if rest, ok := strings.CutPrefix(problem, "line "); ok {
		number, rest, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			e.Line, e.Problem = n, rest
		}
	}
	return e
}

// rulesFile reads nodes and remembers where each field stood. The first error stays.
type rulesFile struct {
	lines map[string]int
	err   *RulesError
}

// line is that of a field, or of the nearest one around it.
func (f *rulesFile) line(field string) int {
	for {
		if n, ok := f.lines[field]; ok || field == "" {
			return n
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
}

func (f *rulesFile) fail(n *yaml.Node, field, want, problem string, args ...any) {
	if f.err == nil {
		f.err = wrong(field, want, problem, args...)
		f.err.Line = n.Line
	}
}

// is reports whether a node is of a kind, and fails if it is not.
func (f *rulesFile) is(n *yaml.Node, kind yaml.Kind, field, want string) bool {
	f.lines[field] = n.Line
	switch {
	case f.err != nil:
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		f.fail(n, field, want, "an anchor or alias")
	case n.Kind != kind || kind == yaml.ScalarNode && n.Tag == "!!null":
		f.fail(n, field, want, "%s", nodeText(n))
	}
	return f.err == nil
}

// nodeText says what a node is.
func nodeText(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "fields"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return fmt.Sprintf("%.40q", n.Value)
}

// fields calls read for each field of a mapping, which must be one of names if there are any.
func (f *rulesFile) fields(n *yaml.Node, field string, names []string, read func(name, field string, n *yaml.Node)) {
	want := "fields"
	if len(names) > 0 {
		want = "the fields " + strings.Join(names, ", ")
	}
	if !f.is(n, yaml.MappingNode, field, want) {
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content) && f.err == nil; i += 2 {
		name := n.Content[i]
		if !f.is(name, yaml.ScalarNode, field, want) {
			return
		}
		switch {
		case len(names) > 0 && !slices.Contains(names, name.Value):
			f.fail(name, field, want, "unknown field %.40q", name.Value)
		case seen[name.Value]:
			f.fail(name, field, "it once", "the field %.40q a second time", name.Value)
		default:
			seen[name.Value] = true
			read(name.Value, strings.TrimPrefix(field+"."+name.Value, "."), n.Content[i+1])
		}
	}
	f.lines[field] = n.Line
}

// list calls read for each of at most limit items.
func (f *rulesFile) list(n *yaml.Node, field, of string, limit int, read func(field string, n *yaml.Node)) {
	if !f.is(n, yaml.SequenceNode, field, "a list of "+of) {
		return
	}
	if len(n.Content) > limit {
		f.fail(n, field, fmt.Sprintf("at most %d", limit), "%d %s", len(n.Content), of)
		return
	}
	for i, item := range n.Content {
		read(fmt.Sprintf("%s[%d]", field, i), item)
	}
}

func (f *rulesFile) text(n *yaml.Node, field, want string) string {
	if !f.is(n, yaml.ScalarNode, field, want) {
		return ""
	}
	return n.Value
}

func (f *rulesFile) rules(top *yaml.Node) Rules {
	var r Rules
	f.fields(top, "", []string{"roles", "companions"}, func(name, field string, n *yaml.Node) {
		if name == "companions" {
			f.list(n, field, "companions", maxCompanions, func(field string, n *yaml.Node) {
				r.Companions = append(r.Companions, f.companion(n, field))
			})
			return
		}
		r.Roles = map[string][]string{}
		f.fields(n, field, roleNames(), func(name, field string, n *yaml.Node) {
			r.Roles[name] = f.texts(n, field, "extensions", maxExtensions)
		})
	})
	return r
}

func (f *rulesFile) texts(n *yaml.Node, field, of string, limit int) []string {
	var out []string
	f.list(n, field, of, limit, func(field string, n *yaml.Node) { out = append(out, f.text(n, field, of)) })
	return out
}

func (f *rulesFile) companion(n *yaml.Node, field string) CompanionRule {
	var c CompanionRule
	f.fields(n, field, []string{"name", "of", "from", "stem", "cut", "number"}, func(name, field string, n *yaml.Node) {
		switch name {
		case "name":
			c.Name = f.text(n, field, wantPattern)
		case "of":
			c.Of = f.texts(n, field, "roles or extensions", maxOf)
		case "from":
			c.From = f.text(n, field, wantFrom)
		case "stem":
			c.Stem = f.text(n, field, wantStem)
		case "cut":
			f.value(n, field, wantCut, &c.Cut)
		case "number":
			f.value(n, field, "true or false", &c.Number)
		}
	})
	return c
}

// value decodes a number or truth value.
func (f *rulesFile) value(n *yaml.Node, field, want string, into any) {
	if f.is(n, yaml.ScalarNode, field, want) && n.Decode(into) != nil {
		f.fail(n, field, want, "%s", nodeText(n))
	}
}
