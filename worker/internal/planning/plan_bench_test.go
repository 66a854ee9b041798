package planning_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// What `make bench-plan` sets, see .ci/bench-plan: how many objects the batch has, and where its ledger is kept, so that a process
// that makes it is not the one that is measured.
const (
	benchRows   = "RESHELF_BENCH_PLAN_ROWS"
	benchLedger = "RESHELF_BENCH_PLAN_LEDGER"
)

// Of a synthetic archive: 1,000 frames in each folder, four in each second. In every fifth folder they are numbered from 0, in the others
// from 1.
const (
	framesOfFolder = 1000
	framesOfSecond = 4
	shiftedFolders = 5
)

func frameKey(i int) archive.Key {
	folder, frame := i/framesOfFolder, i%framesOfFolder
	if folder%shiftedFolders != 0 {
		frame++
	}
	return archive.Key(fmt.Sprintf("card-%05d/%05d.jpg", folder, frame))
}

func frame(i int) archive.Object {
	return archive.Object{Key: frameKey(i), Identity: archive.Identity{Size: 5<<20 + int64(i), MTime: 1_700_000_000_000_000_000 + int64(i), Inode: uint64(i) + 1}}
}

// frameRecord is what inspecting a frame amounts to, with as many tags as a modest camera writes.
func frameRecord(i int) (batch.Record, error) {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	d, err := digest.New(digest.SHA256, sum[:])
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i/framesOfSecond) * time.Second)
	tags := metadata.Tags{}
	for name, text := range map[string]string{
		"ExifIFD:DateTimeOriginal": at.Format("2006:01:02 15:04:05"), "ExifIFD:CreateDate": at.Format("2006:01:02 15:04:05"), "IFD0:ModifyDate": at.Format("2006:01:02 15:04:05"),
		"IFD0:Make": "Canon", "IFD0:Model": "Canon EOS R5", "ExifIFD:LensModel": "RF24-70mm F2.8 L IS USM", "ExifIFD:SerialNumber": "012021001234", "File:MIMEType": "image/jpeg",
		"File:FileType": "JPEG", "File:FileTypeExtension": "jpg", "ExifIFD:ExposureTime": "1/250", "ExifIFD:FNumber": "2.8", "ExifIFD:ISO": strconv.Itoa(100 + i%800),
		"ExifIFD:FocalLength": "50.0 mm", "ExifIFD:Flash": "Off, Did not fire", "ExifIFD:WhiteBalance": "Auto", "ExifIFD:ColorSpace": "sRGB", "ExifIFD:ExifImageWidth": "8192",
		"ExifIFD:ExifImageHeight": "5464", "IFD0:Orientation": "Horizontal (normal)", "IFD0:XResolution": "72", "IFD0:YResolution": "72", "Canon:OwnerName": "Ada",
		"Canon:FileNumber": strconv.Itoa(1_000_000 + i), "Canon:CameraTemperature": "24 C", "Composite:ImageSize": "8192x5464", "Composite:Megapixels": "44.8",
		"Composite:ShutterSpeed": "1/250", "Composite:Aperture": "2.8", "File:ImageWidth": "8192", "File:ImageHeight": "5464",
	} {
		tags[name] = json.RawMessage(strconv.Quote(text))
	}
	facts := metadata.Facts{
		Capture: metadata.Time{Wall: at.Format("2006-01-02T15:04:05"), Source: "ExifIFD:DateTimeOriginal"},
		Make:    "Canon", Model: "Canon EOS R5", Lens: "RF24-70mm F2.8 L IS USM", Serial: "012021001234", Width: 8192, Height: 5464, MIME: "image/jpeg",
	}
	return batch.Record{Object: frame(i), Outcome: batch.Done, Digests: []digest.Digest{d}, Tags: tags, Facts: &facts, ExifTool: "13.59"}, err
}

// frames is an archive of so many frames that nothing holds.
type frames struct {
	*memstore.Store
	rows int
}

func (f frames) List(ctx context.Context, _ store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for i := range f.rows {
			if !yield(store.Entry{Object: frame(i)}, ctx.Err()) {
				return
			}
		}
	}
}

// inspectFrames writes the segments and records of the inspect step, if they are not there.
func inspectFrames(ctx context.Context, led *ledger.Ledger, id batch.ID, rows int) error {
	if _, done, err := led.Sealed(ctx, id, batch.StepInspect, 1); done || err != nil {
		return err
	}
	n := 0
	for first := 0; first < rows; first += framesOfFolder {
		ref := batch.Ref{Batch: id, Step: batch.StepInspect, Generation: 1, Segment: n}
		pw, err := ledger.NewPartWriter(ref, 1)
		if err != nil {
			return err
		}
		var seg batch.Segment
		for i := first; err == nil && i < min(rows, first+framesOfFolder); i++ {
			var r batch.Record
			if r, err = frameRecord(i); err == nil {
				seg.Objects = append(seg.Objects, batch.Listed{Object: r.Object})
				err = pw.Add(r)
			}
		}
		if err == nil {
			_, err = led.CreateSegment(ctx, ref, seg)
		}
		if err == nil {
			_, _, err = led.CreatePart(ctx, pw)
		}
		pw.Close()
		if err != nil {
			return err
		}
		n++
	}
	return led.Seal(ctx, id, batch.StepInspect, 1, n)
}

// BenchmarkPlan makes the plans of one inspected batch by several templates and policies, with a ledger on a disk.
func BenchmarkPlan(b *testing.B) {
	rows, err := strconv.Atoi(os.Getenv(benchRows))
	if err != nil {
		rows = 10 * framesOfFolder
	}
	dir := os.Getenv(benchLedger)
	if dir == "" {
		dir = filepath.Join(b.TempDir(), "ledger")
	}
	st, err := filestore.Open(dir, filestore.Options{Ledger: true})
	check(b, err)
	b.Cleanup(func() { check(b, st.Close()) })
	led := ledger.New(st)
	check(b, inspectFrames(b.Context(), led, idA, rows))
	archive := frames{memstore.New(archive.Root{}), rows}
	folders := (rows + framesOfFolder - 1) / framesOfFolder
	for _, bb := range []struct {
		name, template, second string
		policy                 batch.Conflict
		moves                  int
	}{
		{name: "prepare"},
		{name: "unique", template: "{date:%Y/%m/%d}/{date:%H%M%S}_{parent}_{name}{ext}", policy: batch.ConflictStop, moves: rows},
		{name: "number", template: "{date:%Y/%m/%d}/{date:%H%M%S}{ext}", policy: batch.ConflictNumber, moves: rows},
		{name: "template", template: "{date:%Y/%m/%d}/{date:%H%M%S}{ext}", second: "{date:%Y/%m/%d}/{date:%H%M%S}_{sha256:8}{ext}", policy: batch.ConflictTemplate, moves: rows},
		{name: "chains", template: "{dir}/{seq:5,by=folder}{ext}", policy: batch.ConflictStop, moves: (folders + shiftedFolders - 1) / shiftedFolders * framesOfFolder},
	} {
		b.Run(bb.name, func(b *testing.B) {
			if bb.template == "" {
				return
			}
			r := renameBatch(idA, bb.template, bb.policy)
			r.Renaming.ConflictTemplate = bb.second
			for b.Loop() {
				check(b, planning.Plan(b.Context(), claim{}, led, archive, r, 7, planning.Options{}))
				b.StopTimer()
				p, _, err := led.Plan(b.Context(), idA)
				check(b, err)
				if p.Summary.Rows != int64(rows) || p.Summary.Moves != int64(bb.moves) {
					b.Errorf("%d rows, %d of them move; want %d and %d: %v", p.Summary.Rows, p.Summary.Moves, rows, bb.moves, p.Summary.Failed)
				}
				check(b, forgetPlan(b.Context(), led, idA))
				b.StartTimer()
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// forgetPlan removes a plan, so that another one can be made.
func forgetPlan(ctx context.Context, led *ledger.Ledger, id batch.ID) error {
	var keys []archive.Key
	for e, err := range led.Store().List(ctx, store.ListOptions{Prefix: string(ledger.Key(id, "plan"))}) {
		if err != nil {
			return err
		}
		keys = append(keys, e.Key)
	}
	var errs []error
	for _, k := range keys {
		errs = append(errs, led.Store().Delete(ctx, k, archive.Identity{}))
	}
	return errors.Join(errs...)
}
