package keeper_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// All that spares a known ExifTool work is in use. That it does not change answers is shown by the corpus test of package exiftool.
func TestFasterTaken(t *testing.T) {
	faster, err := filepath.Abs("faster.pl")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.pl")
	text := "require '" + faster + "'; END { print join(' ', 'taken:', @Reshelf::Faster::taken), \"\\n\" } 1;\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "exiftool", "-config", config, "-ver").CombinedOutput()
	if err != nil {
		t.Fatalf("exiftool: %v: %s", err, out)
	}
	version, taken, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	want := map[string]string{ // all others are left as they are
		"12.57": " group sorted description composite condition conversion plain numbers json",
		"13.59": " group sorted description composite condition conversion absent module plain numbers json",
	}[version]
	if taken != "taken:"+want {
		t.Errorf("ExifTool %s: got %q, want %q", version, taken, want)
	}
}
