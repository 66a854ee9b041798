package listing

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

// Format is how a manifest is written.
type Format string

// Formats of a manifest. In JSONL and CSV a key is in its escaped form (archive.Key.Text), in lines it is raw.
const (
	// FormatAuto looks at the first block: a NUL byte means raw keys between NULs; a first line that starts with a brace and
	// holds "key" means JSONL; one with a column named key means CSV; else it is one raw key a line.
	FormatAuto Format = "auto"
	// FormatJSONL is one JSON object a line; the member "key" counts.
	FormatJSONL Format = "jsonl"
	// FormatCSV is RFC 4180 with a header; the column "key" counts.
	FormatCSV Format = "csv"
	// FormatLines is one raw key a line. A carriage return at its end belongs to the line end.
	FormatLines Format = "lines"
	// FormatNUL is raw keys, each ended by a NUL byte, as of find -print0.
	FormatNUL Format = "nul"
)

// Formats that ReadManifest knows.
func Formats() []Format { return []Format{FormatAuto, FormatJSONL, FormatCSV, FormatLines, FormatNUL} }

// ErrManifest is wrapped by the errors of ReadManifest, apart from those of its reader.
var ErrManifest = errors.New("invalid manifest")

const (
	// firstBlock is what the format is told from, in bytes.
	firstBlock = 64 << 10
	// maxLine bounds a line, or a CSV record, in bytes: a line of a catalogue holds all tags of an object.
	maxLine = 16 << 20
)

// ReadManifest yields the objects that a manifest names in the order in which they stand there, with what it says of them in
// the given columns. Empty lines are passed over; raw keys may begin with "./". An error names its line and ends the sequence.
// Memory is bounded by a few times 16 MiB, which is also the most that a line may have.
//
// Columns are those of CSV, whose header must have all of them, or the members of JSONL, of which any may be missing; the other
// formats have none, and it is an error to ask for any.
func ReadManifest(r io.Reader, format Format, columns []string) iter.Seq2[Named, error] {
	return func(yield func(Named, error) bool) {
		br := bufio.NewReaderSize(r, firstBlock)
		head, err := br.Peek(firstBlock)
		if err != nil && !errors.Is(err, io.EOF) {
			yield(Named{}, fmt.Errorf("read manifest: %w", err))
			return
		}
		if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
			yield(Named{}, fmt.Errorf("%w: it is UTF-16; save it as UTF-8", ErrManifest))
			return
		}
		if bom := []byte("\ufeff"); bytes.HasPrefix(head, bom) {
			head = head[len(bom):]
			_, _ = br.Discard(len(bom)) // it was peeked at
		}
		if format == FormatAuto {
			format = detect(head)
		}
		reader, err := rowReader(format, columns)
		if err != nil {
			yield(Named{}, err)
			return
		}
		for named, err := range reader(br) {
			if !yield(named, err) || err != nil {
				return
			}
		}
	}
}

// rows are those of a manifest.
type rows = iter.Seq2[Named, error]

func rowReader(format Format, columns []string) (func(*bufio.Reader) rows, error) {
	switch {
	case format == FormatJSONL:
		return func(br *bufio.Reader) rows { return jsonlRows(br, columns) }, nil
	case format == FormatCSV:
		return func(br *bufio.Reader) rows { return csvRows(br, columns) }, nil
	case !slices.Contains(Formats(), format):
		return nil, fmt.Errorf("%w: unknown format %q; want one of %v", ErrManifest, format, Formats())
	case len(columns) > 0:
		return nil, fmt.Errorf("%w: it has no columns, so there is no %q; write it as CSV with a header that names %q", ErrManifest, columns[0], "key")
	case format == FormatNUL:
		return func(br *bufio.Reader) rows { return eachLine(br, 0, rawRow) }, nil
	}
	return func(br *bufio.Reader) rows { return eachLine(br, '\n', rawRow) }, nil
}

func detect(head []byte) Format {
	if bytes.IndexByte(head, 0) >= 0 {
		return FormatNUL
	}
	first, _, _ := bytes.Cut(bytes.TrimLeft(head, " \t\r\n"), []byte("\n"))
	if bytes.HasPrefix(first, []byte("{")) && bytes.Contains(first, []byte(`"key"`)) {
		return FormatJSONL
	}
	header, err := csv.NewReader(bytes.NewReader(first)).Read()
	if err == nil && slices.Contains(header, "key") {
		return FormatCSV
	}
	return FormatLines
}

func jsonlRows(br *bufio.Reader, columns []string) rows {
	return eachLine(br, '\n', func(line []byte) (Named, error) {
		// The JSON package would replace what is not UTF-8, and so name another object.
		if !utf8.Valid(line) {
			return Named{}, errors.New("it is not UTF-8; write such keys in their escaped form")
		}
		return jsonRow(line, columns)
	})
}

func rawRow(line []byte) (Named, error) {
	key, err := rawKey(line)
	return Named{Key: key}, err
}

func rawKey(line []byte) (archive.Key, error) {
	key := strings.TrimPrefix(string(line), "./") // find . writes that
	if strings.HasPrefix(key, "/") {
		return "", fmt.Errorf("%w %q: keys are relative to the archive", archive.ErrKey, archive.EscapeText(key))
	}
	return archive.ParseKey(key)
}

// eachLine yields what parse makes of each line that is not empty.
func eachLine(r io.Reader, end byte, parse func([]byte) (Named, error)) rows {
	return func(yield func(Named, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, firstBlock), maxLine)
		lines.Split(splitAt(end))
		n := 0
		for lines.Scan() {
			n++
			line := lines.Bytes()
			if end == '\n' {
				line = bytes.TrimSuffix(line, []byte("\r"))
			}
			if len(line) == 0 {
				continue
			}
			named, err := parse(line)
			if err != nil {
				yield(Named{}, lineError(n, err))
				return
			}
			if !yield(named, nil) {
				return
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield(Named{}, lineError(n+1, errTooLong))
		} else if err != nil {
			yield(Named{}, fmt.Errorf("read manifest after line %d: %w", n, err))
		}
	}
}

var errTooLong = fmt.Errorf("it is longer than %d bytes", maxLine)

func lineError(n int, err error) error { return fmt.Errorf("%w: line %d: %w", ErrManifest, n, err) }

func splitAt(end byte) bufio.SplitFunc {
	return func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, end); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	}
}

func csvRows(br *bufio.Reader, columns []string) rows {
	return func(yield func(Named, error) bool) {
		limit := &recordLimit{r: br}
		reader := csv.NewReader(limit)
		reader.ReuseRecord = true
		var header *csvHeader
		for {
			limit.left = maxLine
			row, err := reader.Read()
			if errors.Is(err, io.EOF) && header != nil {
				return
			}
			if err != nil {
				yield(Named{}, csvError(reader, err))
				return
			}
			if header == nil {
				if header, err = newCSVHeader(row, columns); err != nil {
					yield(Named{}, lineError(1, err))
					return
				}
				continue
			}
			named, err := header.row(reader, row)
			if !yield(named, err) || err != nil {
				return
			}
		}
	}
}

// csvHeader says where things are in the rows of a CSV manifest.
type csvHeader struct {
	key     int
	columns []string
	at      []int // of columns
}

// maxNamed bounds how many columns an error names.
const maxNamed = 50

func newCSVHeader(row, columns []string) (*csvHeader, error) {
	h := &csvHeader{columns: columns}
	find := func(name string) (int, error) {
		i := slices.Index(row, name)
		switch {
		case i < 0:
			return 0, fmt.Errorf("no column is named %q; there are %.100q", name, row[:min(len(row), maxNamed)])
		case slices.Contains(row[i+1:], name):
			return 0, fmt.Errorf("more than one column is named %q", name)
		}
		return i, nil
	}
	if slices.ContainsFunc(row, func(name string) bool { return strings.Contains(name, "\r") }) {
		return nil, errors.New("its lines end with a carriage return alone, so all of it would be the header; save it with the line ends of Windows or Unix")
	}
	var err error
	if h.key, err = find("key"); err != nil {
		return nil, err
	}
	for _, name := range columns {
		i, err := find(name)
		if err != nil {
			return nil, err
		}
		h.at = append(h.at, i)
	}
	return h, nil
}

// row reads a row; an error names its line.
func (h *csvHeader) row(reader *csv.Reader, row []string) (Named, error) {
	bad := func(column int, err error) (Named, error) {
		line, _ := reader.FieldPos(column)
		return Named{}, lineError(line, err)
	}
	key, err := csvKey(row[h.key])
	if err != nil {
		return bad(h.key, err)
	}
	var c columnTexts
	for i, at := range h.at {
		if err := c.add(h.columns[i], row[at]); err != nil {
			return bad(at, err)
		}
	}
	return Named{Key: key, Columns: c.texts}, nil
}

func csvKey(text string) (archive.Key, error) {
	if !utf8.ValidString(text) {
		return "", errors.New("it is not UTF-8; write such keys in their escaped form")
	}
	return archive.ParseKeyText(text)
}

func csvError(reader *csv.Reader, err error) error {
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad):
		return lineError(bad.Line, bad.Err)
	case errors.Is(err, errTooLong):
		return fmt.Errorf("%w: the record after byte %d: %w", ErrManifest, reader.InputOffset(), err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf(`%w: it has no header with a column "key"`, ErrManifest)
	}
	return fmt.Errorf("read manifest: %w", err)
}

// recordLimit bounds what is read for one record: a quote that is never closed would take in the rest of the manifest.
type recordLimit struct {
	r    io.Reader
	left int
}

func (l *recordLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
