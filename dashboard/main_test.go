package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/queue/redistest"
)

func environment(m map[string]string) func(string) string {
	return func(name string) string { return m[name] }
}

func TestParse(t *testing.T) {
	valid := map[string]string{"RESHELF_REDIS": "redis://host:6379", "RESHELF_LEDGER": "file:///srv/reshelf"}
	with := func(more map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range []map[string]string{valid, more} {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want string // of the error
	}{
		{"by the environment", nil, valid, ""},
		{"by flags", []string{"--redis", "host", "--ledger", "file:///srv"}, nil, ""},
		{"a flag wins", []string{"--listen", "127.0.0.1:0"}, with(map[string]string{"RESHELF_LISTEN": "nonsense"}), ""},
		{"no redis", nil, map[string]string{"RESHELF_LEDGER": "file:///srv"}, "--redis is required"},
		{"bad redis", []string{"--redis", "http://host"}, valid, "--redis: invalid Redis address"},
		{"no ledger", nil, map[string]string{"RESHELF_REDIS": "host"}, "--ledger: invalid archive"},
		{"bad prefix", []string{"--prefix", "a-b"}, valid, "--prefix: invalid queue name"},
		{"bad level", []string{"--log-level", "loud"}, valid, "--log-level"},
		{"bad listen", []string{"--listen", "8080"}, valid, "--listen"},
		{"IPv6 loopback", []string{"--listen", "[::1]:8080"}, valid, ""},
		{"localhost", []string{"--listen", "localhost:8080"}, valid, ""},
		{"every address", []string{"--listen", ":8080"}, valid, "there is no login"},
		{"every address, IPv4", []string{"--listen", "0.0.0.0:8080"}, valid, "there is no login"},
		{"another address", []string{"--listen", "10.0.0.1:8080"}, valid, "there is no login"},
		{"a name", []string{"--listen", "nas:8080"}, valid, "there is no login"},
		{"allowed by a flag", []string{"--listen", ":8080", "--allow-remote"}, valid, ""},
		{"allowed by the environment", nil, with(map[string]string{"RESHELF_LISTEN": ":8080", "RESHELF_ALLOW_REMOTE": "true"}), ""},
		{"not allowed by the environment", nil, with(map[string]string{"RESHELF_LISTEN": ":8080", "RESHELF_ALLOW_REMOTE": "maybe"}), "RESHELF_ALLOW_REMOTE"},
		{"an argument", []string{"serve"}, valid, "unexpected argument"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(tt.args, environment(tt.env), io.Discard)
			if tt.want == "" && err != nil {
				t.Errorf("got error %v", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got error %v, want it to hold %q", err, tt.want)
			}
		})
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	s, err := parse([]string{"--redis", "redis://user@host", "--ledger", "file:///srv"}, environment(map[string]string{"RESHELF_REDIS_PASSWORD": "geheim"}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.redis.String(); strings.Contains(got, "geheim") || !strings.Contains(got, "xxxxx") {
		t.Errorf("got %q, want the password as xxxxx", got)
	}
}

// TestUsageHoldsNoSecrets: what a command line is refused with goes to logs.
func TestUsageHoldsNoSecrets(t *testing.T) {
	env := environment(map[string]string{"RESHELF_REDIS": "redis://:geheim@host", "RESHELF_LEDGER": "s3://key:geheim@bucket"})
	for _, args := range [][]string{{"--help"}, {"--no-such-flag"}, nil, {"s3://key:geheim@bucket"}, {"--ledger", "s3://bucket?geheim=geheim&geheim"}} {
		var out bytes.Buffer
		run(t.Context(), args, env, &out)
		if out.Len() == 0 || strings.Contains(out.String(), "geheim") {
			t.Errorf("%q: got %s", args, out.String())
		}
	}
}

func TestUsage(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, environment(nil), &out); code != 0 {
		t.Errorf("--help: got exit code %d", code)
	}
	for _, want := range []string{"-redis", "RESHELF_LEDGER", "-allow-remote", "127.0.0.1:8080"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("--help does not say %s", want)
		}
	}
	if code := run(t.Context(), nil, environment(nil), io.Discard); code != exitUsage {
		t.Errorf("no flags: got exit code %d, want %d", code, exitUsage)
	}
	missing := []string{"--redis", "127.0.0.1:1", "--ledger", "file://" + t.TempDir() + "/none"}
	if code := run(t.Context(), missing, environment(nil), io.Discard); code != exitNotRun {
		t.Errorf("no ledger: got exit code %d, want %d", code, exitNotRun)
	}
}

func TestRun(t *testing.T) {
	server := redistest.Start(t)
	before := goleak.IgnoreCurrent()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	logged, log := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--redis", server.URL(), "--ledger", "file://" + t.TempDir(), "--listen", "127.0.0.1:0"}, environment(nil), log)
		_ = log.Close()
	}()
	address, lines := listening(t, logged)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]string{
		"/": "<h1>", "/api/overview": `"inHand":0`, "/queues/": "Asynq", "/livez": "ok", "/metrics": "go_goroutines",
	} {
		if status, body := fetch(t, client, address+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %.200q, want 200 and %q", path, status, body, want)
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		if status, body := fetch(t, client, address+"/readyz"); status == http.StatusOK {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("never ready: %s", body)
		}
		<-time.After(20 * time.Millisecond)
	}
	stop()
	if got := <-code; got != 0 {
		t.Errorf("got exit code %d, want 0", got)
	}
	said := <-lines
	for _, part := range []string{"readiness", "http", "pages", "health", "clients", "telemetry"} {
		if !strings.Contains(said, `"msg":"stopped","part":"`+part+`"`) {
			t.Errorf("the log does not say that %s stopped:\n%s", part, said)
		}
	}
	goleak.VerifyNone(t, before)
}

// listening waits for the log to say where the pages are, and yields the rest of the log at its end.
func listening(t *testing.T, logged io.Reader) (address string, rest <-chan string) {
	t.Helper()
	scanner := bufio.NewScanner(logged)
	for scanner.Scan() {
		var line struct{ Msg, Address string }
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", scanner.Text(), err)
		}
		if line.Msg != "listening" {
			continue
		}
		out := make(chan string, 1)
		go func() {
			var all strings.Builder
			for scanner.Scan() {
				all.WriteString(scanner.Text() + "\n")
			}
			out <- all.String()
		}()
		return line.Address, out
	}
	t.Fatal("it ended before it listened")
	return "", nil
}

func fetch(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestPortTaken(t *testing.T) {
	server := redistest.Start(t)
	var out bytes.Buffer
	args := []string{"--redis", server.URL(), "--ledger", "file://" + t.TempDir(), "--listen", server.Addr()}
	if code := run(t.Context(), args, environment(nil), &out); code != exitNotRun {
		t.Errorf("got exit code %d, want %d", code, exitNotRun)
	}
	if !strings.Contains(out.String(), "listen on "+server.Addr()) {
		t.Errorf("got %s, want it to name the address", out.String())
	}
}
