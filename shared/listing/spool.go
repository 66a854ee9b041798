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
// escaped keys, one a line, in ascending order, each with its columns as a JSON object behind it after a tab, if it has any; and
// sealed.json, created if absent, which names the shards in order. Since shards are named by what is in them, whoever repeats
// Spool, or runs it twice at once, finds or makes the same ones.
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

// shardBytes is what a shard's text has at least, except the last one's; one line adds to it.
const shardBytes = 4 << 20

// maxSealed bounds sealed.json, in bytes: 10^10 keys of 100 bytes.
const maxSealed = 256 << 20

// Spool stores the manifest of a batch, sorted and without repetitions, and returns the number of keys. It may be killed
// and be repeated: with the same objects it gives the same manifest, with others it is store.ErrExist once one is stored. It is
// ErrManifest if it names an object again with other columns.
func Spool(ctx context.Context, led *ledger.Ledger, id batch.ID, objects iter.Seq2[Named, error]) (n int64, err error) {
	sorter := extsort.New(led.Store(), string(ledger.Key(id, "manifest", "sort", rand.Text())), extsort.Options{})
	defer func() {
		// The runs are scratch of this call alone, and must not stay behind because the caller was interrupted.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, sorter.Remove(ctx))
	}()
	for o, err := range objects {
		if err != nil {
			return 0, err
		}
		if _, err := archive.ParseKey(string(o.Key)); err != nil {
			return 0, err
		}
		columns, err := columnsText(o.Columns)
		if err != nil {
			return 0, fmt.Errorf("spool manifest: %w", err)
		}
		if err := sorter.Add(ctx, []byte(o.Key), columns); err != nil {
			return 0, fmt.Errorf("spool manifest: %w", err)
		}
	}
	w := &spooler{store: led.Store(), batch: id, whole: sha256.New(), sealed: sealedManifest{V: batch.Version}}
	for item, err := range sorter.Sorted(ctx) {
		if err == nil {
			err = w.add(ctx, archive.Key(item.Key), item.Value)
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
	last   []byte // columns of part.Last
	whole  hash.Hash
	sealed sealedManifest
}

func (w *spooler) add(ctx context.Context, key archive.Key, columns []byte) error {
	if w.sealed.Keys > 0 && key == w.part.Last {
		if !bytes.Equal(columns, w.last) {
			return fmt.Errorf("%w: it names %s more than once, and says different things of it", ErrManifest, key.Text())
		}
		return nil
	}
	w.text.WriteString(key.Text())
	if len(columns) > 0 {
		w.text.WriteByte('\t')
		w.text.Write(columns)
	}
	w.text.WriteByte('\n')
	w.part.Keys++
	w.part.Last, w.last = key, columns
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

func columnsText(columns map[string]string) ([]byte, error) {
	if len(columns) == 0 {
		return nil, nil
	}
	return json.Marshal(columns)
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

// Spooled yields the objects of a batch's manifest, in ascending order of key.
func Spooled(ctx context.Context, led *ledger.Ledger, id batch.ID) iter.Seq2[Named, error] {
	return spooled(ctx, led.Store(), id, "")
}

// spooled yields the objects of a batch's manifest that are strictly after a key, in ascending order of key.
func spooled(ctx context.Context, st store.Store, id batch.ID, after archive.Key) iter.Seq2[Named, error] {
	return func(yield func(Named, error) bool) {
		m, err := readSealed(ctx, st, id)
		if err != nil {
			yield(Named{}, err)
			return
		}
		for _, s := range m.Shards {
			if s.Last <= after {
				continue
			}
			text, err := readShard(ctx, st, id, s)
			if err != nil {
				yield(Named{}, err)
				return
			}
			for line := range bytes.Lines(text) {
				o, err := parseSpooled(line)
				if err == nil && o.Key <= after {
					continue
				}
				if !yield(o, err) || err != nil {
					return
				}
			}
		}
	}
}

func parseSpooled(line []byte) (o Named, err error) {
	key, columns, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"))
	if o.Key, err = archive.ParseKeyText(string(key)); err != nil || len(columns) == 0 {
		return o, err
	}
	if err := json.Unmarshal(columns, &o.Columns); err != nil {
		return Named{}, fmt.Errorf("columns of %s: %w: %w", o.Key.Text(), ledger.ErrCorrupt, err)
	}
	return o, nil
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
