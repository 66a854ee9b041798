package inspecting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
)

// kept are the digests that the store keeps of an object, as far as the batch trusts them.
type kept []digest.Digest

// askStore asks the store, where the batch trusts it and asks for digests at all. That is a request of its own.
func (v *inspection) askStore(ctx context.Context) (kept, archive.Object, error) {
	if !v.batch.TrustStoreChecksums || v.batch.Digests.Len() == 0 {
		return nil, archive.Object{}, nil
	}
	sums, object, err := v.store.Checksums(ctx, v.object.Key, v.object.Identity)
	v.moved()
	return sums, object, err
}

// of is the digest of an algorithm.
func (k kept) of(a digest.Algorithm) (digest.Digest, bool) {
	i := slices.IndexFunc(k, func(d digest.Digest) bool { return d.Algorithm() == a })
	if i < 0 {
		return digest.Digest{}, false
	}
	return k[i], true
}

// all are the digests of a set in its order, false if any is missing or none is asked for.
func (k kept) all(set digest.Set) ([]digest.Digest, bool) {
	var out []digest.Digest
	for _, a := range set.Algorithms() {
		d, ok := k.of(a)
		if !ok {
			return nil, false
		}
		out = append(out, d)
	}
	return out, len(out) > 0
}

// with is a set and the algorithms that are kept.
func (k kept) with(set digest.Set) digest.Set {
	for _, d := range k {
		set = set.With(d.Algorithm())
	}
	return set
}

// compare splits what was computed: the digests that the batch asks for, and what is wrong with the content if it is not
// the one of which the store keeps digests, "" if nothing is.
func (k kept) compare(computed []digest.Digest, asked digest.Set) (digests []digest.Digest, wrong string) {
	for _, d := range computed {
		if known, ok := k.of(d.Algorithm()); ok && known != d && wrong == "" {
			wrong = fmt.Sprintf("the store keeps %s of it, but what it sent is %s: its content was damaged, where it is stored or on the way; "+
				"inspect it again, and if it stays so, restore it from a copy", known, d)
		}
		if asked.Has(d.Algorithm()) {
			digests = append(digests, d)
		}
	}
	return digests, wrong
}

// unread is the record of an object that the store vouches for.
func unread(o archive.Object, digests []digest.Digest) batch.Record {
	r := batch.Record{Object: o, Outcome: batch.Done, Digests: digests}
	for _, d := range digests {
		r.FromStore = append(r.FromStore, d.Algorithm())
	}
	return r
}

// mismatchError: the content is not the one of which the store keeps digests.
type mismatchError string

func (e mismatchError) Error() string { return string(e) }

// confirm is err; instead of a mismatch, it is that the content changed while it was read, if it did.
func confirm(ctx context.Context, content *store.Content, err error) error {
	var mismatch mismatchError
	if errors.As(err, &mismatch) {
		return cmp.Or(content.Recheck(ctx), err)
	}
	return err
}
