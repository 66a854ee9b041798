package report

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
)

// ErrPlan is wrapped by the errors of ReadPlan, apart from those of its reader.
var ErrPlan = errors.New("not a plan as CSV")

// PlannedName is what a plan as CSV says of one object.
type PlannedName struct {
	// Line is where the row begins, from 1.
	Line int
	// From is the object's key, also one that no store could act on. To is the name that it is to get, "" for none.
	From, To archive.Key
}

// Columns of a plan that ReadPlan reads.
const (
	columnFrom = "from"
	columnTo   = "to"
)

// Bounds of a plan as CSV, in bytes: of its header, and of one row with all its columns.
const (
	maxPlanHeader = 64 << 10
	maxPlanRow    = 16 << 20
)

// ReadPlan yields the rows of a plan as PlanWriter writes it, in the order in which they stand there, after a person or a
// spreadsheet has changed it: of the columns only from and to count, in any place, rows may be missing, and cells may be quoted
// or not. What spreadsheets do to a file as such is undone: a byte order mark, lines that end with CRLF, semicolons or tabs in
// place of commas, which the header tells, and rows of empty cells. What may have changed a name is an error: another encoding
// than UTF-8, an escape that is none, a key that none is. An error names the line and the column, and ends the sequence.
//
// Cells are read exactly as they were written: a key that PlanWriter had to escape comes back byte for byte.
func ReadPlan(r io.Reader) iter.Seq2[PlannedName, error] {
	return func(yield func(PlannedName, error) bool) {
		p, err := newPlanReader(r)
		for err == nil {
			var n PlannedName
			if n, err = p.next(); err == nil && !yield(n, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(PlannedName{}, err)
		}
	}
}

type planReader struct {
	csv      *csv.Reader
	row      *rowLimit
	from, to int // columns
}

func newPlanReader(r io.Reader) (*planReader, error) {
	br := bufio.NewReaderSize(r, maxPlanHeader)
	head, err := br.Peek(maxPlanHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	if bom := []byte("\ufeff"); bytes.HasPrefix(head, bom) {
		head = head[len(bom):]
		_, _ = br.Discard(len(bom)) // it was peeked at
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	if !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
		return nil, planError(1, "", errNotUTF8)
	}
	p := &planReader{row: &rowLimit{r: br}}
	p.csv = csv.NewReader(p.row)
	p.csv.Comma = comma(line)
	p.csv.ReuseRecord = true
	header, err := p.read()
	if errors.Is(err, io.EOF) {
		return nil, planError(1, "", fmt.Errorf("the file is empty; want %s", wantHeader))
	}
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(header, func(name string) bool { return strings.Contains(name, "\r") }) {
		return nil, planError(1, "", errCarriageReturn) // all of the file would be the header
	}
	if p.from, err = columnOf(header, columnFrom); err == nil {
		p.to, err = columnOf(header, columnTo)
	}
	return p, err
}

func columnOf(header []string, name string) (int, error) {
	i := slices.Index(header, name)
	switch {
	case i < 0:
		return i, planError(1, name, fmt.Errorf("there is no such column; want %s", wantHeader))
	case slices.Contains(header[i+1:], name):
		return i, planError(1, name, fmt.Errorf("there is more than one such column; want %s", wantHeader))
	}
	return i, nil
}

// wantHeader is what an error says of the header.
const wantHeader = `the header that "reshelf plan BATCH --csv" writes, which begins with from,to`

var errCarriageReturn = errors.New("its lines end with a carriage return alone; save the file with the line ends of Windows or Unix")

var errNotUTF8 = errors.New("it is not UTF-8; save the file as CSV in UTF-8")

// comma is what separates the cells of a plan with this header.
func comma(header []byte) rune {
	for _, c := range ",;\t" {
		r := csv.NewReader(bytes.NewReader(header))
		r.Comma = c
		if cells, err := r.Read(); err == nil && slices.Contains(cells, columnFrom) {
			return c
		}
	}
	return ','
}

// next is the next row with anything in it, or io.EOF.
func (p *planReader) next() (PlannedName, error) {
	for {
		cells, err := p.read()
		if err != nil {
			return PlannedName{}, err
		}
		if !slices.ContainsFunc(cells, func(s string) bool { return s != "" }) {
			continue
		}
		n := PlannedName{}
		n.Line, _ = p.csv.FieldPos(0)
		if n.From, err = cellKey(cells[p.from]); err == nil && n.From == "" {
			err = errors.New("it is empty, so it cannot be told which object the row is of")
		}
		if err != nil {
			return PlannedName{}, p.bad(p.from, columnFrom, err)
		}
		if n.To, err = cellKey(cells[p.to]); err == nil && n.To != "" {
			_, err = archive.ParseKey(string(n.To))
		}
		if err != nil {
			return PlannedName{}, p.bad(p.to, columnTo, err)
		}
		return n, nil
	}
}

// cellKey reads what cell has written.
func cellKey(text string) (key archive.Key, err error) {
	if !utf8.ValidString(text) {
		return "", errNotUTF8
	}
	return key, key.UnmarshalText([]byte(text))
}

func (p *planReader) bad(at int, column string, err error) error {
	line, _ := p.csv.FieldPos(at)
	return planError(line, column, err)
}

// read is the next record, or io.EOF.
func (p *planReader) read() ([]string, error) {
	p.row.left = maxPlanRow
	cells, err := p.csv.Read()
	bad, wrong := errors.AsType[*csv.ParseError](err)
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return cells, err
	case wrong && errors.Is(bad.Err, csv.ErrFieldCount):
		return nil, planError(bad.Line, "", fmt.Errorf("the row has %d cells, the header %d", len(cells), p.csv.FieldsPerRecord))
	case wrong:
		return nil, planError(bad.Line, "", bad.Err)
	case errors.Is(err, errRowTooLong):
		return nil, fmt.Errorf("%w: the row after byte %d: %w", ErrPlan, p.csv.InputOffset(), err)
	}
	return nil, fmt.Errorf("read plan: %w", err)
}

func planError(line int, column string, err error) error {
	where := fmt.Sprintf("line %d", line)
	if column != "" {
		where += fmt.Sprintf(", column %q", column)
	}
	return fmt.Errorf("%w: %s: %w", ErrPlan, where, err)
}

var errRowTooLong = fmt.Errorf("it is longer than %d bytes; is a quote not closed?", maxPlanRow)

// rowLimit bounds what is read for one row: a quote that is never closed would take in the rest of the file.
type rowLimit struct {
	r    io.Reader
	left int
}

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
