package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	clock clock
	pages *pages
}

// startTool starts ExifTool. The calling goroutine must have locked a thread that lives as long as the keeper. alive is
// inherited, so that its other end tells when ExifTool is gone. ask gets what ExifTool asks for while it reads a file of
// which not all is there.
func startTool(dir string, s Settings, alive *os.File, ask askFunc) (*tool, error) {
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
	pages, asks, answers, err := newPages()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close(), outR.Close(), outW.Close(), errR.Close(), errW.Close())
	}
	// -config must come first, or ~/.ExifTool_config is run as Perl code.
	cmd := exec.Command(s.ExifTool, "-config", filepath.Join(dir, pagerName), "-stay_open", "True", "-@", "-")
	cmd.Env, cmd.Dir = cleanEnv(), "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = inR, outW, errW, []*os.File{alive, asks, answers}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = Start(cmd.Start)
	err = errors.Join(err, inR.Close(), outW.Close(), errW.Close(), asks.Close(), answers.Close())
	t := &tool{cmd: cmd, in: inW, out: outR, gone: make(chan struct{}), words: drain(errR), pages: pages}
	go t.wait(errR)
	go t.relay(ask)
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
		AwaitEnd(t.cmd.Process.Pid)
		_ = t.cmd.Wait() // how it ended is in ProcessState
		_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
		ReapGroup(t.cmd.Process.Pid)
	}
	close(t.gone)
	<-t.words.done
	_ = stderr.Close()
}

// greet makes ExifTool tell its version and read the sample, both until deadline. Then it has started all that it ever
// should.
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
	return version, settle(t.cmd.Process.Pid)
}

// ask sends one request and returns what ExifTool printed: begin and collect.
func (t *tool) ask(args []string, name string, deadline time.Time, limit int64) ([]byte, []string, error) {
	if err := t.begin(args, name, deadline); err != nil {
		return t.failed(name, err)
	}
	return t.collect(name, limit)
}

// begin sends one request, which may take until deadline. After an error the process is not usable any more.
func (t *tool) begin(args []string, name string, deadline time.Time) error {
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
	paged := filepath.Base(filepath.Dir(name)) == pagedName
	if err := errors.Join(t.in.SetWriteDeadline(deadline), t.clock.start(deadline, paged, t.out.SetReadDeadline)); err != nil {
		return err
	}
	if _, err := io.WriteString(t.in, b.String()); err != nil {
		return classify(err)
	}
	return nil
}

// collect returns what ExifTool printed for the request that was begun last, without the end mark, and its words on standard
// error. The bytes are valid until the next call. After an error the process is not usable any more.
func (t *tool) collect(name string, limit int64) ([]byte, []string, error) {
	number := strconv.Itoa(t.n)
	raw, err := t.receive("{ready"+number+"}\n", limit)
	if err != nil {
		return t.failed(name, err)
	}
	lines, marked := t.words.take(number, name, t.clock.stop())
	if !marked {
		err = t.unmarked()
	}
	return raw, lines, err
}

// unmarked is the error of an answer whose end was not marked on standard error.
func (t *tool) unmarked() error {
	select {
	case <-t.words.done:
		return t.obituary(errDied)
	default:
		return errDeadline
	}
}

// failed returns err, with how the process ended where it did, and the words that came up to now.
func (t *tool) failed(name string, err error) ([]byte, []string, error) {
	if errors.Is(err, errDied) {
		err = t.obituary(err)
	}
	t.clock.stop()
	lines, _ := t.words.take(strconv.Itoa(t.n), name, time.Now())
	return nil, lines, err
}

// receive reads up to end.
func (t *tool) receive(end string, limit int64) ([]byte, error) {
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

func (t *tool) close() {
	_ = errors.Join(t.in.Close(), t.out.Close())
	t.pages.close()
}

func quoteWords(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, "; ")
}
