package service_test

import (
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/service"
)

func TestParseFlags(t *testing.T) {
	tests := []struct {
		name        string
		args        []string
		environment string // of --log-level
		want        string
		err         string
	}{
		{"default", nil, "", "info", ""},
		{"variable", nil, "debug", "debug", ""},
		{"flag before variable", []string{"--log-level", "warn"}, "debug", "warn", ""},
		{"an empty flag before a variable", []string{"--log-level="}, "debug", "", ""},
		{"argument", []string{"s3://key:s3cret@host"}, "", "", "unexpected argument"},
		{"unknown flag", []string{"--log"}, "", "", "not defined"},
		{"bad variable", nil, "info", "info", "RESHELF_SLOTS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := flag.NewFlagSet("program", flag.ContinueOnError)
			f.SetOutput(io.Discard)
			level := f.String("log-level", "info", "")
			f.Int("slots", 1, "")
			err := service.ParseFlags(f, tt.args, func(name string) string {
				return map[string]string{"RESHELF_LOG_LEVEL": tt.environment, "RESHELF_SLOTS": map[bool]string{true: "many"}[tt.name == "bad variable"]}[name]
			})
			if tt.err == "" && (err != nil || *level != tt.want) {
				t.Errorf("got %q, %v, want %q", *level, err, tt.want)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("got %v, want %q and no secret", err, tt.err)
			}
		})
	}
}
