package systemtest

import (
	"os/exec"
	"strings"
	"testing"
)

// TestNotices: the licences of all that is linked are in the notices.
func TestNotices(t *testing.T) {
	notices := readText(t, "../../THIRD_PARTY_NOTICES.md")
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}| {{.Path}} | {{.Version}} |{{end}}", "./producer", "./worker", "./dashboard")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "| "+strings.TrimSuffix(module, "/")+" |") && !strings.Contains(notices, line) {
			t.Fatalf("not in THIRD_PARTY_NOTICES.md: %s; run: go run ./.ci/notices > THIRD_PARTY_NOTICES.md", line)
		}
	}
}
