package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
)

func environment(m map[string]string) func(string) string {
	return func(name string) string { return m[name] }
}

func TestParse(t *testing.T) {
	valid := map[string]string{
		"RESHELF_REDIS": "redis://host", "RESHELF_LEDGER": "file:///srv/ledger", "RESHELF_ROOT": "file:///a, s3://bucket/b",
		"RESHELF_POOL": "default,nas", "RESHELF_SLOTS": "3", "RESHELF_STRICT": "true", "RESHELF_LOG_LEVEL": "debug", "RESHELF_LISTEN": ":8081",
	}
	s, err := parse([]string{"--slots", "5", "--listen", ""}, environment(valid), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.redis != "redis://host" || s.ledger.Path() != "/srv/ledger" || len(s.roots) != 2 || len(s.pools) != 2 || !s.strict || s.level != slog.LevelDebug {
		t.Errorf("by the environment: got %+v", s)
	}
	if s.slots != 5 || s.listen != "" {
		t.Errorf("a flag wins: got %d slots and address %q, want 5 and none", s.slots, s.listen)
	}
	if s.prefix != "reshelf" {
		t.Errorf("by default: got prefix %q, want reshelf", s.prefix)
	}
	for want, args := range map[string][]string{
		"--slots": {"--slots", "many"}, "--scratch-mib": {"--scratch-mib", "-5"}, "--strict": {"--strict", "perhaps"}, "--log-level": {"--log-level", "loud"}, "--root": {"--root", "nowhere"},
		"--redis is required": {"--redis", ""}, "--ledger": {"--ledger", ""}, "unexpected argument": {"file:///a"},
	} {
		if _, err := parse(args, environment(valid), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to hold %q", args, err, want)
		}
	}
}

// TestUsageHoldsNoSecrets: what a command line is refused with goes to logs.
func TestUsageHoldsNoSecrets(t *testing.T) {
	env := environment(map[string]string{
		"RESHELF_REDIS": "redis://:geheim@host", "RESHELF_LEDGER": "s3://key:geheim@bucket", "RESHELF_ROOT": "s3://bucket?secret=geheim",
	})
	for _, args := range [][]string{{"--help"}, {"--no-such-flag"}, nil, {"s3://key:geheim@bucket"}, {"--root", "s3://bucket?geheim=geheim&geheim"}} {
		var out bytes.Buffer
		run(t.Context(), args, env, &out)
		if out.Len() == 0 || strings.Contains(out.String(), "geheim") {
			t.Errorf("%q: got %s", args, out.String())
		}
	}
}
