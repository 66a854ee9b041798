// Sample draws the archive of `make demo`: a few hundred small pictures made in code, and tags for ExifTool to write.
//
//	sample DIR          draws the pictures and writes DIR.csv, for exiftool -csv=DIR.csv
//	sample DIR --finish adds what ExifTool must not touch: sidecars, copies, a broken file, odd names
package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: sample DIR [--finish]")
		os.Exit(2)
	}
	do := draw
	if len(os.Args) > 2 && os.Args[2] == "--finish" {
		do = finish
	}
	if err := do(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type camera struct{ make, model, folder, offset string }

func cameras() []camera {
	return []camera{
		{"Canon", "Canon EOS R5", "DCIM/100CANON", "+02:00"},
		{"NIKON CORPORATION", "NIKON Z 6", "DCIM/101NIKON", "+09:00"},
		{"Apple", "iPhone 15", "phone", "-05:00"},
		{"FUJIFILM", "X-T5", "DCIM/102_FUJI", ""},
	}
}

const pictures = 300

// draw makes the pictures. Every seventh comes in a burst of three in one second; every tenth has a RAW beside it; every
// twentieth has no tags.
func draw(dir string) error {
	f, err := os.Create(dir + ".csv")
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	rows := [][]string{{"SourceFile", "Make", "Model", "DateTimeOriginal", "OffsetTimeOriginal", "SubSecTimeOriginal", "Artist"}}
	at := time.Date(2024, 5, 1, 9, 0, 0, 0, time.UTC)
	for i := range pictures {
		c := cameras()[i/7%4]
		if i%7 > 2 {
			at = at.Add(time.Duration(i%11*i%97+1) * time.Minute * 13)
		}
		name := filepath.Join(dir, c.folder, fmt.Sprintf("IMG_%04d.JPG", i))
		if err := picture(name, i); err != nil {
			return err
		}
		files := []string{name}
		if i%10 == 0 {
			raw := name[:len(name)-4] + ".DNG"
			if err := os.WriteFile(raw, rawPicture(byte(i)), 0o644); err != nil {
				return err
			}
			files = append(files, raw)
		}
		for _, name := range files {
			if i%20 == 13 {
				continue
			}
			rows = append(rows, []string{name, c.make, c.model, at.Format("2006:01:02 15:04:05"), c.offset, fmt.Sprintf("%02d", i%100), "Ada"})
		}
	}
	return errors.Join(w.WriteAll(rows), f.Close())
}

func picture(name string, n int) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	img := image.NewRGBA(image.Rect(0, 0, 96, 64))
	for y := range 64 {
		for x := range 96 {
			img.Set(x, y, color.RGBA{uint8(x*2 + n), uint8(y*3 + n*7), uint8(n * 13), 255})
		}
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(jpeg.Encode(f, img, nil), f.Close())
}

// rawPicture is an 8 x 8 grey TIFF 6.0, which is what a DNG is built on.
func rawPicture(grey byte) []byte {
	entry := func(tag, typ, count, value byte, hi byte) []byte {
		return []byte{tag, hi, typ, 0, count, 0, 0, 0, value, 0, 0, 0}
	}
	out := []byte{'I', 'I', 42, 0, 8, 0, 0, 0, 8, 0}
	const data = 8 + 2 + 8*12 + 4
	for _, e := range [][]byte{
		entry(0x00, 3, 1, 8, 1), entry(0x01, 3, 1, 8, 1), entry(0x02, 3, 1, 8, 1), entry(0x03, 3, 1, 1, 1),
		entry(0x06, 3, 1, 1, 1), entry(0x11, 4, 1, data, 1), entry(0x16, 3, 1, 8, 1), entry(0x17, 4, 1, 64, 1),
	} {
		out = append(out, e...)
	}
	out = append(out, 0, 0, 0, 0)
	for range 64 {
		out = append(out, grey)
	}
	return out
}

// finish adds what must stay as it is.
func finish(dir string) error {
	write := func(name, content string) error {
		path := filepath.Join(dir, name)
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644))
	}
	var errs []error
	for i := 0; i < pictures; i += 20 {
		c := cameras()[i/7%4]
		base := fmt.Sprintf("%s/IMG_%04d", c.folder, i)
		errs = append(errs, write(base+".xmp", `<x:xmpmeta xmlns:x="adobe:ns:meta/"/>`))
		errs = append(errs, duplicate(filepath.Join(dir, base+".JPG"), filepath.Join(dir, "copies", fmt.Sprintf("copy of %d.JPG", i))))
	}
	errs = append(errs,
		write("broken.jpg", "\x01\x02\x03 this is not a picture \x04\x05"),
		write("empty.jpg", ""),
		write("odd/new\nline.txt", "a name of two lines"),
		write("odd/caf\xe9.txt", "a name that is not UTF-8"),
		write("odd/-execute", "a name that looks like an option"),
		write("odd/Übergrößenträger 🎞.txt", "a name of many bytes"),
	)
	return errors.Join(errs...)
}

func duplicate(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
