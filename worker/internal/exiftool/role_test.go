package exiftool_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	goexiftool "github.com/barasher/go-exiftool"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// Some tests need a process that they can kill, or that may hang: this test binary again, in a role.
const roleVariable = "RESHELF_TEST_ROLE"

type roleProcess struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

// startRole starts a role and kills it at the end of the test.
func startRole(t *testing.T, role ...string) *roleProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join(role, "\x1f"))
	cmd.Dir, cmd.Stderr = t.TempDir(), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a bare ExifTool does not end with its parent
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &roleProcess{cmd, bufio.NewReader(stdout)}
	t.Cleanup(p.end)
	return p
}

// end kills the role and what it started, unless it has ended.
func (p *roleProcess) end() {
	if p.cmd.ProcessState == nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		_ = p.cmd.Wait()
		reapAdopted(-p.cmd.Process.Pid)
	}
}

// reapAdopted waits for processes that became this one's children when their parent was killed, because pools make
// their process the adopter of orphans. pid is as for waitpid(2).
func reapAdopted(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// line reads one line of the role's output, "" at its end.
func (p *roleProcess) line() string {
	line, err := p.out.ReadString('\n')
	if err != nil && line == "" {
		return ""
	}
	return strings.TrimSuffix(line, "\n")
}

func (p *roleProcess) numbers(t *testing.T) (numbers []int) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.line()), &numbers); err != nil {
		t.Fatal(err)
	}
	return numbers
}

// playStart is what becomes of a program before it can become a keeper.
func playStart(role string) {
	switch role {
	case "stopped":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

func playRole(role string) {
	args := strings.Split(role, "\x1f")
	switch args[0] {
	case "worker":
		playWorker(args[1], args[2])
	case "bare":
		playBare(args[1], args[2:])
	}
	os.Exit(0)
}

// playWorker starts a pool, prints the ids of keeper and ExifTool, and reads a file again and again until it is killed.
func playWorker(binary, path string) {
	p, err := exiftool.NewPool(exiftool.Options{Binary: binary, Processes: 1, Scratch: filepath.Dir(path)})
	if err == nil {
		_, err = p.Version(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	one := p.Status().Processes[0]
	fmt.Printf("[%d,%d]\n", one.Keeper, one.ExifTool)
	for {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		_, _ = p.Read(context.Background(), batch.LevelNormal, f, archive.Key(filepath.Base(path)))
		_ = f.Close()
	}
}

// playBare reads files with go-exiftool alone and prints, for each, its title or its error on a line, as JSON.
func playBare(binary string, paths []string) {
	options := []func(*goexiftool.Exiftool) error{}
	if binary != "" {
		options = append(options, goexiftool.SetExiftoolBinaryPath(binary))
	}
	et, err := goexiftool.NewExiftool(options...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Println("panic:", r)
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
	}()
	for _, path := range paths {
		fm := et.ExtractMetadata(path)[0]
		line := struct {
			Title any
			Err   string
		}{Title: fm.Fields["Title"]}
		if fm.Err != nil {
			line.Err = fm.Err.Error()[:min(len(fm.Err.Error()), 80)]
		}
		text, _ := json.Marshal(line)
		fmt.Println(string(text))
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}
