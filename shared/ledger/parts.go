package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// Header is the first line of every stored segment, part and partial, in plain JSON; the zstd-compressed JSON lines follow.
// Recovery reads only headers.
type Header struct {
	V int `json:"v"`
	batch.Ref
	Epoch    int64        `json:"epoch,omitempty"`
	Objects  int64        `json:"objects"`
	Bytes    int64        `json:"bytes,omitempty"`
	Excluded int64        `json:"excluded,omitempty"`
	Counts   batch.Counts `json:"counts,omitzero"`
	// Last is the last key of a segment.
	Last archive.Key `json:"last,omitempty"`
	// End: no segment of the step follows. Since a segment is created if absent, the end is decided once, as each
	// segment is.
	End bool `json:"end,omitempty"`
}

// maxHeader bounds a header line, in bytes.
const maxHeader = 64 << 10

// CreateSegment stores a segment: store.ErrExist if another lister made that segment first (adopt theirs).
func (l *Ledger) CreateSegment(ctx context.Context, ref batch.Ref, seg batch.Segment) (Header, error) {
	h := Header{V: batch.Version, Ref: ref, Objects: int64(len(seg.Objects)), Bytes: seg.Bytes(), Excluded: seg.Excluded, End: seg.End}
	if n := len(seg.Objects); n > 0 {
		h.Last = seg.Objects[n-1].Key
	}
	w, err := newSpool()
	if err != nil {
		return h, err
	}
	defer w.Close()
	for i := range seg.Objects {
		if err := w.Encode(&seg.Objects[i]); err != nil {
			return h, fmt.Errorf("segment %s: %w", ref, err)
		}
	}
	return h, w.store(ctx, l.store, segmentKey(ref), h)
}

func segmentKey(ref batch.Ref) archive.Key {
	return Key(ref.Batch, "segments", string(ref.Step), number(ref.Generation), number(ref.Segment))
}

func partKey(ref batch.Ref) archive.Key {
	return Key(ref.Batch, "records", string(ref.Step), number(ref.Generation), number(ref.Segment))
}

func partialPrefix(ref batch.Ref) string {
	return string(Key(ref.Batch, "partial", string(ref.Step), number(ref.Generation), number(ref.Segment), ""))
}

// Segment reads a segment: store.ErrNotExist if it was not made yet.
func (l *Ledger) Segment(ctx context.Context, ref batch.Ref) (batch.Segment, error) {
	var seg batch.Segment
	h, err := l.scan(ctx, segmentKey(ref), ref, func(dec *json.Decoder) error {
		var o batch.Listed
		if err := dec.Decode(&o); err != nil {
			return err
		}
		seg.Objects = append(seg.Objects, o)
		return nil
	})
	seg.Excluded, seg.End = h.Excluded, h.End
	if err == nil && int64(len(seg.Objects)) != h.Objects {
		err = fmt.Errorf("segment %s: %d objects, its header says %d: %w", ref, len(seg.Objects), h.Objects, ErrCorrupt)
	}
	return seg, err
}

// SegmentHeader reads only the header of a segment.
func (l *Ledger) SegmentHeader(ctx context.Context, ref batch.Ref) (Header, error) {
	return l.header(ctx, segmentKey(ref), ref)
}

// PartHeader reads only the header of a part: store.ErrNotExist if the segment has none yet.
func (l *Ledger) PartHeader(ctx context.Context, ref batch.Ref) (Header, error) {
	return l.header(ctx, partKey(ref), ref)
}

// Segments counts the segments of a step that were made so far. They are made in order without gaps.
func (l *Ledger) Segments(ctx context.Context, id batch.ID, step batch.Step, generation int) (int, error) {
	n := 0
	for name, err := range l.names(ctx, string(Key(id, "segments", string(step), number(generation), ""))) {
		if err != nil {
			return 0, err
		}
		if i, err := strconv.Atoi(name); err == nil {
			n = i + 1
		}
	}
	return n, nil
}

// Parts yields the numbers of the segments of a step that have their part.
func (l *Ledger) Parts(ctx context.Context, id batch.ID, step batch.Step, generation int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for name, err := range l.names(ctx, string(Key(id, "records", string(step), number(generation), ""))) {
			n, convErr := strconv.Atoi(name)
			if err == nil && convErr != nil {
				continue
			}
			if !yield(n, err) || err != nil {
				return
			}
		}
	}
}

// Part yields the records of a segment's part.
func (l *Ledger) Part(ctx context.Context, ref batch.Ref) iter.Seq2[batch.Record, error] {
	return l.records(ctx, partKey(ref), ref)
}

// Records yields the records of all parts of a step, in order of segment.
func (l *Ledger) Records(ctx context.Context, id batch.ID, step batch.Step, generation int) iter.Seq2[batch.Record, error] {
	return func(yield func(batch.Record, error) bool) {
		for n, err := range l.Parts(ctx, id, step, generation) {
			if err != nil {
				yield(batch.Record{}, err)
				return
			}
			ref := batch.Ref{Batch: id, Step: step, Generation: generation, Segment: n}
			for r, err := range l.Part(ctx, ref) {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// Partial returns what interrupted executions of a segment had finished, by key; later epochs win. A segment bounds it.
func (l *Ledger) Partial(ctx context.Context, ref batch.Ref) (map[archive.Key]batch.Record, error) {
	out := map[archive.Key]batch.Record{}
	prefix := partialPrefix(ref)
	for name, err := range l.names(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		for r, err := range l.records(ctx, archive.Key(prefix+name), ref) {
			if err != nil {
				return nil, err
			}
			out[r.Key] = r
		}
	}
	return out, nil
}

func (l *Ledger) records(ctx context.Context, key archive.Key, ref batch.Ref) iter.Seq2[batch.Record, error] {
	return func(yield func(batch.Record, error) bool) {
		var n int64
		h, err := l.scan(ctx, key, ref, func(dec *json.Decoder) error {
			var r batch.Record
			if err := dec.Decode(&r); err != nil {
				return err
			}
			n++
			if !yield(r, nil) {
				return errStopped
			}
			return nil
		})
		if err == nil && n != h.Objects {
			err = fmt.Errorf("%s: %d records, its header says %d: %w", key, n, h.Objects, ErrCorrupt)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(batch.Record{}, err)
		}
	}
}

// scan opens a stored file, checks its header against ref, and calls each until the lines end.
func (l *Ledger) scan(ctx context.Context, key archive.Key, ref batch.Ref, each func(*json.Decoder) error) (Header, error) {
	c, err := l.store.Open(ctx, key, 0, -1, archive.Identity{})
	if err != nil {
		return Header{}, err
	}
	defer c.Close()
	source := &sourceReader{r: c}
	br := bufio.NewReaderSize(source, maxHeader)
	h, err := parseHeader(br, key, ref)
	if err != nil {
		return h, err
	}
	zr, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return h, fmt.Errorf("%s: %w", key, err)
	}
	defer zr.Close()
	dec := json.NewDecoder(zr)
	for {
		if err := ctx.Err(); err != nil {
			return h, err
		}
		err := each(dec)
		switch {
		case errors.Is(err, io.EOF):
			return h, nil
		case errors.Is(err, errStopped):
			return h, err
		case err != nil && source.err != nil:
			return h, fmt.Errorf("read %s: %w", key, source.err)
		case err != nil:
			return h, fmt.Errorf("%s: %w: %w", key, ErrCorrupt, err)
		}
	}
}

// errStopped: the caller wants no more lines.
var errStopped = errors.New("stopped")

// sourceReader remembers the error of a store, so that a fault of the store is not taken for damage.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func parseHeader(br *bufio.Reader, key archive.Key, ref batch.Ref) (Header, error) {
	var h Header
	line, err := br.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return h, fmt.Errorf("read %s: %w", key, err)
	}
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	if err != nil {
		return h, fmt.Errorf("%s: header: %w: %w", key, ErrCorrupt, err)
	}
	if h.V != batch.Version || h.Ref != ref {
		return h, fmt.Errorf("%s: header is of %s, version %d: %w", key, h.Ref, h.V, ErrCorrupt)
	}
	return h, nil
}

func (l *Ledger) header(ctx context.Context, key archive.Key, ref batch.Ref) (Header, error) {
	c, err := l.store.Open(ctx, key, 0, maxHeader, archive.Identity{})
	if err != nil {
		return Header{}, err
	}
	defer c.Close()
	return parseHeader(bufio.NewReaderSize(c, maxHeader), key, ref)
}

// PartWriter collects the records of one execution. It is not safe for concurrent use. Close it whatever happens.
type PartWriter struct {
	ref    batch.Ref
	epoch  int64
	counts batch.Counts
	spool  *spool
}

// NewPartWriter starts a part of an execution with the given epoch.
func NewPartWriter(ref batch.Ref, epoch int64) (*PartWriter, error) {
	s, err := newSpool()
	return &PartWriter{ref: ref, epoch: epoch, spool: s}, err
}

// Add appends a record.
func (w *PartWriter) Add(r batch.Record) error {
	r.Epoch = w.epoch
	if err := w.spool.Encode(&r); err != nil {
		return fmt.Errorf("record of %s: %w", r.Key.Text(), err)
	}
	w.counts.Add(r)
	return nil
}

// Counts of the records added so far.
func (w *PartWriter) Counts() batch.Counts { return w.counts }

// Close frees the writer; it may be repeated.
func (w *PartWriter) Close() { w.spool.Close() }

func (w *PartWriter) header() Header {
	return Header{V: batch.Version, Ref: w.ref, Epoch: w.epoch, Objects: w.counts.Objects(), Counts: w.counts}
}

// CreatePart stores the part and returns its header. If the segment has a part already, that one stands and its header is
// returned with ours false: the caller settles from the winner's content.
func (l *Ledger) CreatePart(ctx context.Context, w *PartWriter) (h Header, ours bool, err error) {
	h = w.header()
	err = w.spool.store(ctx, l.store, partKey(w.ref), h)
	if errors.Is(err, store.ErrExist) {
		h, err = l.PartHeader(ctx, w.ref)
		return h, err == nil && h.Epoch == w.epoch, err
	}
	return h, err == nil, err
}

// SavePartial stores what an interrupted execution has finished so far: store.ErrExist if that epoch has saved before.
func (l *Ledger) SavePartial(ctx context.Context, w *PartWriter) error {
	if w.counts.Objects() == 0 {
		return nil
	}
	return w.spool.store(ctx, l.store, archive.Key(partialPrefix(w.ref)+epochText(w.epoch)), w.header())
}

// spool holds compressed JSON lines, in memory while they are few and in an unlinked temporary file above that.
type spool struct {
	zw   *zstd.Encoder
	enc  *json.Encoder
	mem  bytes.Buffer
	file *os.File
}

// spoolMemory is what a spool holds in memory, in bytes.
const spoolMemory = 8 << 20

func newSpool() (*spool, error) {
	s := &spool{}
	zw, err := zstd.NewWriter(s.sink(), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	s.zw, s.enc = zw, json.NewEncoder(zw)
	s.enc.SetEscapeHTML(false)
	return s, nil
}

func (s *spool) Encode(v any) error { return s.enc.Encode(v) }

func (s *spool) sink() io.Writer { return writerFunc(s.write) }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (s *spool) write(p []byte) (int, error) {
	if s.file == nil && s.mem.Len()+len(p) <= spoolMemory {
		return s.mem.Write(p)
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "reshelf-spool-")
		if err != nil {
			return 0, err
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return 0, err
		}
		if _, err := s.mem.WriteTo(f); err != nil {
			return 0, err
		}
	}
	return s.file.Write(p)
}

// store ends the current zstd frame and creates the object; more may be encoded afterwards (frames concatenate).
func (s *spool) store(ctx context.Context, st store.Store, key archive.Key, h Header) error {
	if err := s.zw.Close(); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	defer s.zw.Reset(s.sink())
	head, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	var body io.Reader = bytes.NewReader(s.mem.Bytes())
	if s.file != nil {
		body = io.NewSectionReader(s.file, 0, 1<<62)
	}
	return st.Create(ctx, key, io.MultiReader(bytes.NewReader(append(head, '\n')), body))
}

func (s *spool) Close() {
	if s == nil {
		return
	}
	s.zw.Close()
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

func compress(raw []byte) io.Reader {
	var buf bytes.Buffer
	zw, err := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return failed{err}
	}
	if _, err := zw.Write(raw); err != nil {
		return failed{err}
	}
	if err := zw.Close(); err != nil {
		return failed{err}
	}
	return &buf
}

type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

func (l *Ledger) readCompressed(ctx context.Context, key archive.Key) ([]byte, error) {
	raw, err := l.read(ctx, key)
	if err != nil {
		return nil, err
	}
	zr, err := zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSmall))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	defer zr.Close()
	out, err := io.ReadAll(io.LimitReader(zr, maxSmall))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", key, ErrCorrupt, err)
	}
	return out, nil
}
