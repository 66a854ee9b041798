package systemtest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestPagesHoldNoSecrets looks for the secrets of both servers in what worker and dashboard serve while a batch runs and after it,
// in what they log, and in the headers of the objects that were renamed.
func TestPagesHoldNoSecrets(t *testing.T) {
	f := newFleetAt(t, programs, newPlace(t, 60, true, true))
	f.draw(f.files)
	f.start("w1", "--log-level", "debug")
	dashboard := f.spawn(f.bin.dashboard, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "--listen", "127.0.0.1:0", "--log-level", "debug")
	defer func() { _ = dashboard.cmd.Process.Kill(); <-dashboard.done }()
	pages, health := f.listens(dashboard), f.listens(f.workers["w1"])
	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "rename", f.archive.String(), template,
		"--on-conflict", "number", "--yes")
	served := map[string]string{}
	look := func(when string) {
		for _, path := range []string{
			"/", "/api/overview", "/metrics", "/readyz", "/livez", "/queues/", "/queues/api/queues", "/queues/api/servers", "/queues/api/redis_info",
			"/queues/api/queues/reshelf-default-normal/active_tasks", "/queues/api/queues/reshelf-default-normal/pending_tasks",
		} {
			served["dashboard "+path+" "+when] = f.get(pages + path)
		}
		for _, path := range []string{"/metrics", "/readyz", "/livez"} {
			served["worker "+path+" "+when] = f.get(health + path)
		}
	}
	f.wait(20*time.Second, "the batch on the page", func() bool {
		command.alive(t)
		return strings.Contains(f.get(pages+"/api/overview"), string(f.newest())) && f.newest() != ""
	})
	look("meanwhile")
	<-command.done
	f.wait(time.Minute, "the page to show that the batch is over", func() bool {
		return strings.Contains(f.get(pages+"/api/overview"), `"complete"`)
	})
	look("afterwards")
	served["dashboard's log"], served["worker's log"] = dashboard.out.String(), f.workers["w1"].out.String()
	served["archive's headers"] = f.server.Told(t, f.archive.Bucket())
	served["ledger's headers"] = f.ledgers.Told(t, f.ledger.Bucket())
	if !strings.Contains(served["archive's headers"], "X-Amz-Meta-Reshelf-Op") {
		t.Error("no object of the archive bears a mark: nothing was renamed, or headers were not looked at")
	}
	if metrics := served["worker /metrics afterwards"]; !strings.Contains(metrics, "reshelf_exiftool_wait_seconds_bucket") {
		t.Errorf("the worker's metrics hold no waits for ExifTool:\n%s", metrics)
	}
	for name, text := range served {
		if text == "" {
			t.Errorf("%s is empty", name)
		}
		for whose, secret := range map[string]string{"archive": f.server.SecretKey, "ledger": f.ledgers.SecretKey} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: the secret key of the server of the %s", name, whose)
			}
		}
	}
}

// listens waits until a program logs where it listens, and returns that as a URL.
func (f *fleet) listens(p *process) string {
	f.t.Helper()
	var at string
	f.wait(20*time.Second, "an address", func() bool {
		p.alive(f.t)
		for line := range strings.Lines(p.out.String()) {
			var said struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "listening" {
				at = "http://" + strings.TrimPrefix(said.Address, "http://")
			}
		}
		return at != ""
	})
	return at
}

// get is what is served at a URL.
func (f *fleet) get(url string) string {
	f.t.Helper()
	request, err := http.NewRequestWithContext(f.ctx(), http.MethodGet, url, nil)
	f.must(err)
	client := http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	answer, err := client.Do(request)
	f.must(err)
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound { // it may answer 503 before it is ready
		f.t.Errorf("%s: %s", url, answer.Status)
	}
	body, err := io.ReadAll(answer.Body)
	f.must(err)
	return string(body)
}
