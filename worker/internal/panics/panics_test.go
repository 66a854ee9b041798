package panics_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/reshelf/reshelf/worker/internal/panics"
)

func TestPanicOfAGoroutine(t *testing.T) {
	var group errgroup.Group
	group.Go(func() (err error) {
		defer panics.Catch(&err)
		panic("boom")
	})
	err := group.Wait()
	if err == nil {
		t.Fatal("Wait = nil, want what was caught")
	}
	defer func() {
		if said := fmt.Sprint(recover()); !strings.HasPrefix(said, "boom\n") || !strings.Contains(said, "panics_test.go") {
			t.Errorf("recovered %s, want boom and where", said)
		}
	}()
	panics.Rethrow(fmt.Errorf("of the group: %w", err))
	t.Error("it was not thrown again")
}

func TestErrorsAreNoPanics(t *testing.T) {
	want := errors.New("no")
	do := func() (err error) {
		defer panics.Catch(&err)
		return want
	}
	if err := do(); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	panics.Rethrow(want)
	panics.Rethrow(nil)
}
