package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cell makes escaped text (see archive.Key.Text) safe to open in a spreadsheet. Spreadsheets run a cell that starts with
// = + - or @ as a formula, in Japanese locales also the full-width forms, and some cut lines at semicolons, bars or
// spaces after a comma whatever the quotes say. A formula sign in such a place is written \u{HEX}, a form that
// archive.ParseKeyText reads back, so keys survive exactly. Characters that are not printable, tab and carriage return
// among them, are escaped in the same way.
// Source: https://owasp.org/www-community/attacks/CSV_Injection
func cell(text string) string { return escapeRunes(text, true) }

// printable escapes what is not printable in text that is escaped already, should its writer have missed any.
func printable(text string) string { return escapeRunes(text, false) }

func escapeRunes(text string, formulas bool) string {
	var b strings.Builder
	start := formulas
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !unicode.IsPrint(r), start && isFormula(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteString(text[i : i+n])
		}
		start = formulas && startsCell(r, start)
		i += n
	}
	return b.String()
}

// startsCell reports whether what follows r may be taken for the start of a cell; start says the same of r itself.
func startsCell(r rune, start bool) bool {
	switch r {
	case ',', ';', '|', '\t', '\r', '\n':
		return true
	case ' ', '"', '\'':
		return start
	}
	return false
}

func isFormula(r rune) bool { return strings.ContainsRune("=+-@＝＋－＠", r) }

// table writes one CSV file (RFC 4180, lines ended by LF) with a header line.
type table struct {
	w    *csv.Writer
	rows int64
}

func newTable(w io.Writer, header ...string) (*table, error) {
	t := &table{w: csv.NewWriter(w)}
	return t, t.w.Write(header)
}

// add writes a line of cells, each made safe. The error of a failed write may come with a later line or with close.
func (t *table) add(cells ...string) error {
	for i := range cells {
		cells[i] = cell(cells[i])
	}
	if err := t.w.Write(cells); err != nil {
		return err
	}
	t.rows++
	return nil
}

// Rows is the number of lines added, without the header.
func (t *table) Rows() int64 { return t.rows }

// Close writes what is buffered. It does not close the underlying writer.
func (t *table) Close() error {
	t.w.Flush()
	return t.w.Error()
}
