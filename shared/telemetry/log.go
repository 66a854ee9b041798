package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/term"
)

// Format is how a log is written.
type Format string

// Formats of a log.
const (
	FormatAuto Format = "auto" // text on a terminal, JSON otherwise
	FormatText Format = "text"
	FormatJSON Format = "json"
)

// NewLog returns a logger that writes records of at least this level (nil is Info) to w, one line each; FormatAuto
// stands for an unknown format too. Nothing in a line can reach a terminal as a control character, whatever the
// names of files that are logged hold: text is quoted, JSON is escaped. Records carry the trace and span of their context.
func NewLog(w io.Writer, level slog.Leveler, format Format) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler
	if format == FormatText || format != FormatJSON && isTerminal(w) {
		// It quotes everything that is not printable.
		h = slog.NewTextHandler(w, o)
	} else {
		h = slog.NewJSONHandler(printable{w}, o)
	}
	return slog.New(traced{h})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printable writes lines of JSON with every rune that is not printable as \uXXXX, which is the same JSON: encoding/json
// leaves DEL, the C1 controls and marks that turn the direction of text as they are. Such runes stand in strings only,
// and a handler writes whole lines.
type printable struct{ w io.Writer }

func (p printable) Write(line []byte) (int, error) {
	if _, err := p.w.Write(escapeJSON(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

func escapeJSON(line []byte) []byte {
	if !bytes.ContainsFunc(line, notShown) {
		return line
	}
	out := make([]byte, 0, len(line)+32)
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		switch high, low := utf16.EncodeRune(r); {
		case !notShown(r):
			out = append(out, line[:n]...)
		case high != unicode.ReplacementChar:
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		line = line[n:]
	}
	return out
}

func notShown(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// traced adds trace_id and span_id to records whose context has a span.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }
