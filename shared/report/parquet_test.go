package report_test

import (
	"bytes"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
)

// rowGroups are the uncompressed sizes of a file's row groups.
func rowGroups(t *testing.T, file []byte) (sizes []int64) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range f.Metadata().RowGroups {
		sizes = append(sizes, g.TotalByteSize)
	}
	return sizes
}

// TestCatalogueSchema freezes the columns: tools that users wrote depend on them.
func TestCatalogueSchema(t *testing.T) {
	golden(t, "catalogue.schema", []byte(parquet.SchemaOf(report.CatalogueRow{}).String()+"\n"))
}

// TestUnknownIsNull reads a file without the Go schema, as other programs do.
func TestUnknownIsNull(t *testing.T) {
	var buf bytes.Buffer
	w := report.NewCatalogueWriter(&buf, report.CatalogueOptions{})
	check(t, w.Add(batch.Record{Object: archive.Object{Key: "a"}, Outcome: batch.Done}))
	check(t, w.Close())
	f, err := parquet.OpenFile(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	check(t, err)
	rows := make([]parquet.Row, 1)
	reader := f.RowGroups()[0].Rows()
	defer reader.Close()
	if n, _ := reader.ReadRows(rows); n != 1 {
		t.Fatalf("%d rows, want 1", n)
	}
	known := map[string]bool{"key": true, "outcome": true, "size": true}
	for _, v := range rows[0] {
		name := f.Schema().Columns()[v.Column()][0]
		if v.IsNull() == known[name] {
			t.Errorf("column %s: null is %v, want %v", name, v.IsNull(), !known[name])
		}
	}
}
