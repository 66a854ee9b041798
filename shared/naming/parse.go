package naming

import "fmt"

// node is a part of the syntax tree: textNode, fieldNode or sectionNode.
type node interface{ offset() int }

// textNode is literal text of the name; slashes in it are folders.
type textNode struct{ token token }

// sectionNode vanishes when a field in it has no value.
type sectionNode struct {
	start int
	nodes []node
}

// fieldNode is one pair of braces; the first choice with a value is used.
type fieldNode struct {
	start int
	// source is what stands between the braces.
	source  string
	choices []choiceNode
}

type choiceNode struct {
	// source is of kind tokenString, tokenTag, tokenSidecar or tokenName.
	source token
	// tag is what a field is of, date(XMP-xmp:CreateDate), of kind tokenTag or tokenSidecar; of kind tokenEnd where there is none.
	tag token
	// format is of kind tokenEnd where there is none.
	format  token
	filters []filterNode
}

type filterNode struct {
	name token
	args []token
}

func (n textNode) offset() int    { return n.token.start }
func (n sectionNode) offset() int { return n.start }
func (n fieldNode) offset() int   { return n.start }

// parser builds the syntax tree by recursive descent. The last token is always tokenEnd.
type parser struct {
	src    string
	tokens []token
}

func parse(src string) ([]node, error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, tokens: tokens}
	nodes, err := p.nodes()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind == tokenSectEnd {
		return nil, p.fail(t, `"]" without its "["`, `{"]"} for a bracket in the name`)
	}
	return nodes, nil
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.tokens[0]
	if t.kind != tokenEnd {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept takes the next token if it is of kind k.
func (p *parser) accept(k kind) (token, bool) {
	if p.peek().kind != k {
		return token{}, false
	}
	return p.next(), true
}

func (p *parser) fail(t token, problem, want string) error {
	return syntaxError(p.src, t.start, problem, want)
}

// unexpected is the error about a token that cannot stand where it does.
func (p *parser) unexpected(t token, want string) error {
	return p.fail(t, fmt.Sprintf("unexpected %q", p.src[t.start:t.end]), want)
}

// nodes reads up to the end of the template or of the section.
func (p *parser) nodes() ([]node, error) {
	var out []node
	for {
		switch t := p.peek(); t.kind {
		case tokenText:
			out = append(out, textNode{p.next()})
		case tokenOpen:
			f, err := p.field()
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		case tokenSection:
			s, err := p.section()
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		default:
			return out, nil
		}
	}
}

func (p *parser) section() (sectionNode, error) {
	open := p.next()
	nodes, err := p.nodes()
	if err != nil {
		return sectionNode{}, err
	}
	if _, ok := p.accept(tokenSectEnd); !ok {
		return sectionNode{}, p.fail(open, `"[" without its "]"`, `"]" at the end of the section, or {"["} for a bracket in the name`)
	}
	return sectionNode{start: open.start, nodes: nodes}, nil
}

func (p *parser) field() (fieldNode, error) {
	open := p.next()
	f := fieldNode{start: open.start}
	for {
		c, err := p.choice()
		if err != nil {
			return fieldNode{}, err
		}
		f.choices = append(f.choices, c)
		t := p.next()
		if t.kind == tokenClose {
			f.source = p.src[open.end:t.start]
			return f, nil
		}
		if t.kind != tokenElse {
			return fieldNode{}, p.unexpected(t, `"|" and a filter, "??" and a fallback, or "}"`)
		}
	}
}

func (p *parser) choice() (choiceNode, error) {
	c := choiceNode{source: p.next()}
	switch c.source.kind {
	case tokenString, tokenTag, tokenSidecar, tokenName:
	default:
		return choiceNode{}, p.unexpected(c.source, `a field, a tag or a "string"`)
	}
	if err := p.of(&c); err != nil {
		return choiceNode{}, err
	}
	if t, ok := p.accept(tokenFormat); ok {
		c.format = t
	}
	for {
		if _, ok := p.accept(tokenPipe); !ok {
			return c, nil
		}
		f, err := p.filter()
		if err != nil {
			return choiceNode{}, err
		}
		c.filters = append(c.filters, f)
	}
}

// of reads the tag that a field is of, if there is one.
func (p *parser) of(c *choiceNode) error {
	if c.source.kind != tokenName {
		return nil
	}
	if _, ok := p.accept(tokenArgs); !ok {
		return nil
	}
	if c.tag = p.next(); c.tag.kind != tokenTag && c.tag.kind != tokenSidecar {
		return p.unexpected(c.tag, "an ExifTool tag such as XMP-xmp:CreateDate")
	}
	if _, ok := p.accept(tokenArgsEnd); !ok {
		return p.unexpected(p.peek(), `")"`)
	}
	return nil
}

func (p *parser) filter() (filterNode, error) {
	f := filterNode{name: p.next()}
	if f.name.kind != tokenName {
		return filterNode{}, p.unexpected(f.name, "the name of a filter")
	}
	if t, ok := p.accept(tokenFormat); ok {
		return filterNode{}, p.unexpected(t, `arguments of a filter in parentheses: replace("a","b")`)
	}
	if _, ok := p.accept(tokenArgs); !ok {
		return f, nil
	}
	if _, ok := p.accept(tokenArgsEnd); ok {
		return f, nil
	}
	for {
		arg := p.next()
		if arg.kind != tokenString && arg.kind != tokenNumber {
			return filterNode{}, p.unexpected(arg, `a "string" or a number as the filter's argument`)
		}
		f.args = append(f.args, arg)
		t := p.next()
		if t.kind == tokenArgsEnd {
			return f, nil
		}
		if t.kind != tokenComma {
			return filterNode{}, p.unexpected(t, `"," or ")"`)
		}
	}
}
