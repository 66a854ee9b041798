package keeper

import (
	"bufio"
	"errors"
	"io"
)

// errRefused: go-exiftool sent something that is not one file's request.
var errRefused = errors.New("refused: not the request of one file")

// maxLine bounds one line of go-exiftool's; aliases are far shorter.
const maxLine = 8 << 10

const (
	executeLine = "-execute"
	jsonLine    = "-j"
	closeLine   = "-stay_open"
)

// client is go-exiftool, seen from the keeper.
type client struct {
	in  *bufio.Reader
	out io.Writer
}

func newClient(in io.Reader, out io.Writer) *client {
	return &client{bufio.NewReaderSize(in, maxLine), out}
}

// next waits for a request and returns the name in it. errRefused asks for an answer as well, any other error ends the
// conversation; io.EOF is a proper end.
func (c *client) next() (string, error) {
	for {
		line, err := c.line()
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return "", err
		case line == closeLine:
			return "", io.EOF
		case line == jsonLine:
			return c.name()
		}
	}
}

// name reads what follows "-j". A name with a newline in it puts more than one line there; all of them are dropped.
func (c *client) name() (string, error) {
	name, nameErr := c.line()
	if nameErr != nil && !errors.Is(nameErr, bufio.ErrBufferFull) {
		return "", nameErr
	}
	for n := 0; ; n++ {
		line, err := c.line()
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return "", err
		case line == executeLine && n == 0 && nameErr == nil:
			return name, nil
		case line == executeLine:
			return "", errRefused
		}
	}
}

// line reads one line without its end. A line longer than maxLine is dropped whole: bufio.ErrBufferFull.
func (c *client) line() (string, error) {
	slice, err := c.in.ReadSlice('\n')
	if err == nil {
		return string(slice[:len(slice)-1]), nil
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		if _, err = c.in.ReadSlice('\n'); err == nil {
			return "", bufio.ErrBufferFull
		}
	}
	return "", err
}

// endMark is what go-exiftool looks for.
const endMark = "\n{ready}\n"

// answer writes text, which must hold no newline, and the end mark.
func (c *client) answer(text []byte) error {
	_, err := c.out.Write(append(text, endMark...))
	return err
}
