package finishing

import (
	"context"
	"iter"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
)

// FinishInShards is Finish with shards of that many rows, and sorters that hold that many bytes.
func FinishInShards(
	ctx context.Context, hold Hold, led *ledger.Ledger, b batch.Batch, st batch.Status, now time.Time, rows int64, sortMemory int,
) error {
	f := newFinish(hold, led, b, st, now)
	f.shardRows, f.sort.Memory = rows, sortMemory
	return f.run(ctx)
}

// GroupMemory is the number of keys of a group of duplicates that are held in memory.
const GroupMemory = groupMemory

// Ahead is ahead.
func Ahead[T any](ctx context.Context, seq func(context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return ahead(ctx, seq)
}
