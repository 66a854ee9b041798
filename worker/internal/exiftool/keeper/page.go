package keeper

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Question: ExifTool is about to read bytes of a file of which not all is there.
type Question struct {
	// ID is answered with.
	ID     int64 `json:"id"`
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Answer to a Question.
type Answer struct {
	ID int64 `json:"id"`
	// From and To bound the bytes that are there now; they hold those that were asked for, as far as the file has them.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Failed: they could not be brought. What ExifTool answers about the file must not be used.
	Failed bool `json:"failed,omitempty"`
	// Took is how long it took to bring them.
	Took time.Duration `json:"took,omitempty"`
}

// askFunc brings a part of the file that ExifTool reads. It ends when gone is closed. After an error nobody knows that
// ExifTool did not get what it asked for.
type askFunc func(q Question, gone <-chan struct{}) (Answer, error)

// pages are the keeper's ends of the pipes on which one ExifTool asks, line by line: see pager.pl.
type pages struct {
	asks    *os.File
	answers *os.File
	closed  chan struct{}
	relayed chan struct{} // closed when relay has ended
}

func newPages() (p *pages, asks, answers *os.File, err error) {
	p = &pages{closed: make(chan struct{}), relayed: make(chan struct{})}
	if p.asks, asks, err = os.Pipe(); err != nil {
		return nil, nil, nil, err
	}
	if answers, p.answers, err = os.Pipe(); err != nil {
		return nil, nil, nil, errors.Join(err, p.asks.Close(), asks.Close())
	}
	return p, asks, answers, nil
}

func (p *pages) close() {
	close(p.closed)
	_ = errors.Join(p.asks.Close(), p.answers.Close())
	<-p.relayed
}

// maxQuestion bounds one line of ExifTool's, in bytes.
const maxQuestion = 64

// relay answers ExifTool's questions until it ends. Its deadline does not run meanwhile: what takes time then is the store.
func (t *tool) relay(ask askFunc) {
	defer close(t.pages.relayed)
	for in := bufio.NewReaderSize(t.pages.asks, maxQuestion); ; {
		line, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
		q, ok := parseQuestion(line)
		if !ok || !t.clock.hold() {
			t.kill() // it is not our pager that asks
			return
		}
		a, err := ask(q, t.pages.closed)
		if err != nil {
			t.kill()
			return
		}
		t.clock.resume(a.Took)
		text := fmt.Sprintf("%d %d\n", a.From, a.To)
		if a.Failed {
			text = "failed\n"
		}
		if _, err := t.pages.answers.WriteString(text); err != nil {
			return
		}
	}
}

// parseQuestion reads "offset length\n", both decimal.
func parseQuestion(line []byte) (q Question, ok bool) {
	text, ended := strings.CutSuffix(string(line), "\n")
	offset, length, two := strings.Cut(text, " ")
	at, err := strconv.ParseUint(offset, 10, 63)
	n, lengthErr := strconv.ParseUint(length, 10, 63)
	return Question{Offset: int64(at), Length: int64(n)}, ended && two && err == nil && lengthErr == nil
}

// asking is the question that the pool has yet to answer. One file is read at a time, so there is at most one.
type asking struct {
	mu     sync.Mutex
	id     int64
	answer chan Answer // nil while there is none
}

// ask hands a question on to the pool and waits for its answer. The pool ends the keeper where it cannot answer.
func (k *keeper) ask(q Question, gone <-chan struct{}) (Answer, error) {
	answer := make(chan Answer, 1)
	k.asking.mu.Lock()
	k.asking.id++
	q.ID = k.asking.id
	k.asking.answer = answer
	k.asking.mu.Unlock()
	if err := send(k.control, Message{Question: &q}); err != nil {
		return Answer{}, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-gone:
		return Answer{}, errDied
	}
}

// answered is called with each answer of the pool.
func (k *keeper) answered(a Answer) {
	k.asking.mu.Lock()
	defer k.asking.mu.Unlock()
	if a.ID == k.asking.id && k.asking.answer != nil {
		k.asking.answer <- a
		k.asking.answer = nil
	}
}

// clock is the deadline of a request, which does not run while a part of its file is brought.
type clock struct {
	mu       sync.Mutex
	set      func(time.Time) error // nil between two requests
	paged    bool                  // not all of the request's file is there
	asked    bool                  // for a part of it
	deadline time.Time
	held     time.Time // since when it does not run; zero while it does
}

func (c *clock) start(deadline time.Time, paged bool, set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set, c.paged, c.asked, c.deadline, c.held = set, paged, false, deadline, time.Time{}
	return set(deadline)
}

// stop returns the deadline as it is now.
func (c *clock) stop() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = nil
	return c.deadline
}

// errNoPager: ExifTool read a file of which not all was there without asking for a single part of it.
var errNoPager = errors.New("it does not ask for what it reads")

// check is errNoPager if the last request's answer cannot be one about the content.
func (c *clock) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paged && !c.asked {
		return errNoPager
	}
	return nil
}

// hold reports false where there is nothing to ask for.
func (c *clock) hold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set == nil || !c.paged {
		return false
	}
	c.asked, c.held = true, time.Now()
	_ = c.set(time.Time{}) // it fails only on a closed pipe
	return true
}

// resume counts all but took. Otherwise an ExifTool that asks without end would have all the time it wants.
func (c *clock) resume(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set != nil && !c.held.IsZero() {
		c.deadline = c.deadline.Add(min(took, time.Since(c.held)))
		c.held = time.Time{}
		_ = c.set(c.deadline)
	}
}
