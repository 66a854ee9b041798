package command

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// crockford is Crockford's base 32 in lower case, without i, l, o and u.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// newID is a ULID (https://github.com/ulid/spec) in lower case: 48 bits of milliseconds, then 80 random bits.
func newID(now time.Time) batch.ID {
	var raw [16]byte
	_, _ = rand.Read(raw[6:]) // it never fails
	ms := uint64(now.UnixMilli())
	binary.BigEndian.PutUint16(raw[0:2], uint16(ms>>32))
	binary.BigEndian.PutUint32(raw[2:6], uint32(ms))
	var out [26]byte
	high, low := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = crockford[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return batch.ID(out[:])
}

// last stands for the newest batch.
const last = "last"

// resolve finds a batch by its id, by the beginning of its id if that is unique, or as "last".
func resolve(ctx context.Context, led *ledger.Ledger, text string) (batch.Batch, error) {
	id := strings.ToLower(text)
	if _, err := batch.ParseID(id); err == nil {
		b, err := led.Batch(ctx, batch.ID(id))
		if errors.Is(err, store.ErrNotExist) {
			err = stop(ExitNotRun, "there is no batch %s in this ledger", id)
		}
		return b, err
	}
	if text != last && (id == "" || strings.Trim(id, crockford) != "") {
		return batch.Batch{}, stop(ExitUsage, "%q is not a batch: give an id, the beginning of one, or last", archive.EscapeText(text))
	}
	found, err := newest(ctx, led, 2, func(other batch.ID) bool { return text == last || strings.HasPrefix(string(other), id) }, anyBatch)
	switch {
	case err != nil:
		return batch.Batch{}, err
	case len(found) == 0 && text == last:
		return batch.Batch{}, stop(ExitNotRun, "there is no batch in this ledger")
	case len(found) == 0:
		return batch.Batch{}, stop(ExitNotRun, "no batch's id begins with %s", id)
	case len(found) > 1 && text != last:
		return batch.Batch{}, stop(ExitUsage, "several batches begin with %s: %s and %s; give more of the id", id, found[0].ID, found[1].ID)
	}
	return found[0], nil
}

// newest are the last n batches, the newest first, whose id and content are wanted; n 0 means all. Only those whose id is
// wanted are read. What was never submitted, because its submission was interrupted, is left out.
func newest(ctx context.Context, led *ledger.Ledger, n int, wantID func(batch.ID) bool, want func(batch.Batch) bool) ([]batch.Batch, error) {
	var ids []batch.ID
	for id, err := range led.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		if wantID(id) {
			ids = append(ids, id)
		}
	}
	var out []batch.Batch
	for _, id := range slices.Backward(ids) {
		b, err := led.Batch(ctx, id)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !want(b) {
			continue
		}
		if out = append(out, b); len(out) == n {
			break
		}
	}
	return out, nil
}

// Conditions for newest.
func anyID(batch.ID) bool       { return true }
func anyBatch(batch.Batch) bool { return true }

// completed bounds how many batches the shell offers.
const completed = 50

// completeBatch completes the id of a batch as the only argument.
func (a *app) completeBatch(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 || a.flagsFromEnvironment(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	d, err := a.look(cmd, true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer d.close()
	found, err := newest(cmd.Context(), d.ledger, completed, anyID, anyBatch)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := []cobra.Completion{cobra.CompletionWithDesc(last, "the newest batch")}
	for _, b := range found {
		out = append(out, cobra.CompletionWithDesc(string(b.ID), string(b.Kind)+" "+shownRoot(b.Archive)))
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeArchive completes directories as the first argument and nothing after it.
func completeArchive(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}
