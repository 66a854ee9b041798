package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// measureCommand runs a contender and reports what it used. It is a process of its own, so that it can adopt and wait for
// every process that the contender leaves behind: what the kernel then adds up for its children is the whole tree.
const measureCommand = "measure"

// usage is what measureMain writes to descriptor 3.
type usage struct {
	Wall time.Duration // until the contender itself ended
	User time.Duration // of all its processes
	Sys  time.Duration
	Peak int64 // bytes: the largest sum of the proportional set sizes of all its processes
}

// run is one run of one contender.
type run struct {
	usage
	files int
}

func (r run) rate() float64   { return float64(r.files) / r.Wall.Seconds() }
func (r run) cpu() float64    { return float64((r.User + r.Sys).Microseconds()) / 1e3 / float64(r.files) }
func (r run) peakMB() float64 { return float64(r.Peak) / 1e6 }

// measure runs a contender, whose answers must be those to all its files.
func measure(ctx context.Context, c contender, dir string) (run, error) {
	scratch, err := os.MkdirTemp(dir, "run-")
	if err != nil {
		return run{}, err
	}
	defer os.RemoveAll(scratch)
	r, w, err := os.Pipe()
	if err != nil {
		return run{}, err
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		return run{}, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{measureCommand}, c.argv...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Dir = &out, &errs, []*os.File{w}, scratch
	// The same for all: what ExifTool finds first depends on the order of Perl's hashes.
	cmd.Env = append(os.Environ(), "PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0", "LC_ALL=C", "HOME="+scratch, "XDG_DATA_HOME=", "XDG_CACHE_HOME=")
	cmd.Env = append(cmd.Env, c.env...)
	if c.stdin != "" {
		in, err := os.Open(c.stdin)
		if err != nil {
			return run{}, err
		}
		defer in.Close()
		cmd.Stdin = in
	}
	err = errors.Join(cmd.Run(), w.Close())
	if err != nil {
		return run{}, fmt.Errorf("%w: %.2000s", err, errs.Bytes())
	}
	var u usage
	if err := json.NewDecoder(r).Decode(&u); err != nil {
		return run{}, err
	}
	answered, err := c.answers(out.Bytes(), scratch)
	if err == nil && answered != c.files {
		err = fmt.Errorf("%d answers for %d files: %.2000s", answered, c.files, errs.Bytes())
	}
	return run{u, c.files}, err
}

// measureMain runs argv and waits for it and all of its descendants.
func measureMain(argv []string) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		log.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	unix.CloseOnExec(3)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	peak := watchMemory()
	err := cmd.Wait()
	u := usage{Wall: time.Since(start)}
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			break // no child is left
		}
	}
	u.Peak = peak()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r); err != nil {
		log.Fatal(err)
	}
	u.User, u.Sys = time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
	if err := json.NewEncoder(os.NewFile(3, "usage")).Encode(u); err != nil {
		log.Fatal(err)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() != 1 { // some files are meant to be broken
		log.Fatal(err)
	}
}

// sampleEvery is how often the memory is looked at. What this costs is not the contender's.
const sampleEvery = 250 * time.Millisecond

// watchMemory samples the memory of this process's descendants until the function that it returns is called.
func watchMemory() (peak func() int64) {
	var highest int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(sampleEvery):
				highest = max(highest, descendantsMemory())
			}
		}
	}()
	var once sync.Once
	return func() int64 {
		once.Do(func() { close(stop); <-done })
		return highest
	}
}

// descendantsMemory adds up the proportional set sizes: shared pages count once.
func descendantsMemory() (total int64) {
	parents := map[int]int{}
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// proc_pid_stat(5): "pid (name) state ppid …"; the name may hold blanks and parentheses.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || len(fields) < 2 {
			continue
		}
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	self := os.Getpid()
	for pid := range parents {
		for p, ok := parents[pid]; ok; p, ok = parents[p] {
			if p == self {
				total += proportional(pid)
				break
			}
		}
	}
	return total
}

func proportional(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kB, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kB << 10
		}
	}
	return 0
}
