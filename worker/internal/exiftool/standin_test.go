package exiftool_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// standIn is an ExifTool that does what the extension of the file says, and otherwise answers with the file's content as
// its title.
const standIn = `#!/usr/bin/perl
use Fcntl;
use Socket;
use Errno;
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
  if ($ext =~ s/once$//) { my $token; sysopen my $f, "$0.tokens", O_RDONLY|O_NONBLOCK; $ext = '' unless sysread $f, $token, 1 }
  my $title = do { local (@ARGV, $/) = ($file); <> };
  my $answer = qq([{\n  "SourceFile": "$file",\n  "File:FileType": "GIF",\n  "XMP-dc:Title": "$title"\n}]\n);
  $answer = qq([{\n  "SourceFile": "$file",\n  "FileType": "GIF"\n}]\n) if $file =~ /sample/;
  if ($ext eq 'args') { my $all = join ' ', @args; $answer =~ s/"GIF"/"$all"/ }
  if ($ext eq 'attack') { do $ARGV[1]; my $done = attack(split ' ', $title); $answer =~ s/"GIF"/"$done"/ }
  if ($ext =~ /^ask/) {
    my %ask = (askgarbage => "what\n", askendless => 'x' x 1000, askoutside => "0 99999999\n");
    open my $q, '>&=', 4; open my $a, '<&=', 5;
    do { syswrite $q, $ask{$ext} || "0 10\n"; sysread $a, my $text, 64 } while $ext eq 'askforever';
    exit 3 if $ext eq 'askdie';
  }
  $answer =~ s/\0//g if $file =~ m{/paged/}; # as an ExifTool does that reads zeros
  if ($ext eq 'die') { exit 3 }
  if ($ext eq 'patricide') { kill 'KILL', getppid; sleep 3600 }
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
  if ($ext eq 'shout') { print STDERR 'x' x 100000 while 1 }
  if ($ext eq 'words') { print STDERR "Warning: doubtful - $file\n" }
  if ($ext eq 'dieafter') { print $answer; ready($n, $echo); exit 1 }
  print $answer; ready($n, $echo);
}
# attack tries what ExifTool should not be able to do, and returns the names of what worked.
sub attack {
  my ($worker, $keeper, $dir) = ($_[0] + 0, $_[1] + 0, $_[2]); # numbers, for syscall
  my %tries = (
    append => sub { open my $f, '>>', "$dir/victim" },
    create => sub { open my $f, '>', "$dir/new" },
    chmod => sub { chmod 0600, "$dir/victim" },
    utime => sub { utime 1, 1, "$dir/victim" },
    rename => sub { rename "$dir/victim", "$dir/moved" },
    symlink => sub { symlink '/', "$dir/link" },
    mkdir => sub { mkdir "$dir/folder" },
    unlink => sub { unlink "$dir/victim" },
    truncate => sub { truncate "$dir/victim", 0 },
    tcp => sub { socket my $s, PF_INET, SOCK_STREAM, 0 },
    udp => sub { socket my $s, PF_INET, SOCK_DGRAM, 0 },
    unix => sub { socket my $s, PF_UNIX, SOCK_STREAM, 0 },
    pair => sub { socketpair my $s, my $t, PF_UNIX, SOCK_STREAM, 0 },
    ptrace => sub { syscall(101, 16, $worker, 0, 0) == 0 },
    secret => sub { open my $f, '<', "$dir/secret" },
    passwd => sub { open my $f, '<', '/etc/passwd' },
    list => sub { opendir my $d, $dir },
    environ => sub { open my $f, '<', "/proc/$worker/environ"; length <$f> },
    keeperenv => sub { open my $f, '<', "/proc/$keeper/environ"; my $e = <$f>; $e =~ /SECRET/ },
    own => sub { open my $f, '<', "/proc/self/environ"; my $e = <$f>; $e =~ /SECRET/ || join('', %ENV) =~ /SECRET/ },
    descriptors => sub { stat "/proc/$worker/fd/0" },
    signal => sub { kill 0, $worker },
    signalkeeper => sub { kill 0, $keeper },
    limit => sub { my $new = pack 'QQ', 0, 0; syscall(302, $worker, 4, $new, 0) == 0 },
    priority => sub { my $now = getpriority 0, $worker; setpriority 0, $worker, $now },
    shm => sub { my $id = syscall 29, 0, 4096, 0600; syscall 31, $id, 0, 0; $id >= 0 },
    queue => sub { my $id = syscall 68, 0, 0600; syscall 71, $id, 0, 0; $id >= 0 },
    posixqueue => sub { my $name = "reshelf-$$"; my $fd = syscall 240, $name, 0102, 0600, 0; syscall 241, $name; $fd >= 0 },
    exec => sub { exec { '/nonexistent' } 'x' or $!{ENOENT} },
    deathsignal => sub { my $none = 0; syscall(157, 1, $none, 0, 0, 0) == 0 },
    owner => sub { pipe my $r, my $w; my $f = fcntl $r, 8, $worker; $f },
    lease => sub { open my $f, '<', $ARGV[1]; fcntl $f, 1024, 0 },
    group => sub { setpgrp 0, $keeper },
    run => sub { my $pid = fork; exit 0 if defined $pid && !$pid; waitpid $pid, 0 if $pid; defined $pid },
  );
  return join ' ', grep { eval { $tries{$_}->() } } sort keys %tries;
}
sub ready { my ($n, $echo) = @_; print STDERR $echo; print "{ready$n}\n" }
`

// newStandIn installs the stand-in. Files whose extension ends in "once" find it misbehaving only if there is a token, which
// it takes: see arm.
func newStandIn(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "exiftool")
	if err := syscall.Mkfifo(path+".tokens", 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, path+".tmp", standIn)
	if err := os.Chmod(path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// arm gives the stand-in at path one token, and returns what tells that it has been taken.
func arm(t *testing.T, path string) (taken func() bool) {
	t.Helper()
	f, err := os.OpenFile(path+".tokens", os.O_RDWR, 0) // open, or the token is gone
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	t.Cleanup(func() { _ = f.Close() })
	return func() bool {
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err == nil && n == 0
	}
}

// short is for files that are answered too late; patient for all others, since a machine may be busy; never for those whose
// reading must end by other means.
func short(int64, batch.Level) time.Duration   { return 500 * time.Millisecond }
func patient(int64, batch.Level) time.Duration { return 20 * time.Second }
func never(int64, batch.Level) time.Duration   { return time.Hour }

func TestStandIn(t *testing.T) {
	tests := []struct {
		ext     string
		want    batch.Reason
		message string // part of FaultMessage
		warning string // part of the first warning
		late    bool   // there is no answer in time
	}{
		{ext: "fine"},
		{ext: "die", want: batch.ReasonCrashed, message: "exit status 3"},
		{ext: "dieonce"},
		{ext: "patricide", want: batch.ReasonCrashed, message: "lost 3 times"},
		{ext: "outofmemory", want: batch.ReasonCrashed, message: "signal: killed: Out of memory!"},
		{ext: "hang", want: batch.ReasonTimeout, message: "1.5s", late: true},
		{ext: "hangonce", late: true},
		{ext: "nothing", want: batch.ReasonUnreadable},
		{ext: "garbage", want: batch.ReasonCrashed, message: "not the answer"},
		{ext: "garbageonce"},
		{ext: "empty", want: batch.ReasonCrashed, message: "one file"},
		{ext: "two", want: batch.ReasonCrashed, message: "one file"},
		{ext: "half", want: batch.ReasonCrashed, message: "exit status 0"},
		{ext: "halfready", want: batch.ReasonCrashed, message: "not the answer"},
		{ext: "other", want: batch.ReasonCrashed, message: "/other.jpg"},
		{ext: "shifted", want: batch.ReasonTimeout, late: true},
		{ext: "huge", want: batch.ReasonTooLarge},
		{ext: "large", want: batch.ReasonTooLarge},
		{ext: "noise", warning: "noise number 1 about the file"},
		{ext: "noend", warning: "xxxxx"},
		{ext: "shout", want: batch.ReasonTimeout, message: "1.5s", late: true},
		{ext: "words", warning: "Warning: doubtful"},
		{ext: "dieafter"},
	}
	for _, tt := range tests {
		t.Run(tt.ext, func(t *testing.T) {
			standIn := newStandIn(t)
			arm(t, standIn)
			deadline := patient
			if tt.late {
				deadline = short
			}
			p := newPool(t, exiftool.Options{Binary: standIn, Deadline: deadline, MaxAnswer: 1 << 20})
			dir := t.TempDir()
			bad := write(t, filepath.Join(dir, "a."+tt.ext), "bad")
			good := write(t, filepath.Join(dir, "a.good"), "good")
			r := read(t, p, batch.LevelNormal, bad)
			if r.Fault != tt.want || !strings.Contains(r.FaultMessage, tt.message) {
				t.Errorf("Fault: got %q (%s), want %q (%s)", r.Fault, r.FaultMessage, tt.want, tt.message)
			}
			if r.Version != "12.57" {
				t.Errorf("Version: got %q, want 12.57 with every result", r.Version)
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

// Files that are read only at the second try cost a process each, which is a storm too.
func TestRestartStorm(t *testing.T) {
	standIn := newStandIn(t)
	p := newPool(t, exiftool.Options{Binary: standIn, Deadline: short})
	dir := t.TempDir()
	for range 9 {
		arm(t, standIn)
		r := read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, "a.dieonce"), "bad"))
		if r.Fault != "" || text(r.Tags, "XMP-dc:Title") != "bad" {
			t.Fatalf("got title %q, fault %q (%s)", text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage)
		}
	}
	if err := p.Check(t.Context()); err == nil {
		t.Error("Check after 9 restarts: got nil, want an error")
	}
	read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, "a.good"), "good"))
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check after a good file: got %v, want nil", err)
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
	arguments[1] = filepath.Base(arguments[1])
	if got, want := strings.Join(arguments, " "), "-config pager.pl -stay_open True -@ - "; got != want {
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
