package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
)

// CatalogueRow is one final record in the catalogue. Its schema is the same for every batch; columns are only appended.
// A zero value in an optional column is stored as null: unknown.
type CatalogueRow struct {
	// Key and To are in their escaped form; KeyRaw and ToRaw are the bytes that the store uses, where they differ.
	Key    string `parquet:"key"`
	KeyRaw []byte `parquet:"key_raw,optional"`
	// To is the key that the object has now, where the batch renamed it.
	To      string `parquet:"to,optional"`
	ToRaw   []byte `parquet:"to_raw,optional"`
	Outcome string `parquet:"outcome,dict"`
	Reason  string `parquet:"reason,optional,dict"`
	Message string `parquet:"message,optional"`
	Size    int64  `parquet:"size"` // bytes
	// MTime is the modification time in nanoseconds since the Unix epoch, a TIMESTAMP in UTC.
	MTime   int64  `parquet:"mtime,optional,timestamp(nanosecond)"`
	Inode   uint64 `parquet:"inode,optional"`
	ETag    string `parquet:"etag,optional"`
	Version string `parquet:"version,optional"`

	// Digests in lower-case hexadecimal.
	CRC32   string `parquet:"crc32,optional"`
	CRC32C  string `parquet:"crc32c,optional"`
	MD5     string `parquet:"md5,optional"`
	SHA1    string `parquet:"sha1,optional"`
	SHA256  string `parquet:"sha256,optional"`
	SHA512  string `parquet:"sha512,optional"`
	BLAKE3  string `parquet:"blake3,optional"`
	XXH364  string `parquet:"xxh3_64,optional"`
	XXH3128 string `parquet:"xxh3_128,optional"`

	// CaptureWall is the camera's clock as it was written, CaptureOffset its UTC offset, CaptureSource the tag that both
	// came from. CaptureTime is the instant, a TIMESTAMP in UTC, null where the offset is unknown.
	CaptureWall   string `parquet:"capture_wall,optional"`
	CaptureOffset string `parquet:"capture_offset,optional,dict"`
	CaptureTime   int64  `parquet:"capture_time,optional,timestamp(nanosecond)"`
	CaptureSource string `parquet:"capture_source,optional,dict"`

	Make     string  `parquet:"make,optional,dict"`
	Model    string  `parquet:"model,optional,dict"`
	Lens     string  `parquet:"lens,optional,dict"`
	Serial   string  `parquet:"serial,optional,dict"`
	Width    int64   `parquet:"width,optional"`    // pixels
	Height   int64   `parquet:"height,optional"`   // pixels
	Duration float64 `parquet:"duration,optional"` // seconds
	MIME     string  `parquet:"mime,optional,dict"`
	// Latitude and Longitude are degrees, WGS 84, north and east positive.
	Latitude  *float64 `parquet:"latitude,optional"`
	Longitude *float64 `parquet:"longitude,optional"`
	// ExifTool is the version that read the tags.
	ExifTool string `parquet:"exiftool,optional,dict"`
	// Tags are all tags: a text as it is, a structure or a list as its JSON text.
	Tags map[string]string `parquet:"tags" parquet-key:",dict"`

	// CRC64NVME is a digest like those above.
	CRC64NVME string `parquet:"crc64nvme,optional"`
	// FromStore are the algorithms of the digests that the store vouches for and nobody computed, "crc32,sha256".
	FromStore string `parquet:"from_store,optional,dict"`
	// Sidecars are the keys of the XMP sidecars that describe the object, in their escaped form, the whole name first.
	Sidecars []string `parquet:"sidecars,list"`
	// Copy is the key of the copy or hard link that the batch made of the object, in its escaped form.
	Copy    string `parquet:"copy,optional"`
	CopyRaw []byte `parquet:"copy_raw,optional"`
}

// NewCatalogueRow is the row of a final record.
func NewCatalogueRow(r batch.Record) CatalogueRow {
	row := CatalogueRow{
		Outcome: string(r.Outcome), Reason: string(r.Reason), Message: valid(r.Message),
		Size: r.Size, MTime: r.MTime, Inode: r.Inode, ETag: valid(r.ETag), Version: valid(r.Version),
		ExifTool: valid(r.ExifTool), Tags: make(map[string]string, len(r.Tags)),
	}
	var fromStore digest.Set
	for _, a := range r.FromStore {
		fromStore = fromStore.With(a)
	}
	row.FromStore = fromStore.String()
	row.Key, row.KeyRaw = keyColumns(r.Key)
	row.To, row.ToRaw = keyColumns(r.To)
	row.Copy, row.CopyRaw = keyColumns(r.Copy)
	for _, s := range r.Sidecars {
		row.Sidecars = append(row.Sidecars, s.Text())
	}
	for _, d := range r.Digests {
		if column := row.digest(d.Algorithm()); column != nil {
			*column = d.Hex()
		}
	}
	if r.Facts != nil {
		row.facts(*r.Facts)
	}
	for name, value := range r.Tags {
		row.Tags[valid(name)] = tagText(value)
	}
	return row
}

func keyColumns(k archive.Key) (text string, raw []byte) {
	if text = k.Text(); text != string(k) {
		raw = []byte(k)
	}
	return text, raw
}

// digest is the column of an algorithm, nil for one that the catalogue does not know.
func (row *CatalogueRow) digest(a digest.Algorithm) *string {
	switch a {
	case digest.CRC32:
		return &row.CRC32
	case digest.CRC32C:
		return &row.CRC32C
	case digest.MD5:
		return &row.MD5
	case digest.SHA1:
		return &row.SHA1
	case digest.SHA256:
		return &row.SHA256
	case digest.SHA512:
		return &row.SHA512
	case digest.BLAKE3:
		return &row.BLAKE3
	case digest.XXH364:
		return &row.XXH364
	case digest.XXH3128:
		return &row.XXH3128
	case digest.CRC64NVME:
		return &row.CRC64NVME
	}
	return nil
}

func (row *CatalogueRow) facts(f metadata.Facts) {
	row.CaptureWall, row.CaptureOffset, row.CaptureSource = valid(f.Capture.Wall), valid(f.Capture.Offset), valid(f.Capture.Source)
	row.CaptureTime = captureTime(f.Capture)
	row.Make, row.Model, row.Lens, row.Serial = valid(f.Make), valid(f.Model), valid(f.Lens), valid(f.Serial)
	row.Width, row.Height, row.Duration, row.MIME = int64(f.Width), int64(f.Height), f.Duration, valid(f.MIME)
	row.Latitude, row.Longitude = f.Latitude, f.Longitude
}

// captureTime is the instant in nanoseconds since the Unix epoch, 0 where it is unknown or outside of what 64 bits of
// nanoseconds hold (years 1678 to 2261).
func captureTime(c metadata.Time) int64 {
	if c.Offset == "" {
		return 0
	}
	t, err := time.Parse("2006-01-02T15:04:05Z07:00", c.Wall+c.Offset)
	if err != nil || t.Year() < 1678 || t.Year() > 2261 {
		return 0
	}
	return t.UnixNano()
}

// tagText is a string value as its text, null as no text, any other value as its JSON text.
func tagText(value json.RawMessage) string {
	s, ok := metadata.TextOf(value)
	if !ok && string(value) != "null" {
		s = string(value)
	}
	return valid(s)
}

// valid replaces what is not UTF-8: Parquet strings must be.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// bytes estimates the size of the row's values, uncompressed.
func (row *CatalogueRow) bytes() int64 {
	const fixed = 512 // the numbers, and what each column keeps of a row besides its value
	n := fixed + len(row.KeyRaw) + len(row.ToRaw) + len(row.CopyRaw)
	for _, s := range []string{
		row.Key, row.To, row.Copy, row.Outcome, row.Reason, row.Message, row.ETag, row.Version,
		row.CRC32, row.CRC32C, row.MD5, row.SHA1, row.SHA256, row.SHA512, row.BLAKE3, row.XXH364, row.XXH3128, row.CRC64NVME, row.FromStore,
		row.CaptureWall, row.CaptureOffset, row.CaptureSource, row.Make, row.Model, row.Lens, row.Serial, row.MIME, row.ExifTool,
	} {
		n += len(s)
	}
	for _, s := range row.Sidecars {
		n += len(s)
	}
	for name, value := range row.Tags {
		n += len(name) + len(value)
	}
	return int64(n)
}

// DefaultRowGroup is the default of CatalogueOptions.RowGroup.
const DefaultRowGroup = 16 << 20

// CatalogueOptions of a CatalogueWriter; the zero value works.
type CatalogueOptions struct {
	// RowGroup bounds the values of a row group, uncompressed, in bytes; a single row may be larger. It bounds the
	// memory of writers and readers. Defaults to DefaultRowGroup.
	RowGroup int64
}

// CatalogueWriter writes one shard of the catalogue as Parquet, compressed with zstd.
type CatalogueWriter struct {
	w     *parquet.GenericWriter[CatalogueRow]
	limit int64
	group int64 // bytes in the current row group
	rows  int64
}

// NewCatalogueWriter starts a shard on w. Close it.
func NewCatalogueWriter(w io.Writer, opts CatalogueOptions) *CatalogueWriter {
	if opts.RowGroup <= 0 {
		opts.RowGroup = DefaultRowGroup
	}
	return &CatalogueWriter{
		limit: opts.RowGroup,
		w: parquet.NewGenericWriter[CatalogueRow](w,
			// The fastest level has the smallest window: the encoder's memory counts more here than a few percent of size.
			parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
			// Minimum and maximum of texts that nobody filters by would only make the footer large.
			parquet.SkipPageBounds("message"),
			parquet.SkipPageBounds("tags", "key_value", "key"),
			parquet.SkipPageBounds("tags", "key_value", "value")),
	}
}

// Add writes one record.
func (w *CatalogueWriter) Add(r batch.Record) error {
	rows := [1]CatalogueRow{NewCatalogueRow(r)}
	if _, err := w.w.Write(rows[:]); err != nil {
		return fmt.Errorf("catalogue: %s: %w", r.Key.Text(), err)
	}
	w.rows++
	w.group += rows[0].bytes()
	if w.group < w.limit {
		return nil
	}
	w.group = 0
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("catalogue: %w", err)
	}
	return nil
}

// Rows is the number of records added.
func (w *CatalogueWriter) Rows() int64 { return w.rows }

// Close ends the file. It does not close the underlying writer.
func (w *CatalogueWriter) Close() error {
	if err := w.w.Close(); err != nil {
		return fmt.Errorf("catalogue: %w", err)
	}
	return nil
}

// Catalogue yields the rows of one shard of size bytes, in order. An error ends it.
func Catalogue(r io.ReaderAt, size int64) iter.Seq2[CatalogueRow, error] {
	return func(yield func(CatalogueRow, error) bool) {
		f, err := parquet.OpenFile(r, size)
		if err != nil {
			yield(CatalogueRow{}, fmt.Errorf("catalogue: %w", err))
			return
		}
		pr := parquet.NewGenericReader[CatalogueRow](f)
		defer pr.Close()
		for {
			rows := make([]CatalogueRow, 64) // fresh for each read, since rows refer to it
			n, err := pr.Read(rows)
			for _, row := range rows[:n] {
				if !yield(row, nil) {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(CatalogueRow{}, fmt.Errorf("catalogue: %w", err))
				return
			}
		}
	}
}
