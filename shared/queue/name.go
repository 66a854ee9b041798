package queue

import (
	"errors"
	"fmt"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// ErrName is wrapped by every error about the parts of a queue's name.
var ErrName = errors.New("invalid queue name")

// DefaultPrefix is the prefix of the queues of a deployment that does not share its Redis with another.
const DefaultPrefix = "reshelf"

// QueueName is <prefix>-<pool>-<priority>. The prefix is 1 to 40 characters of a-z, 0-9 and _: without a dash, so that
// no deployment's queues look like another's. The pool is 1 to 40 characters of a-z, 0-9 and -.
func QueueName(prefix, pool string, p batch.Priority) (string, error) {
	const name = "abcdefghijklmnopqrstuvwxyz0123456789"
	switch {
	case prefix == "" || len(prefix) > 40 || strings.Trim(prefix, name+"_") != "":
		return "", fmt.Errorf("%w: prefix %q: want 1 to 40 of a-z, 0-9 and _", ErrName, archive.EscapeText(prefix))
	case pool == "" || len(pool) > 40 || strings.Trim(pool, name+"-") != "":
		return "", fmt.Errorf("%w: pool %q: want 1 to 40 of a-z, 0-9 and -", ErrName, archive.EscapeText(pool))
	case p.Weight() == 0:
		return "", fmt.Errorf("%w: priority %q: want one of %v", ErrName, archive.EscapeText(string(p)), batch.Priorities())
	}
	return prefix + "-" + pool + "-" + string(p), nil
}

// isOurs reports whether a name of asynq's list is one that QueueName builds with this prefix.
func isOurs(prefix, name string) bool {
	rest, ok := strings.CutPrefix(name, prefix+"-")
	i := strings.LastIndexByte(rest, '-')
	if !ok || i < 0 {
		return false
	}
	built, err := QueueName(prefix, rest[:i], batch.Priority(rest[i+1:]))
	return err == nil && built == name
}

// Asynq's keys (internal/base/base.go), which only [Queues] and [Producer] touch beside asynq itself. Each queue's keys
// share the hash tag {queue}, so one script may use them all in a cluster.
const (
	asynqPrefix = "asynq:"
	allQueues   = asynqPrefix + "queues" // set of names
)

func queueKey(queue, part string) string { return asynqPrefix + "{" + queue + "}:" + part }
