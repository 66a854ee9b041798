package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// perFolder is how many pictures lie in a folder, before and after: each folder is renamed to the day on which they were taken.
const perFolder = 250

// picture is one file of the archive, with the name that every contender has to give it.
type picture struct {
	from, to string
	taken    time.Time
}

func pictures(n int) []picture {
	out := make([]picture, n)
	for i := range out {
		at := time.Date(2001, 1, 1, 9, 0, 0, 0, time.UTC).AddDate(0, 0, i/perFolder).Add(time.Duration(i%perFolder) * time.Second)
		out[i] = picture{
			from: fmt.Sprintf("in/%03d/IMG_%05d.jpg", i/perFolder, i), to: at.Format("2006/01/02/150405") + ".jpg", taken: at,
		}
	}
	return out
}

// write makes the pictures below dir and has all of it on the disk, so that nothing of it is written while a contender runs.
func write(dir string, all []picture) error {
	body, err := body()
	if err != nil {
		return err
	}
	for _, p := range all {
		name := filepath.Join(dir, p.from)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, append(head(p.taken), body...), 0o644); err != nil {
			return err
		}
	}
	syscall.Sync()
	return nil
}

// body is a small JPEG without its first marker.
func body() ([]byte, error) {
	var b bytes.Buffer
	err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 16, 16)), nil)
	return b.Bytes()[2:], err
}

// head is the start of a JPEG with an Exif segment that says when it was taken (Exif 2.32, 4.5 and 4.6).
func head(at time.Time) []byte {
	const (
		exifIFD   = 0x8769
		original  = 0x9003
		digitized = 0x9004
		ascii     = 2
		long      = 4
	)
	text := append([]byte(at.Format("2006:01:02 15:04:05")), 0)
	be := binary.BigEndian
	entry := func(b []byte, tag, kind uint16, count, value uint32) []byte {
		b = be.AppendUint16(be.AppendUint16(b, tag), kind)
		return be.AppendUint32(be.AppendUint32(b, count), value)
	}
	const first, second, texts = 8, 26, 56 // offsets of the directories and of what they point to
	tiff := be.AppendUint32([]byte("MM\x00\x2a"), first)
	tiff = be.AppendUint32(entry(be.AppendUint16(tiff, 1), exifIFD, long, 1, second), 0)
	tiff = entry(be.AppendUint16(tiff, 2), original, ascii, uint32(len(text)), texts)
	tiff = be.AppendUint32(entry(tiff, digitized, ascii, uint32(len(text)), texts+uint32(len(text))), 0)
	tiff = append(append(tiff, text...), text...)
	segment := append([]byte("Exif\x00\x00"), tiff...)
	return append(be.AppendUint16([]byte{0xff, 0xd8, 0xff, 0xe1}, uint16(len(segment)+2)), segment...)
}

// check reports an error unless exactly the pictures are below dir, each under its new name.
func check(dir string, all []picture) error {
	for _, p := range all {
		raw, err := os.ReadFile(filepath.Join(dir, p.to))
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(raw, head(p.taken)) {
			return fmt.Errorf("%s holds another picture", p.to)
		}
	}
	n := 0
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	})
	if err == nil && n != len(all) {
		err = fmt.Errorf("%d files, want %d", n, len(all))
	}
	return err
}
