package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestScriptsAreNotMisled holds what a script would otherwise get wrong.
func TestScriptsAreNotMisled(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2"})
	const away = "n/{name}{ext}"
	b.want(2, []string{"--pool other is for a fleet"}, "inspect", b.archive, "--pool", "other")
	b.want(4, []string{"ExifTool", "install it"}, "inspect", b.archive, "--exiftool", "/nonexistent/exiftool")
	b.want(3, []string{"rename   2 objects"}, "rename", b.archive, away)
	b.want(2, []string{"no digest of a plan"}, "apply", "last", "--plan", "")
	b.want(2, []string{"no digest of a plan"}, "apply", "last", "--plan", "not-hexadecimal")
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(b.archive, "d/1.txt"), later, later); err != nil {
		t.Fatal(err)
	}
	b.want(0, []string{"changed", "1 object renamed"}, "apply", "last")
	b.want(4, []string{"md5sum needs the digest md5"}, "report", "last", "--format", "md5sum")
	b.want(0, []string{"complete already"}, "resume", "last")
	// What was never renamed is not missing, and an undo of the undo can be undone again.
	b.want(0, []string{"rename back  1 object", "1 unchanged"}, "undo", "last", "--yes")
	b.want(4, []string{"no batch in this ledger renamed anything"}, "undo", "last", "--yes")
	var undo struct{ ID string }
	list := b.want(0, nil, "list", "--json")
	if err := json.Unmarshal([]byte(strings.SplitN(list.stdout, "\n", 2)[0]), &undo); err != nil {
		t.Fatal(err)
	}
	b.want(0, []string{"renamed back"}, "undo", undo.ID, "--yes")
	if _, err := os.Stat(filepath.Join(b.archive, "n/2.txt")); err != nil {
		t.Fatal(err)
	}
	b.want(0, []string{"rename back  1 object"}, "undo", "last", "--yes")
	if _, err := os.Stat(filepath.Join(b.archive, "d/2.txt")); err != nil {
		t.Error(err)
	}
}
