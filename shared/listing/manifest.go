package listing

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
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

// ReadManifest yields the keys of a manifest in the order in which they stand there. Empty lines are passed over; raw keys
// may begin with "./". An error names its line and ends the sequence. Memory is bounded by 16 MiB, which is also
// the most that a line may have.
func ReadManifest(r io.Reader, format Format) iter.Seq2[archive.Key, error] {
	return func(yield func(archive.Key, error) bool) {
		br := bufio.NewReaderSize(r, firstBlock)
		head, err := br.Peek(firstBlock)
		if err != nil && !errors.Is(err, io.EOF) {
			yield("", fmt.Errorf("read manifest: %w", err))
			return
		}
		if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
			yield("", fmt.Errorf("%w: it is UTF-16; save it as UTF-8", ErrManifest))
			return
		}
		if bom := []byte("\ufeff"); bytes.HasPrefix(head, bom) {
			head = head[len(bom):]
			_, _ = br.Discard(len(bom)) // it was peeked at
		}
		if format == FormatAuto {
			format = detect(head)
		}
		reader, ok := map[Format]func(*bufio.Reader) iter.Seq2[archive.Key, error]{
			FormatJSONL: jsonlKeys, FormatCSV: csvKeys, FormatLines: lineKeys, FormatNUL: nulKeys,
		}[format]
		if !ok {
			yield("", fmt.Errorf("%w: unknown format %q; want one of %v", ErrManifest, format, Formats()))
			return
		}
		for key, err := range reader(br) {
			if !yield(key, err) || err != nil {
				return
			}
		}
	}
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

func jsonlKeys(br *bufio.Reader) iter.Seq2[archive.Key, error] {
	return eachLine(br, '\n', func(line []byte) (archive.Key, error) {
		// The JSON package would replace what is not UTF-8, and so name another object.
		if !utf8.Valid(line) {
			return "", errors.New("it is not UTF-8; write such keys in their escaped form")
		}
		var row struct {
			Key *string `json:"key"`
		}
		if err := json.Unmarshal(line, &row); err != nil {
			return "", err
		}
		if row.Key == nil {
			return "", errors.New(`it has no "key"`)
		}
		return archive.ParseKeyText(*row.Key)
	})
}

func lineKeys(br *bufio.Reader) iter.Seq2[archive.Key, error] { return eachLine(br, '\n', rawKey) }

func nulKeys(br *bufio.Reader) iter.Seq2[archive.Key, error] { return eachLine(br, 0, rawKey) }

func rawKey(line []byte) (archive.Key, error) {
	key := strings.TrimPrefix(string(line), "./") // find . writes that
	if strings.HasPrefix(key, "/") {
		return "", fmt.Errorf("%w %q: keys are relative to the archive", archive.ErrKey, archive.EscapeText(key))
	}
	return archive.ParseKey(key)
}

// eachLine yields what parse makes of each line that is not empty.
func eachLine(r io.Reader, end byte, parse func([]byte) (archive.Key, error)) iter.Seq2[archive.Key, error] {
	return func(yield func(archive.Key, error) bool) {
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
			key, err := parse(line)
			if err != nil {
				yield("", lineError(n, err))
				return
			}
			if !yield(key, nil) {
				return
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield("", lineError(n+1, errTooLong))
		} else if err != nil {
			yield("", fmt.Errorf("read manifest after line %d: %w", n, err))
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

func csvKeys(br *bufio.Reader) iter.Seq2[archive.Key, error] {
	return func(yield func(archive.Key, error) bool) {
		limit := &recordLimit{r: br}
		rows := csv.NewReader(limit)
		rows.ReuseRecord = true
		column := -1
		for {
			limit.left = maxLine
			row, err := rows.Read()
			if errors.Is(err, io.EOF) && column >= 0 {
				return
			}
			if err != nil {
				yield("", csvError(rows, err))
				return
			}
			if column < 0 {
				if column = slices.Index(row, "key"); column < 0 {
					yield("", lineError(1, fmt.Errorf(`no column is named "key"; there are %q`, row)))
					return
				}
				continue
			}
			key, err := csvKey(rows, row[column], column)
			if !yield(key, err) || err != nil {
				return
			}
		}
	}
}

func csvKey(rows *csv.Reader, text string, column int) (archive.Key, error) {
	err := error(nil)
	if !utf8.ValidString(text) {
		err = errors.New("it is not UTF-8; write such keys in their escaped form")
	}
	key := archive.Key("")
	if err == nil {
		key, err = archive.ParseKeyText(text)
	}
	if err != nil {
		line, _ := rows.FieldPos(column)
		return "", lineError(line, err)
	}
	return key, nil
}

func csvError(rows *csv.Reader, err error) error {
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad):
		return lineError(bad.Line, bad.Err)
	case errors.Is(err, errTooLong):
		return fmt.Errorf("%w: the record after byte %d: %w", ErrManifest, rows.InputOffset(), err)
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
