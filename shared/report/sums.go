package report

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
)

// ErrSums is wrapped by every error about the text of a checksum list.
var ErrSums = errors.New("invalid checksum list")

// SumFormats are the names of the checksum lists that can be written, each the program that checks it.
func SumFormats() []string { return []string{"md5sum", "sha1sum", "sha256sum", "sha512sum", "b3sum"} }

// ParseSumFormat returns the algorithm of a format of SumFormats.
func ParseSumFormat(name string) (digest.Algorithm, error) {
	if !slices.Contains(SumFormats(), name) {
		return 0, fmt.Errorf("%w: unknown format %q; want one of %s", ErrSums, name, strings.Join(SumFormats(), ", "))
	}
	if name == "b3sum" {
		return digest.BLAKE3, nil
	}
	return digest.ParseAlgorithm(strings.TrimSuffix(name, "sum"))
}

// SumWriter writes a checksum list as GNU coreutils does, one "digest  name" a line with the raw bytes of the name, to
// be checked with `sha256sum -c` in the archive's root. A name with a backslash, line feed or carriage return is escaped
// and its line starts with a backslash.
// Source: https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html
type SumWriter struct {
	w         *bufio.Writer
	algorithm digest.Algorithm
	rows      int64
	without   int64
}

// NewSumWriter starts a list on w. Close it.
func NewSumWriter(w io.Writer, a digest.Algorithm) *SumWriter {
	return &SumWriter{w: bufio.NewWriter(w), algorithm: a}
}

// Add writes a line under the key that the object has now. A record without a digest of the list's algorithm that still
// stands for the object's content is only counted.
func (w *SumWriter) Add(r batch.Record) error {
	d, ok := Digest(r, w.algorithm)
	if !ok {
		w.without++
		return nil
	}
	w.rows++
	if _, err := w.w.WriteString(sumLine(Sum{Digest: d, Key: CurrentKey(r)})); err != nil {
		return fmt.Errorf("checksum list: %w", err)
	}
	return nil
}

// Rows is the number of lines written.
func (w *SumWriter) Rows() int64 { return w.rows }

// Without is the number of records that had no digest to write.
func (w *SumWriter) Without() int64 { return w.without }

// Close writes what is buffered. It does not close the underlying writer.
func (w *SumWriter) Close() error {
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("checksum list: %w", err)
	}
	return nil
}

func sumLine(s Sum) string {
	name := string(s.Key)
	if name == "-" {
		name = "./-" // "-" alone is standard input to the programs that check
	}
	mark := ""
	if strings.ContainsAny(name, "\\\n\r") {
		mark, name = `\`, strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
	}
	return mark + s.Digest.Hex() + "  " + name + "\n"
}

// Sum is one line of a checksum list.
type Sum struct {
	Digest digest.Digest
	Key    archive.Key
}

// maxSumLine bounds a line in bytes: the longest digest, marks, and a name of which every byte is escaped.
const maxSumLine = 2*archive.MaxKeyBytes + 256

// Sums yields the lines of a checksum list, in order. It reads what GNU coreutils and SumWriter write, with either case
// of digits, text or binary marks, and lines ended by LF or CR LF; empty lines and lines that start with # are left out.
// A name that is not a key below the archive's root is an error. The first error ends it and names its line.
func Sums(r io.Reader, a digest.Algorithm) iter.Seq2[Sum, error] {
	return func(yield func(Sum, error) bool) {
		sc := bufio.NewScanner(r)
		sc.Buffer(nil, maxSumLine)
		n := 0
		for sc.Scan() {
			n++
			line := sc.Text()
			if line == "" || line[0] == '#' {
				continue
			}
			s, err := parseSum(line, a)
			if err != nil {
				err = fmt.Errorf("line %d: %w", n, err)
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
		if err := sc.Err(); err != nil {
			yield(Sum{}, fmt.Errorf("%w: line %d: %w", ErrSums, n+1, err))
		}
	}
}

func parseSum(line string, a digest.Algorithm) (Sum, error) {
	line, escaped := strings.CutPrefix(line, `\`)
	digits := 2 * a.Size()
	if len(line) < digits+3 || line[digits] != ' ' || line[digits+1] != ' ' && line[digits+1] != '*' {
		return Sum{}, fmt.Errorf("%w: want %d hexadecimal digits of %s, two spaces and a name", ErrSums, digits, a)
	}
	raw, err := hex.DecodeString(line[:digits])
	if err != nil {
		return Sum{}, fmt.Errorf("%w: %w", ErrSums, err)
	}
	d, err := digest.New(a, raw)
	if err != nil {
		return Sum{}, fmt.Errorf("%w: %w", ErrSums, err)
	}
	name := line[digits+2:]
	if escaped {
		if name, err = unescapeSum(name); err != nil {
			return Sum{}, err
		}
	}
	key, err := archive.ParseKey(strings.TrimPrefix(name, "./"))
	if err != nil {
		return Sum{}, fmt.Errorf("%w: %w", ErrSums, err)
	}
	return Sum{Digest: d, Key: key}, nil
}

func unescapeSum(name string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			b.WriteByte(name[i])
			continue
		}
		i++
		switch {
		case i < len(name) && name[i] == '\\':
			b.WriteByte('\\')
		case i < len(name) && name[i] == 'n':
			b.WriteByte('\n')
		case i < len(name) && name[i] == 'r':
			b.WriteByte('\r')
		default:
			return "", fmt.Errorf(`%w: unknown escape in the name; want \\, \n or \r`, ErrSums)
		}
	}
	return b.String(), nil
}
