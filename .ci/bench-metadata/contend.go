package main

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	goexiftool "github.com/barasher/go-exiftool"
)

//go:embed vendored/read.mjs
var vendored embed.FS

// contendMain is the process of a contender that is part of this program.
func contendMain(args []string) {
	contend := map[string]func(args []string) error{"each": each, "recursive": recursive, "bare": bare, "limit": limit, "fleet": fleet}
	if err := contend[args[0]](args[1:]); err != nil {
		log.Fatalf("%s: %v", args[0], err)
	}
}

// abreast gives names to n workers at once, each by its own function, and prints how many it said were answered.
func abreast(list, processes string, start func() (read func(name string) (bool, error), end func() error, err error)) error {
	names, err := readLines(list)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(processes)
	if err != nil {
		return err
	}
	queue := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	answered := 0
	for range n {
		read, end, err := start()
		if err != nil {
			return err
		}
		wg.Go(func() {
			for name := range queue {
				ok, err := read(name)
				if err != nil {
					log.Fatalf("%s: %v", name, err)
				}
				if ok {
					mu.Lock()
					answered++
					mu.Unlock()
				}
			}
			if err := end(); err != nil {
				log.Print(err)
			}
		})
	}
	for _, name := range names {
		queue <- name
	}
	close(queue)
	wg.Wait()
	_, err = fmt.Println(answered)
	return err
}

var sourceFile = []byte(`"SourceFile": `)

func each(args []string) error {
	program := args[0]
	return abreast(args[1], args[2], func() (func(string) (bool, error), func() error, error) {
		read := func(name string) (bool, error) {
			cmd := exec.Command(program, append(append([]string{"-config", ""}, sameFlags...), name)...)
			out, err := cmd.Output()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				err = nil // it says 1 of a file that it cannot read, and why in its output
			}
			return bytes.Contains(out, sourceFile), err
		}
		return read, func() error { return nil }, nil
	})
}

func recursive(args []string) error {
	out, err := os.Create("all.json")
	if err != nil {
		return err
	}
	cmd := exec.Command(args[0], append(append([]string{"-config", ""}, sameFlags...), "-r", "-ext", "*", args[1])...)
	cmd.Stdout = out
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil
	}
	return errors.Join(err, out.Close())
}

// bare is go-exiftool as its documentation shows it, with as many of the flags as it can be given. What it cannot decode,
// because warnings are mixed into it, counts as an answer.
func bare(args []string) error {
	program := args[0]
	return abreast(args[1], args[2], func() (func(string) (bool, error), func() error, error) {
		e, err := goexiftool.NewExiftool(goexiftool.SetExiftoolBinaryPath(program), goexiftool.Buffer(nil, 64<<20),
			goexiftool.PrintGroupNames("1"), goexiftool.Api("LargeFileSupport=1"))
		if err != nil {
			return nil, nil, err
		}
		read := func(name string) (bool, error) {
			answer := e.ExtractMetadata(name)[0]
			if answer.Err != nil {
				log.Printf("%s: %.200v", name, answer.Err)
			}
			return answer.Err == nil || bytes.Contains([]byte(answer.Err.Error()), sourceFile), nil
		}
		return read, e.Close, nil
	})
}

// limit is what a client at least has to do: one request for each file, and its output read up to the end mark.
func limit(args []string) error {
	program := args[0]
	return abreast(args[1], args[2], func() (func(string) (bool, error), func() error, error) {
		cmd := exec.Command(program, "-config", "", "-stay_open", "True", "-@", "-")
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, nil, err
		}
		var prefix []byte
		for _, f := range sameFlags {
			prefix = append(append(prefix, f...), '\n')
		}
		n, request, buffer := 0, []byte(nil), make([]byte, 0, 1<<20)
		read := func(name string) (bool, error) {
			n++
			request = fmt.Appendf(append(request[:0], prefix...), "%s\n-execute%d\n", name, n)
			if _, err := in.Write(request); err != nil {
				return false, err
			}
			end := fmt.Appendf(nil, "{ready%d}\n", n)
			for buffer = buffer[:0]; !bytes.HasSuffix(buffer, end); {
				if len(buffer) == cap(buffer) {
					buffer = append(buffer, 0)[:len(buffer)]
				}
				got, err := out.Read(buffer[len(buffer):cap(buffer)])
				buffer = buffer[:len(buffer)+got]
				if err != nil {
					return false, err
				}
			}
			return bytes.Contains(buffer, sourceFile), nil
		}
		end := func() error {
			_, err := io.WriteString(in, "-stay_open\nFalse\n")
			return errors.Join(err, in.Close(), cmd.Wait())
		}
		return read, end, nil
	})
}

// fleet starts a Redis and a worker, inspects with them, and ends them.
func fleet(args []string) (err error) {
	bin, dir, processes, flags := args[0], args[1], args[2], args[3:]
	work, err := os.Getwd()
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	stop := func(cmd *exec.Cmd) {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // the result is in by then
	}
	redis := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
	redis.Stderr = os.Stderr
	if err := redis.Start(); err != nil {
		return err
	}
	defer stop(redis)
	if err := awaitPort(port); err != nil {
		return err
	}
	ledger := filepath.Join(work, "ledger")
	if err := os.Mkdir(ledger, 0o700); err != nil {
		return err
	}
	where := []string{"--redis", "redis://127.0.0.1:" + port, "--ledger", "file://" + ledger}
	program := flags[len(flags)-1]
	worker := exec.Command(filepath.Join(bin, "reshelf-worker"), append(where, "--root", "file://"+dir, "--slots", processes, "--exiftool", program, "--listen", "127.0.0.1:0")...)
	worker.Stderr = os.Stderr
	if err := worker.Start(); err != nil {
		return err
	}
	defer stop(worker)
	inspect := exec.Command(filepath.Join(bin, "reshelf"), append(append([]string{"inspect", dir}, flags[:len(flags)-2]...), where...)...)
	inspect.Stdout, inspect.Stderr = os.Stdout, os.Stderr
	err = inspect.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil // some files are meant to be broken
	}
	return err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

func awaitPort(port string) (err error) {
	for range 200 {
		var c net.Conn
		if c, err = net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_, err = fmt.Fprint(c, "PING\r\n")
			line, readErr := bufio.NewReader(c).ReadString('\n')
			_ = c.Close()
			if err == nil && readErr == nil && line == "+PONG\r\n" {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(errors.New("redis does not come up"), err)
}
