// Package naming turns what is known about an object into the key that it should have: the template language, the rules
// of a name, and the rules for groups of objects that move together. It does no I/O.
//
// # Template language
//
// A template is the new key of an object with fields in braces: "{date:%Y/%m}/{name}{ext}". The grammar, in the EBNF of
// the Go specification, over the runes of the template:
//
//	template = { text | "{{" | "}}" | field | section } .
//	text     = any runes except "{", "}", "[", "]" and control characters .
//	section  = "[" template "]" .
//	field    = "{" choice { "??" choice } "}" .
//	choice   = source { "|" filter } .
//	source   = string | tag | name [ "(" tag ")" ] [ ":" format ] .
//	tag      = [ group ":" ] tagname | ( "tag:" | "sidecar:" ) [ tagpart ":" ] tagpart .
//	group    = tagname .
//	tagname  = upper { letter | digit | "_" | "-" } .
//	tagpart  = ( letter | digit ) { letter | digit | "_" | "-" } .
//	name     = lower { letter | digit | "_" | "-" } .
//	format   = string | raw .
//	raw      = any runes except "|", "}", control characters and the pair "??", not starting with '"' .
//	filter   = name [ "(" [ arg { "," arg } ] ")" ] .
//	arg      = string | number .
//	number   = [ "-" | "+" ] digit { digit } .
//	string   = '"' { any rune except '"' and "\" | "\" ( '"' | "\" ) } '"' .
//
// Letters and digits are ASCII. Spaces between the tokens of a field, and at both ends of a raw format, mean nothing.
// The first letter decides what a source is: lower case names one of Reshelf's fields, upper case a tag by its ExifTool
// name; "tag:" reaches tags and groups that start with a lower-case letter or a digit, "sidecar:" the tags of the object's
// sidecar. Filters bind tighter than "??".
// A literal bracket is written as a string field: {"["}. docs/templates.md in the repository has an example of each part.
//
// # Meaning
//
// Folders come only from slashes that the template itself holds (in text, strings and formats) and from {dir}, which is
// the folder that the object is in now. A slash in a tag becomes "_".
//
// A field has no value if the object lacks it or if its text is empty after the filters; then the next choice is tried.
// The filter default gives a value where there is none so far. When no choice has a value, a section that holds the field
// vanishes, and outside of sections the object has no name: Name returns a [NoValueError]. Only {ext}, {dir} and strings may be
// empty, and an empty one also makes its section vanish.
//
// # How it works
//
// Parse runs a lexer (lex.go), a parser that builds the syntax tree (parse.go), and a check that resolves fields and filters into
// functions (check.go, field.go, describe.go, measure.go, counter.go, filter.go, words.go). Name calls these functions, puts
// their texts together into segments (eval.go) and makes each segment safe (profile.go). What a template is used with, besides
// objects, are [Options].
//
// [Rules] of groups are data (groups.yaml, rules.go), read with their lines (rulesfile.go) and checked (rulecheck.go). [Groups] are
// these made ready: a Key to sort by (group.go), and the units among objects of one Key (arrange.go, sidecar.go).
package naming
