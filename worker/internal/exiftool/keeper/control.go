package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	// Whole: all of the file is there, and ExifTool may be given it as soon as it is done with the file before, while the answer for
	// that one is under way.
	Whole bool `json:"whole,omitempty"`
	// Renew asks for a new ExifTool after this request: the pool finds that the present one has grown.
	Renew bool `json:"renew,omitempty"`
}

// RetryFactor is how much longer than the first try the second may take.
const RetryFactor = 3

// announcement is a request with its file, which is the receiver's to close.
type announcement struct {
	Request
	file *os.File
}

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
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
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

// Conn is the pool's end of the control socket, on which each message is a packet. Next is called by one goroutine, the
// other methods by any.
type Conn struct {
	// PID of the keeper; it leads its own process group.
	PID int
	// Stdin and Stdout are the keeper's own descriptors: the read end of the pipe that go-exiftool writes to, and the
	// write end of the one it reads from. While they are open, go-exiftool's writes cannot fail, and whoever holds
	// Stdout can end a call that its keeper will never answer.
	Stdin, Stdout *os.File
	// Slot is where ExifTool finds the file of each request.
	Slot string
	// Gaps say in which ways ExifTool could not be confined.
	Gaps []string
	// Alive ends (io.EOF) when keeper and ExifTool have both ended. Nothing is ever written to it.
	Alive *os.File

	conn   *net.UnixConn
	buffer []byte // of Next
}

// Expect announces a request and hands over its file, which stays the caller's too. It must be called before go-exiftool
// sends the request; one more may be announced before the answer of that one, and the keeper forgets an announcement when
// go-exiftool sends the request of a later one.
func (c *Conn) Expect(r Request, file *os.File) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendWait)); err != nil {
		return err
	}
	text, err := json.Marshal(command{Request: &r})
	if err != nil {
		return err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		_, _, sendErr = c.conn.WriteMsgUnix(text, unix.UnixRights(int(fd)), nil)
	})
	return errors.Join(err, sendErr)
}

// Answer tells the keeper what came of its question.
func (c *Conn) Answer(a Answer) error { return send(c.conn, command{Answer: &a}) }

// command is what the pool sends: an announcement, whose file comes with it, or the answer to a question.
type command struct {
	Request *Request `json:"request,omitempty"`
	Answer  *Answer  `json:"answer,omitempty"`
}

const (
	// maxMessage bounds a message of the control socket, in bytes, and maxErrorText the words in it.
	maxMessage   = 16 << 10
	maxErrorText = 2000
	sendWait     = 5 * time.Second
)

// send sends one message.
func send(conn *net.UnixConn, message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(sendWait)); err != nil {
		return err
	}
	_, err = conn.Write(text)
	return err
}

// receive waits for the pool's next command, with its file if it is an announcement.
func receive(conn *net.UnixConn) (c command, file *os.File, err error) {
	text, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
	if err != nil {
		return c, nil, err
	}
	if n == 0 {
		return c, nil, io.EOF
	}
	if oobn > 0 {
		fds, err := parseRights(oob[:oobn])
		if err != nil {
			return c, nil, err
		}
		file = os.NewFile(uintptr(fds[0]), "file")
	}
	err = json.Unmarshal(text[:n], &c)
	if err == nil && (c.Request != nil) != (file != nil) {
		err = errors.New("a request without its file")
	}
	return c, file, err
}

// Message is what a keeper says: one of its fields is set.
type Message struct {
	Status   *Status   `json:"status,omitempty"`
	Question *Question `json:"question,omitempty"`
}

// Next waits for a message. Any error means that the keeper is gone.
func (c *Conn) Next() (m Message, err error) {
	n, err := c.conn.Read(c.buffer)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(c.buffer[:n], &m)
}

// clip bounds words that go into a message.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxErrorText)], "") }

// Stop asks the keeper to end ExifTool and itself.
func (c *Conn) Stop() error { return c.conn.CloseWrite() }

// Close frees the connection but not Stdin, Stdout and Alive.
func (c *Conn) Close() error { return c.conn.Close() }

// hello is the keeper's first message; its standard input, standard output and the read end of alive come with it.
type hello struct {
	PID  int      `json:"pid"`
	Slot int      `json:"slot"`
	Gaps []string `json:"gaps,omitempty"`
}

const helloFiles = 3

func readHello(conn *net.UnixConn, deadline time.Time) (*Conn, error) {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	text, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*helloFiles))
	n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
	if err != nil {
		return nil, err
	}
	var h hello
	if err := json.Unmarshal(text[:n], &h); err != nil {
		return nil, err
	}
	c := &Conn{conn: conn, buffer: make([]byte, maxMessage), PID: h.PID, Slot: slotPath(h.PID, h.Slot), Gaps: h.Gaps}
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

// sayHello takes over the connection to the pool and hands over this keeper's standard input and output and the read end
// of alive.
func sayHello(h handover, alive *os.File) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(h.Control), "control")
	defer func() { _ = file.Close() }()
	generic, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	conn, ok := generic.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the control socket is a %T", generic), generic.Close())
	}
	text, err := json.Marshal(hello{os.Getpid(), h.Slot, h.Gaps})
	if err != nil {
		return nil, err
	}
	rights := unix.UnixRights(syscall.Stdin, syscall.Stdout, int(alive.Fd()))
	_, _, err = conn.WriteMsgUnix(text, rights, nil)
	return conn, err
}

// isAlias reports whether path is one that the pool may have made below dir.
func isAlias(dir, path string) bool {
	folder, base := filepath.Dir(path), filepath.Base(path)
	if folder != AliasDir(dir) && folder != PagedDir(dir) {
		return false
	}
	digits := 0
	for digits < len(base) && '0' <= base[digits] && base[digits] <= '9' {
		digits++
	}
	rest := base[digits:]
	return digits > 0 && (rest == "" || rest[0] == '.' && ValidExt(rest[1:])) && path == folder+"/"+base
}
