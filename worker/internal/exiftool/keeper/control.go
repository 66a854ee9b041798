package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Request tells a keeper of the request that go-exiftool is about to send.
type Request struct {
	// Alias is the base name of the alias.
	Alias string `json:"alias"`
	// Deadline is how long ExifTool may take for the first try. The second may take RetryFactor times as long.
	Deadline time.Duration `json:"deadline"`
}

// RetryFactor is how much longer than the first try the second may take.
const RetryFactor = 3

// Status is what a keeper tells when it has started an ExifTool, when that one works, and when either failed.
type Status struct {
	// PID of the ExifTool started last.
	PID int `json:"pid,omitempty"`
	// Version of that ExifTool, once it works.
	Version string `json:"version,omitempty"`
	// Restarts counts the processes started after the first.
	Restarts int `json:"restarts"`
	// Error says why there is none.
	Error string `json:"error,omitempty"`
}

// Listener waits for one keeper to report.
type Listener struct {
	listener *net.UnixListener
	dir      *os.File
}

// Listen opens the control socket in a keeper's directory. The path of a socket may have no more than 107 bytes, so it
// is opened through the directory's descriptor.
func Listen(dir string) (*Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("listen for keeper: %w", err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), controlName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for keeper: %w", err), d.Close())
	}
	l.SetUnlinkOnClose(false)
	return &Listener{l, d}, nil
}

// Close frees the socket.
func (l *Listener) Close() error { return errors.Join(l.listener.Close(), l.dir.Close()) }

// Accept waits for the keeper until deadline.
func (l *Listener) Accept(deadline time.Time) (*Conn, error) {
	if err := l.listener.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("accept keeper: %w", err)
	}
	conn, err := l.listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("accept keeper: %w", err)
	}
	c, err := readHello(conn, deadline)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("accept keeper: %w", err), conn.Close())
	}
	return c, nil
}

// Conn is the pool's end of the control socket. Its methods may be called by one writer and one reader at a time.
type Conn struct {
	// PID of the keeper; it leads its own process group.
	PID int
	// Stdin and Stdout are the keeper's own descriptors: the read end of the pipe that go-exiftool writes to, and the
	// write end of the one it reads from. While they are open, go-exiftool's writes cannot fail, and whoever holds
	// Stdout can end a call that its keeper will never answer.
	Stdin, Stdout *os.File
	// Alive ends (io.EOF) when keeper and ExifTool have both ended. Nothing is ever written to it.
	Alive *os.File

	conn *net.UnixConn
	in   *json.Decoder
}

// Expect announces a request. It must be called before go-exiftool sends it.
func (c *Conn) Expect(r Request) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	return json.NewEncoder(c.conn).Encode(r)
}

// Next waits for a status. Any error means that the keeper is gone.
func (c *Conn) Next() (Status, error) {
	var s Status
	err := c.in.Decode(&s)
	return s, err
}

// Stop asks the keeper to end ExifTool and itself.
func (c *Conn) Stop() error { return c.conn.CloseWrite() }

// Close frees the connection but not Stdin, Stdout and Alive.
func (c *Conn) Close() error { return c.conn.Close() }

const helloFiles = 3

func readHello(conn *net.UnixConn, deadline time.Time) (*Conn, error) {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	text, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4*helloFiles))
	n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn, in: json.NewDecoder(conn)}
	if err := json.Unmarshal(text[:n], &c.PID); err != nil {
		return nil, err
	}
	fds, err := parseRights(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if len(fds) != helloFiles {
		return nil, fmt.Errorf("%d descriptors, want %d", len(fds), helloFiles)
	}
	if err := unix.SetNonblock(fds[2], true); err != nil {
		return nil, err
	}
	c.Stdin, c.Stdout = os.NewFile(uintptr(fds[0]), "keeper stdin"), os.NewFile(uintptr(fds[1]), "keeper stdout")
	c.Alive = os.NewFile(uintptr(fds[2]), "keeper alive")
	return c, conn.SetReadDeadline(time.Time{})
}

func parseRights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("%d control messages, want 1", len(messages))
	}
	return unix.ParseUnixRights(&messages[0])
}

// dial connects a keeper to its pool and hands over its standard input and output and the read end of alive. The
// working directory must be the keeper's.
func dial(alive *os.File) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: controlName, Net: "unix"})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(os.Getpid())
	if err != nil {
		return nil, err
	}
	rights := unix.UnixRights(syscall.Stdin, syscall.Stdout, int(alive.Fd()))
	_, _, err = conn.WriteMsgUnix(text, rights, nil)
	return conn, err
}

// isAlias reports whether path is one that the pool may have made below dir.
func isAlias(dir, path string) bool {
	if filepath.Dir(path) != AliasDir(dir) {
		return false
	}
	base := filepath.Base(path)
	digits := 0
	for digits < len(base) && '0' <= base[digits] && base[digits] <= '9' {
		digits++
	}
	rest := base[digits:]
	return digits > 0 && (rest == "" || rest[0] == '.' && ValidExt(rest[1:])) && path == AliasDir(dir)+"/"+base
}
