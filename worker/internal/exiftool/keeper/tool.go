package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var (
	errDeadline = errors.New("no answer in time")
	errDied     = errors.New("exiftool died")
	errTooLarge = errors.New("the answer is too large")
)

// killWait bounds the wait for a killed process. One that is stuck in the kernel is left behind; it ends as soon as the
// kernel lets it.
const killWait = 2 * time.Second

// keepBuffer is the capacity above which an answer's buffer is not kept for the next answer.
const keepBuffer = 1 << 20

// tool is one ExifTool process. It is used by one goroutine, except for kill.
type tool struct {
	cmd   *exec.Cmd
	in    *os.File
	out   *os.File
	words *words
	gone  chan struct{} // closed when the process has ended and was reaped
	buf   []byte
	n     int // number of the last -execute
	files int
}

// startTool starts ExifTool. The calling goroutine must have locked a thread that lives as long as the keeper. alive is
// inherited, so that its other end tells when ExifTool is gone.
func startTool(s Settings, alive *os.File) (*tool, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close(), outR.Close(), outW.Close())
	}
	// -config must come first, or ~/.ExifTool_config is run as Perl code.
	cmd := exec.Command(s.ExifTool, "-config", "", "-stay_open", "True", "-@", "-")
	cmd.Env, cmd.Dir = toolEnv(), "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = inR, outW, errW, []*os.File{alive}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	err = errors.Join(err, inR.Close(), outW.Close(), errW.Close())
	t := &tool{cmd: cmd, in: inW, out: outR, gone: make(chan struct{}), words: drain(errR)}
	go t.wait(errR)
	if err == nil {
		err = confineTool(cmd.Process.Pid, s.AddressSpace)
	}
	if err != nil {
		t.kill()
		t.close()
		return nil, fmt.Errorf("start %s: %w", s.ExifTool, err)
	}
	return t, nil
}

// wait reaps the process, and what it might have started, and ends the reader of its standard error.
func (t *tool) wait(stderr *os.File) {
	if t.cmd.Process != nil {
		_ = t.cmd.Wait() // how it ended is in ProcessState
		_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
		ReapGroup(t.cmd.Process.Pid)
	}
	close(t.gone)
	<-t.words.done
	_ = stderr.Close()
}

// greet makes ExifTool tell its version and read the sample, both until deadline.
func (t *tool) greet(samplePath string, deadline time.Time) (version string, err error) {
	raw, words, err := t.ask([]string{"-ver"}, "", deadline, 1<<10)
	if err != nil {
		return "", fmt.Errorf("ask exiftool for its version: %w%s", err, quoteWords(words))
	}
	version = strings.TrimSpace(string(raw))
	if !regexp.MustCompile(`^\d+\.\d+$`).MatchString(version) {
		return "", fmt.Errorf("ask exiftool for its version: it says %.40q", version)
	}
	raw, words, err = t.ask([]string{"-j", "-FileType"}, samplePath, deadline, 1<<16)
	if err != nil {
		return "", fmt.Errorf("have exiftool read a sample: %w%s", err, quoteWords(words))
	}
	if _, err := goodAnswer(raw, samplePath, Note{}); err != nil || !bytes.Contains(raw, []byte(`"FileType": "GIF"`)) {
		return "", fmt.Errorf("have exiftool read a sample: it says %.200q", raw)
	}
	return version, nil
}

// ask sends one request and returns what ExifTool printed, without the end mark, and its words on standard error. The
// bytes are valid until the next call. After an error the process is not usable any more.
func (t *tool) ask(args []string, name string, deadline time.Time, limit int64) ([]byte, []string, error) {
	t.n++
	number := strconv.Itoa(t.n)
	var b strings.Builder
	for _, a := range args {
		b.WriteString(a + "\n")
	}
	if name != "" {
		b.WriteString(name + "\n")
	}
	b.WriteString("-echo4\n" + markStart + number + markEnd + "\n-execute" + number + "\n")
	raw, err := t.exchange(b.String(), "{ready"+number+"}\n", deadline, limit)
	if errors.Is(err, errDied) {
		err = t.obituary(err)
	}
	wait := deadline
	if err != nil {
		wait = time.Now() // what came up to here will do
	}
	lines, marked := t.words.take(number, name, wait)
	if err == nil && !marked {
		err = errDeadline
	}
	return raw, lines, err
}

// exchange writes request and reads up to end.
func (t *tool) exchange(request, end string, deadline time.Time, limit int64) ([]byte, error) {
	if err := errors.Join(t.in.SetWriteDeadline(deadline), t.out.SetReadDeadline(deadline)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(t.in, request); err != nil {
		return nil, classify(err)
	}
	if cap(t.buf) > keepBuffer || t.buf == nil {
		t.buf = make([]byte, 0, 64<<10)
	}
	t.buf = t.buf[:0]
	for {
		if len(t.buf) == cap(t.buf) {
			t.buf = append(t.buf, make([]byte, cap(t.buf))...)[:len(t.buf)]
		}
		n, err := t.out.Read(t.buf[len(t.buf):cap(t.buf)])
		t.buf = t.buf[:len(t.buf)+n]
		body, ended := bytes.CutSuffix(t.buf, []byte(end))
		switch {
		case int64(len(body)) > limit:
			return nil, errTooLarge
		case ended && (len(body) == 0 || body[len(body)-1] == '\n'):
			return body, nil
		case err != nil:
			return nil, classify(err)
		}
	}
}

func classify(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errDeadline
	}
	return errDied
}

// obituary adds how the process ended. A process that only closed its output has not ended; it is about to be killed.
func (t *tool) obituary(err error) error {
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-t.gone:
	case <-timer.C:
		return err
	}
	select {
	case <-t.words.done:
	case <-timer.C:
	}
	return fmt.Errorf("%w: %v", err, t.cmd.ProcessState)
}

// kill ends the process group. It may be called at any time, by any goroutine.
func (t *tool) kill() {
	select {
	case <-t.gone:
	default:
		if t.cmd.Process != nil {
			_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
		}
	}
}

// end kills the process, waits for it (at most killWait) and frees what belongs to it.
func (t *tool) end() {
	t.kill()
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-t.gone:
	case <-timer.C:
	}
	t.close()
}

func (t *tool) close() { _ = errors.Join(t.in.Close(), t.out.Close()) }

// resident is the process's resident memory in bytes, 0 if it cannot be told.
func (t *tool) resident() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", t.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func quoteWords(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, "; ")
}
