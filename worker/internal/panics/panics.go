// Package panics carries the panic of a goroutine to the one that waits for it, where it can be caught as if there were no goroutines.
package panics

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// panicked is a panic with its stack.
type panicked struct{ text string }

func (p panicked) Error() string { return p.text }

// Catch makes a panic the error of the function that defers it.
func Catch(err *error) {
	if cause := recover(); cause != nil {
		*err = panicked{fmt.Sprintf("%v\n%s", cause, debug.Stack())}
	}
}

// Rethrow panics where err is, or wraps, what was caught.
func Rethrow(err error) {
	if p, ok := errors.AsType[panicked](err); ok {
		panic(p.text)
	}
}
