package exiftool_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// standIn is an ExifTool that does what the extension of the file says, and otherwise answers with the file's content as
// its title.
const standIn = `#!/usr/bin/perl
$| = 1;
my @args;
while (defined(my $line = <STDIN>)) {
  chomp $line;
  if ($line =~ /^-execute(\d*)$/) { execute($1, @args); @args = (); } else { push @args, $line; }
}
sleep 3600;
sub execute {
  my ($n, @args) = @_;
  my $echo = '';
  if (@args > 1 && $args[-2] eq '-echo4') { $echo = "$args[-1]\n"; splice @args, -2; }
  if ($args[0] eq '-ver') { print "12.57\n"; return ready($n, $echo); }
  my $file = $args[-1];
  my ($ext) = $file =~ /\.([^.]*)$/;
  my $again = -e "$0.again";
  if ($ext =~ s/once$// ) { if ($again) { $ext = '' } else { open my $f, '>', "$0.again"; rename "$0.seed", "$0.again" } }
  my $title = do { local (@ARGV, $/) = ($file); <> };
  my $answer = qq([{\n  "SourceFile": "$file",\n  "File:FileType": "GIF",\n  "XMP-dc:Title": "$title"\n}]\n);
  $answer = qq([{\n  "SourceFile": "$file",\n  "FileType": "GIF"\n}]\n) if $file =~ /sample/;
  if ($ext eq 'die') { exit 3 }
  if ($ext eq 'outofmemory') { print STDERR "Out of memory!\n"; kill 'KILL', $$ }
  if ($ext eq 'hang') { sleep 3600 }
  if ($ext eq 'nothing') { return ready($n, $echo) }
  if ($ext eq 'garbage') { $answer = "\0\xff garbage {ready} \n" }
  if ($ext eq 'empty') { $answer = "[]\n" }
  if ($ext eq 'two') { $answer =~ s/\}\]\n$/},{}]\n/ }
  if ($ext eq 'half') { $answer = substr($answer, 0, 20); print $answer; exit 0 }
  if ($ext eq 'halfready') { $answer = substr($answer, 0, 20) . "\n" }
  if ($ext eq 'other') { $answer =~ s/"SourceFile": "[^"]*"/"SourceFile": "\/other.jpg"/ }
  if ($ext eq 'shifted') { print $answer; return ready($n - 1, $echo) }
  if ($ext eq 'doubled') { print $answer; print "{ready$n}\n"; print STDERR $echo }
  if ($ext eq 'huge') { print 'x' x 100000 while 1 }
  if ($ext eq 'large') { $title = 'x' x 3000000; $answer =~ s/"GIF"/"$title"/ }
  if ($ext eq 'noise') { print STDERR "noise number $_ about $file\n" for 1..20000 }
  if ($ext eq 'noend') { print STDERR 'x' x 10000 }
  if ($ext eq 'words') { print STDERR "Warning: doubtful - $file\n" }
  if ($ext eq 'dieafter') { print $answer; ready($n, $echo); exit 1 }
  print $answer; ready($n, $echo);
}
sub ready { my ($n, $echo) = @_; print STDERR $echo; print "{ready$n}\n" }
`

// newStandIn installs the stand-in. Files whose extension ends in "once" find it misbehaving only the first time: it may
// write no files, so it renames one that is there.
func newStandIn(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "exiftool")
	write(t, path+".seed", "")
	write(t, path+".tmp", standIn)
	if err := os.Chmod(path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func short(int64, batch.Level) time.Duration { return 500 * time.Millisecond }

func TestStandIn(t *testing.T) {
	tests := []struct {
		ext     string
		want    batch.Reason
		message string // part of FaultMessage
		warning string // part of the first warning
	}{
		{ext: "fine"},
		{ext: "die", want: batch.ReasonCrashed, message: "exit status 3"},
		{ext: "dieonce"},
		{ext: "outofmemory", want: batch.ReasonCrashed, message: "signal: killed: Out of memory!"},
		{ext: "hang", want: batch.ReasonTimeout, message: "1.5s"},
		{ext: "hangonce"},
		{ext: "nothing", want: batch.ReasonUnreadable},
		{ext: "garbage", want: batch.ReasonCrashed, message: "not the answer"},
		{ext: "garbageonce"},
		{ext: "empty", want: batch.ReasonCrashed, message: "0 files"},
		{ext: "two", want: batch.ReasonCrashed, message: "2 files"},
		{ext: "half", want: batch.ReasonCrashed, message: "exit status 0"},
		{ext: "halfready", want: batch.ReasonCrashed, message: "not the answer"},
		{ext: "other", want: batch.ReasonCrashed, message: "/other.jpg"},
		{ext: "shifted", want: batch.ReasonTimeout},
		{ext: "huge", want: batch.ReasonTooLarge},
		{ext: "large", want: batch.ReasonTooLarge},
		{ext: "noise", warning: "noise number 1 about the file"},
		{ext: "noend", warning: "xxxxx"},
		{ext: "words", warning: "Warning: doubtful"},
		{ext: "dieafter"},
	}
	for _, tt := range tests {
		t.Run(tt.ext, func(t *testing.T) {
			p := newPool(t, exiftool.Options{Binary: newStandIn(t), Deadline: short, MaxAnswer: 1 << 20})
			dir := t.TempDir()
			bad := write(t, filepath.Join(dir, "a."+tt.ext), "bad")
			good := write(t, filepath.Join(dir, "a.good"), "good")
			r := read(t, p, batch.LevelNormal, bad)
			if r.Fault != tt.want || !strings.Contains(r.FaultMessage, tt.message) {
				t.Errorf("Fault: got %q (%s), want %q (%s)", r.Fault, r.FaultMessage, tt.want, tt.message)
			}
			if got := text(r.Tags, "XMP-dc:Title"); tt.want == "" && got != "bad" {
				t.Errorf("title: got %q, want bad", got)
			}
			if got := strings.Join(append(r.Warnings, ""), "\n"); !strings.HasPrefix(got, tt.warning) || tt.warning == "" && got != "" && tt.want == "" {
				t.Errorf("warnings: got %.80q, want %q", got, tt.warning)
			}
			for range 2 {
				r := read(t, p, batch.LevelNormal, good)
				if got := text(r.Tags, "XMP-dc:Title"); got != "good" || r.Fault != "" || len(r.Warnings) > 0 {
					t.Errorf("the next file: got title %q, fault %q (%s), warnings %q", got, r.Fault, r.FaultMessage, r.Warnings)
				}
			}
		})
	}
}

// An answer with a second one behind it is taken or refused, as the bytes come; either way the next file's is its own.
func TestSurplusAnswer(t *testing.T) {
	p := newPool(t, exiftool.Options{Binary: newStandIn(t), Deadline: short})
	dir := t.TempDir()
	for range 5 {
		read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, "a.doubled"), "bad"))
		r := read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, "a.good"), "good"))
		if got := text(r.Tags, "XMP-dc:Title"); got != "good" {
			t.Errorf("the next file: got title %q, fault %q (%s)", got, r.Fault, r.FaultMessage)
		}
	}
}

// File after file that crashes ExifTool makes the pool unhealthy; one good file, or a look of Check's, heals it.
func TestCrashStorm(t *testing.T) {
	p := newPool(t, exiftool.Options{Binary: newStandIn(t), Deadline: short})
	dir := t.TempDir()
	bad, good := write(t, filepath.Join(dir, "a.die"), "bad"), write(t, filepath.Join(dir, "a.good"), "good")
	for range 9 {
		if r := read(t, p, batch.LevelNormal, bad); r.Fault != batch.ReasonCrashed {
			t.Fatalf("Fault: got %q, want crashed", r.Fault)
		}
	}
	if err := p.Check(t.Context()); err == nil {
		t.Error("Check after 9 crashes: got nil, want an error")
	}
	if r := read(t, p, batch.LevelNormal, good); r.Fault != "" {
		t.Errorf("a good file after 9 crashes: got %q (%s)", r.Fault, r.FaultMessage)
	}
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check after a good file: got %v, want nil", err)
	}
}

func TestLimitsAndEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("PERL5OPT", "-MNoSuchModule")
	p := newPool(t, exiftool.Options{Binary: newStandIn(t)})
	if _, err := p.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	one := p.Status().Processes[0]
	env := procFile(t, one.ExifTool, "environ")
	want := "PATH=" + os.Getenv("PATH") + "\x00HOME=/nonexistent\x00LC_ALL=C\x00PERL_HASH_SEED=0\x00PERL_PERTURB_KEYS=0\x00"
	if env != want {
		t.Errorf("environment: got %q, want %q", env, want)
	}
	arguments := strings.Split(procFile(t, one.ExifTool, "cmdline"), "\x00")[2:]
	if got, want := strings.Join(arguments, " "), "-config  -stay_open True -@ - "; got != want {
		t.Errorf("arguments: got %q, want %q", got, want)
	}
	for line, want := range map[string]string{
		"Max address space": "734003200 734003200 bytes", "Max core file size": "0 0 bytes",
		"Max file size": "0 0 bytes", "Max open files": "64 64 files",
	} {
		if got := procLine(t, one.ExifTool, "limits", line); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
	if got := procLine(t, one.ExifTool, "status", "NoNewPrivs:"); got != "1" {
		t.Errorf("NoNewPrivs: got %q, want 1", got)
	}
	for _, pid := range []int{one.Keeper, one.ExifTool} {
		if pgid, err := syscall.Getpgid(pid); err != nil || pgid != pid {
			t.Errorf("process group of %d: got %d, %v, want its own", pid, pgid, err)
		}
	}
}
