package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

const (
	batchesPrefix = "batches/"
	batchFile     = "batch.json"
	// firstLook is how far back the first look for the newest batches goes; each further one goes lookFactor as far.
	firstLook  = time.Hour
	lookFactor = 8
	// longAgo is before the first batch of all: a look that far back reads everything.
	longAgo = 100 * 365 * 24 * time.Hour
)

// Newest returns the ids of the newest n batches, newest first; fewer if there are fewer. Ids begin with the time of
// submission, so it looks back an hour, then eight hours, and so on, and reads only what lies in the last of these
// spans: of a ledger that was filled evenly some ten times n small files, however many there are. Folders in which no
// batch was stored, because its submission was interrupted, are left out.
func (l *Ledger) Newest(ctx context.Context, n int) ([]batch.ID, error) {
	now := time.Now()
	for back := firstLook; ; back *= lookFactor {
		after := archive.Key(batchesPrefix + timeText(now.Add(-back)))
		if back > longAgo {
			after = ""
		}
		ids, err := l.newestAfter(ctx, after, n)
		if err != nil {
			return nil, fmt.Errorf("list the newest batches: %w", err)
		}
		if len(ids) == n || after == "" {
			slices.Reverse(ids)
			return ids, nil
		}
	}
}

// newestAfter returns the last n batches whose keys are greater than after, oldest first.
func (l *Ledger) newestAfter(ctx context.Context, after archive.Key, n int) ([]batch.ID, error) {
	var ids []batch.ID
	for e, err := range l.store.List(ctx, store.ListOptions{Prefix: batchesPrefix, After: after, Skip: notBatchFile}) {
		if err != nil {
			return nil, err
		}
		if e.Kind == store.Unreadable {
			return nil, e.Err
		}
		id, err := batch.ParseID(strings.TrimSuffix(strings.TrimPrefix(string(e.Key), batchesPrefix), "/"+batchFile))
		if err != nil {
			continue
		}
		if ids = append(ids, id); len(ids) >= 2*n {
			ids = append(ids[:0], ids[len(ids)-n:]...)
		}
	}
	return ids[max(0, len(ids)-n):], nil
}

// notBatchFile skips all that is in the folder of a batch, but for its submission.
func notBatchFile(key archive.Key, dir bool) bool {
	if dir {
		return strings.Count(string(key), "/") > 1
	}
	return key.Base() != batchFile
}

// timeText is how the id of a batch submitted at t begins: 48 bits of milliseconds in base 32
// (https://github.com/ulid/spec).
func timeText(t time.Time) string {
	const crockford = "0123456789abcdefghjkmnpqrstvwxyz"
	var out [10]byte
	ms := uint64(max(0, t.UnixMilli()))
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = crockford[ms&31]
		ms >>= 5
	}
	return string(out[:])
}
