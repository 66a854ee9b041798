package listing

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// A spooled manifest is below batches/<id>/manifest/: shards named by the SHA-256 of their text, each a zstd frame of
// escaped keys, one a line, in ascending order; and sealed.json, created if absent, which names the shards in order. Since
// shards are named by what is in them, whoever repeats Spool, or runs it twice at once, finds or makes the same ones.
type sealedManifest struct {
	V    int   `json:"v"`
	Keys int64 `json:"keys"`
	// SHA256 (hex) of the text of all shards.
	SHA256 string  `json:"sha256"`
	Shards []shard `json:"shards"`
}

type shard struct {
	SHA256 string      `json:"sha256"`
	Keys   int         `json:"keys"`
	Last   archive.Key `json:"last"`
}

// shardBytes is what a shard's text has at least, except the last one's; a key's text adds to it at most once.
const shardBytes = 4 << 20

// maxSealed bounds sealed.json, in bytes: 10^10 keys of 100 bytes.
const maxSealed = 256 << 20

// Spool stores the manifest of a batch, sorted and without repetitions, and returns the number of keys. It may be killed
// and be repeated: with the same keys it gives the same manifest, with others it is store.ErrExist once one is stored.
func Spool(ctx context.Context, led *ledger.Ledger, id batch.ID, keys iter.Seq2[archive.Key, error]) (n int64, err error) {
	sorter := extsort.New(led.Store(), string(ledger.Key(id, "manifest", "sort", rand.Text())), extsort.Options{})
	defer func() {
		// The runs are scratch of this call alone, and must not stay behind because the caller was interrupted.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, sorter.Remove(ctx))
	}()
	for key, err := range keys {
		if err != nil {
			return 0, err
		}
		if _, err := archive.ParseKey(string(key)); err != nil {
			return 0, err
		}
		if err := sorter.Add(ctx, []byte(key), nil); err != nil {
			return 0, fmt.Errorf("spool manifest: %w", err)
		}
	}
	w := &spooler{store: led.Store(), batch: id, whole: sha256.New(), sealed: sealedManifest{V: batch.Version}}
	for item, err := range sorter.Sorted(ctx) {
		if err == nil {
			err = w.add(ctx, archive.Key(item.Key))
		}
		if err != nil {
			return 0, fmt.Errorf("spool manifest: %w", err)
		}
	}
	return w.seal(ctx)
}

// spooler writes sorted keys as shards.
type spooler struct {
	store  store.Store
	batch  batch.ID
	text   bytes.Buffer
	part   shard
	whole  hash.Hash
	sealed sealedManifest
}

func (w *spooler) add(ctx context.Context, key archive.Key) error {
	if w.sealed.Keys > 0 && key == w.part.Last {
		return nil
	}
	w.text.WriteString(key.Text())
	w.text.WriteByte('\n')
	w.part.Keys++
	w.part.Last = key
	w.sealed.Keys++
	if w.text.Len() < shardBytes {
		return nil
	}
	return w.flush(ctx)
}

func (w *spooler) flush(ctx context.Context) error {
	if w.part.Keys == 0 {
		return nil
	}
	sum := sha256.Sum256(w.text.Bytes())
	w.part.SHA256 = hex.EncodeToString(sum[:])
	w.whole.Write(w.text.Bytes())
	zw, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	err = w.store.Create(ctx, shardKey(w.batch, w.part), bytes.NewReader(zw.EncodeAll(w.text.Bytes(), nil)))
	if err != nil && !errors.Is(err, store.ErrExist) {
		return err
	}
	w.sealed.Shards = append(w.sealed.Shards, w.part)
	w.part.Keys = 0
	w.text.Reset()
	return nil
}

func (w *spooler) seal(ctx context.Context) (int64, error) {
	if err := w.flush(ctx); err != nil {
		return 0, fmt.Errorf("spool manifest: %w", err)
	}
	w.sealed.SHA256 = hex.EncodeToString(w.whole.Sum(nil))
	raw, err := json.Marshal(w.sealed)
	if err != nil {
		return 0, fmt.Errorf("spool manifest: %w", err)
	}
	err = w.store.Create(ctx, sealedKey(w.batch), bytes.NewReader(append(raw, '\n')))
	if !errors.Is(err, store.ErrExist) {
		return w.sealed.Keys, err
	}
	there, err := readSealed(ctx, w.store, w.batch)
	if err == nil && there.SHA256 != w.sealed.SHA256 {
		err = fmt.Errorf("manifest of batch %s, with %d keys that are not these %d: %w",
			w.batch, there.Keys, w.sealed.Keys, store.ErrExist)
	}
	return there.Keys, err
}

func shardKey(id batch.ID, s shard) archive.Key {
	return ledger.Key(id, "manifest", "shards", s.SHA256)
}

func sealedKey(id batch.ID) archive.Key { return ledger.Key(id, "manifest", "sealed.json") }

func readSealed(ctx context.Context, st store.Store, id batch.ID) (sealedManifest, error) {
	var m sealedManifest
	raw, err := readAll(ctx, st, sealedKey(id), maxSealed)
	if err != nil {
		return m, fmt.Errorf("manifest of batch %s: %w", id, err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("%s: %w: %w", sealedKey(id), ledger.ErrCorrupt, err)
	}
	if m.V != batch.Version {
		return m, fmt.Errorf("%s: version %d; this program knows %d: %w", sealedKey(id), m.V, batch.Version, ledger.ErrCorrupt)
	}
	return m, nil
}

// spooled yields the keys of a batch's manifest that are strictly after a key, in ascending order.
func spooled(ctx context.Context, st store.Store, id batch.ID, after archive.Key) iter.Seq2[archive.Key, error] {
	return func(yield func(archive.Key, error) bool) {
		m, err := readSealed(ctx, st, id)
		if err != nil {
			yield("", err)
			return
		}
		for _, s := range m.Shards {
			if s.Last <= after {
				continue
			}
			text, err := readShard(ctx, st, id, s)
			if err != nil {
				yield("", err)
				return
			}
			for line := range bytes.Lines(text) {
				key, err := archive.ParseKeyText(string(bytes.TrimSuffix(line, []byte("\n"))))
				if err == nil && key <= after {
					continue
				}
				if !yield(key, err) || err != nil {
					return
				}
			}
		}
	}
}

func readShard(ctx context.Context, st store.Store, id batch.ID, s shard) ([]byte, error) {
	key := shardKey(id, s)
	raw, err := readAll(ctx, st, key, 2*shardBytes)
	if err != nil {
		return nil, err
	}
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*shardBytes))
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	text, err := zr.DecodeAll(raw, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", key, ledger.ErrCorrupt, err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != s.SHA256 {
		return nil, fmt.Errorf("%s: its text is another: %w", key, ledger.ErrCorrupt)
	}
	return text, nil
}

func readAll(ctx context.Context, st store.Store, key archive.Key, limit int64) ([]byte, error) {
	c, err := st.Open(ctx, key, 0, -1, archive.Identity{})
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(c, limit+1))
	err = errors.Join(err, c.Close())
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("larger than %d bytes: %w", limit, ledger.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return raw, nil
}
