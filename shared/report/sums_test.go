package report_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/report"
)

var oddNames = []archive.Key{
	"plain.jpg", "-", "-x", "with space", " leading", `back\slash`, "line\nfeed", "carriage\rreturn", "caf\xe9", "*star",
	`\n literal`, "#comment", "trailing\r", "dir/- x",
}

func writeSums(t testing.TB, a digest.Algorithm, records ...batch.Record) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := report.NewSumWriter(&buf, a)
	for _, r := range records {
		check(t, w.Add(r))
	}
	check(t, w.Close())
	return buf.Bytes()
}

func TestSumsRoundTrip(t *testing.T) {
	for _, format := range report.SumFormats() {
		t.Run(format, func(t *testing.T) {
			a, err := report.ParseSumFormat(format)
			check(t, err)
			var records []batch.Record
			for i, key := range oddNames {
				records = append(records, batch.Record{Object: archive.Object{Key: key}, Outcome: batch.Done, Digests: []digest.Digest{sum(t, a, byte(i))}})
			}
			n := 0
			for s, err := range report.Sums(bytes.NewReader(writeSums(t, a, records...)), a) {
				check(t, err)
				if got, want := s, (report.Sum{Digest: records[n].Digests[0], Key: oddNames[n]}); got != want {
					t.Errorf("line %d: got %s %q, want %s %q", n, got.Digest, got.Key, want.Digest, want.Key)
				}
				n++
			}
			if n != len(oddNames) {
				t.Errorf("%d lines, want %d", n, len(oddNames))
			}
		})
	}
	if _, err := report.ParseSumFormat("crc32sum"); !errors.Is(err, report.ErrSums) {
		t.Errorf("crc32sum: got %v, want ErrSums", err)
	}
}

func TestSumsChooseRecords(t *testing.T) {
	d := []digest.Digest{sum(t, digest.SHA256, 1)}
	var buf bytes.Buffer
	w := report.NewSumWriter(&buf, digest.SHA256)
	for _, r := range []batch.Record{
		{Object: archive.Object{Key: "old"}, To: "new", Outcome: batch.Done, Digests: d},
		{Object: archive.Object{Key: "kept"}, Outcome: batch.Skipped, Reason: batch.ReasonUnchanged, Digests: d},
		{Object: archive.Object{Key: "stale"}, Outcome: batch.Skipped, Reason: batch.ReasonChanged, Digests: d},
		{Object: archive.Object{Key: "failed"}, Outcome: batch.Failed, Reason: batch.ReasonIO},
	} {
		check(t, w.Add(r))
	}
	check(t, w.Close())
	hex := d[0].Hex()
	if got, want := buf.String(), hex+"  new\n"+hex+"  kept\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if w.Rows() != 2 || w.Without() != 2 {
		t.Errorf("rows %d, without %d; want 2 and 2", w.Rows(), w.Without())
	}
}

// TestSumsAgainstCoreutils lets sha256sum check our list, and reads the list that sha256sum writes.
func TestSumsAgainstCoreutils(t *testing.T) {
	tool, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var records []batch.Record
	args := []string{"--"}
	want := map[archive.Key]string{}
	for _, key := range oddNames {
		path := filepath.Join(dir, string(key))
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
			t.Skipf("this file system does not take the name %q: %v", key, err)
		}
		content, _, err := digest.Sum(t.Context(), digest.Set(0).With(digest.SHA256), strings.NewReader(string(key)), make([]byte, 4096), nil)
		check(t, err)
		records = append(records, batch.Record{Object: archive.Object{Key: key}, Outcome: batch.Done, Digests: content})
		args = append(args, "./"+string(key))
		want[key] = content[0].Hex()
	}
	list := filepath.Join(t.TempDir(), "list")
	check(t, os.WriteFile(list, writeSums(t, digest.SHA256, records...), 0o600))
	cmd := exec.Command(tool, "--check", "--strict", "--quiet", list)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sha256sum --check: %v\n%s", err, out)
	}
	cmd = exec.Command(tool, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	check(t, err)
	for s, err := range report.Sums(bytes.NewReader(out), digest.SHA256) {
		check(t, err)
		if got := s.Digest.Hex(); got != want[s.Key] {
			t.Errorf("%q: got %s, want %s", s.Key, got, want[s.Key])
		}
		delete(want, s.Key)
	}
	if len(want) > 0 {
		t.Errorf("not read: %q", want)
	}
}

func TestSumsRefuse(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for name, text := range map[string]string{
		"outside":       hex + "  ../x\n",
		"absolute":      hex + "  /etc/passwd\n",
		"no name":       hex + "  \n",
		"one space":     hex + " x\n",
		"short digest":  hex[2:] + "  x\n",
		"no digits":     strings.Repeat("zz", 32) + "  x\n",
		"escape":        `\` + hex + `  a\x` + "\n",
		"escape at end": `\` + hex + `  a\` + "\n",
		"long line":     hex + "  " + strings.Repeat("x", 1<<20) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			var last error
			for _, err := range report.Sums(strings.NewReader("# ok\n\n"+hex+" *fine\r\n"+text), digest.SHA256) {
				last = err
			}
			if !errors.Is(last, report.ErrSums) || !strings.Contains(last.Error(), "line 4") {
				t.Errorf("got %v, want ErrSums that names line 4", last)
			}
		})
	}
}

func FuzzSums(f *testing.F) {
	hex := strings.Repeat("ab", 32)
	f.Add([]byte(hex + "  a\n\\" + hex + " *b\\\\c\\n\\r\r\n#x\n"))
	f.Add([]byte(hex + "  ./-\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for s, err := range report.Sums(bytes.NewReader(text), digest.SHA256) {
			if err != nil {
				return
			}
			if _, err := archive.ParseKey(string(s.Key)); err != nil {
				t.Fatalf("read a key that is none: %v", err)
			}
			list := writeSums(t, digest.SHA256, batch.Record{Object: archive.Object{Key: s.Key}, Digests: []digest.Digest{s.Digest}})
			for again, err := range report.Sums(bytes.NewReader(list), digest.SHA256) {
				if err != nil || again != s {
					t.Fatalf("wrote %q; read back %q, %v", s.Key, again.Key, err)
				}
			}
		}
	})
}
