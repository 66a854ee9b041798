package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/telemetry"
)

// hostile clears a screen, sets a title, turns the direction of text, and is not UTF-8.
const hostile = "\x1b[2J\x9b31m\u009b31m\x7f\u202egpj.\u2066a\nb\r\x00\xff\\ \U000e0041é日本"

type entry struct{ Name string }

func logHostile(log *slog.Logger) {
	log.With("with"+hostile, hostile).WithGroup("g"+hostile).Info(hostile,
		"string", hostile, "key", archive.Key(hostile), "error", errors.New(hostile), "struct", entry{hostile},
		"list", []string{hostile}, "bytes", []byte(hostile), hostile, 1)
}

func TestLogIsSafeForTerminals(t *testing.T) {
	for _, format := range []telemetry.Format{telemetry.FormatText, telemetry.FormatJSON, telemetry.FormatAuto} {
		t.Run(string(format), func(t *testing.T) {
			var out bytes.Buffer
			logHostile(telemetry.NewLog(&out, nil, format))
			line, ok := strings.CutSuffix(out.String(), "\n")
			if !ok || !utf8.ValidString(line) {
				t.Errorf("got %q, want one line of UTF-8", out.String())
			}
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("the line holds %q", line[i:min(len(line), i+8)])
			}
			if !strings.Contains(line, "日本") {
				t.Error("printable text was escaped")
			}
		})
	}
}

func TestLogJSONKeepsItsMeaning(t *testing.T) {
	var out bytes.Buffer
	value := strings.ToValidUTF8(hostile, "?")
	telemetry.NewLog(&out, nil, telemetry.FormatJSON).Info("m", "k", value)
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got["k"] != value {
		t.Errorf("got %q, want %q", got["k"], value)
	}
}

func TestLogLevelAndTrace(t *testing.T) {
	var out bytes.Buffer
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	log := telemetry.NewLog(&out, slog.LevelWarn, telemetry.FormatText).With("a", 1)
	log.InfoContext(ctx, "quiet")
	log.WarnContext(ctx, "loud")
	got := out.String()
	if strings.Contains(got, "quiet") || !strings.Contains(got, "loud") {
		t.Errorf("level warn: got %s", got)
	}
	if want := "a=1 trace_id=" + span.TraceID().String() + " span_id=" + span.SpanID().String(); !strings.Contains(got, want) {
		t.Errorf("got %s, want it to hold %s", got, want)
	}
}

func FuzzLogJSON(f *testing.F) {
	f.Add(hostile)
	f.Add("plain")
	f.Fuzz(func(t *testing.T, s string) {
		var out bytes.Buffer
		telemetry.NewLog(&out, nil, telemetry.FormatJSON).Info(s, "k", s)
		var got map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%v: %q", err, out.Bytes())
		}
		if utf8.ValidString(s) && got["k"] != s {
			t.Fatalf("got %q, want %q", got["k"], s)
		}
		if i := strings.IndexFunc(strings.TrimSuffix(out.String(), "\n"), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Fatalf("not printable at %d: %q", i, out.String())
		}
	})
}
