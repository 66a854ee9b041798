package keeper

import (
	"errors"
	"io"
	"time"
)

// Requests runs the reader of go-exiftool's side over text: the names it finds, "" for each refusal.
func Requests(text io.Reader) (names []string) {
	c := newClient(text, io.Discard)
	for {
		name, err := c.next()
		switch {
		case errors.Is(err, errRefused):
			names = append(names, "")
		case err != nil:
			return names
		default:
			names = append(names, name)
		}
	}
}

// What the tests look into.
var (
	IsAlias    = isAlias
	GoodAnswer = goodAnswer
	ErrAnswer  = errAnswer

	ParseQuestion = parseQuestion
)

// WordsOfEnded is Words where the process has ended before the lines are taken.
func WordsOfEnded(text io.Reader, mark string) ([]string, bool) {
	words := drain(text)
	<-words.done
	return words.take(mark, "", time.Now().Add(10*time.Second))
}

// Words runs the reader of ExifTool's standard error over text, and takes the lines before mark.
func Words(text io.Reader) func(mark, alias string) ([]string, bool) {
	r, w := io.Pipe()
	words := drain(r)
	return func(mark, alias string) ([]string, bool) {
		defer func() { _ = w.Close(); <-words.done }()
		_, _ = io.Copy(w, text)
		return words.take(mark, alias, time.Now().Add(10*time.Second))
	}
}
