package systemtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// photograph is a small JPEG that no other number gives, with an Exif block (CIPA DC-008) of make, model and time.
func photograph(n int, model string, taken time.Time) ([]byte, error) {
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	for i := range 64 {
		img.SetGray(i%8, i/8, color.Gray{Y: uint8(n >> (i % 16) * 37)})
	}
	var body bytes.Buffer
	if err := jpeg.Encode(&body, img, nil); err != nil {
		return nil, err
	}
	exif := append([]byte("Exif\x00\x00"), tiffBlock(fmt.Sprintf("no. %d", n), model, taken.Format("2006:01:02 15:04:05"))...)
	head := []byte{0xff, 0xd8, 0xff, 0xe1, byte((len(exif) + 2) >> 8), byte(len(exif) + 2)}
	return append(append(head, exif...), body.Bytes()[2:]...), nil
}

// tiffBlock is a little-endian TIFF 6.0 structure: IFD0 with ImageDescription, Make, Model and the Exif IFD with
// DateTimeOriginal.
func tiffBlock(description, model, taken string) []byte {
	texts := []string{description + "\x00", "Acme\x00", model + "\x00", taken + "\x00"}
	const entries = 4
	ifd0, exif := 8, 8+2+12*entries+4
	data := exif + 2 + 12 + 4
	var b bytes.Buffer
	le := func(vs ...any) {
		for _, v := range vs {
			_ = binary.Write(&b, binary.LittleEndian, v)
		}
	}
	offset := func(i int) uint32 { return uint32(data + len(strings.Join(texts[:i], ""))) }
	ascii := func(tag uint16, i int) { le(tag, uint16(2), uint32(len(texts[i])), offset(i)) }
	le([]byte("II"), uint16(42), uint32(ifd0), uint16(entries))
	ascii(0x010e, 0)
	ascii(0x010f, 1)
	ascii(0x0110, 2)
	le(uint16(0x8769), uint16(4), uint32(1), uint32(exif), uint32(0))
	le(uint16(1))
	ascii(0x9003, 3)
	le(uint32(0))
	b.WriteString(strings.Join(texts, ""))
	return b.Bytes()
}

// draw fills dir with n photographs in folders, three in one second, some of them twice, and a few odd files. It returns
// the number of files.
func draw(dir string, n int) (int, error) {
	start := time.Date(2024, 5, 1, 8, 0, 0, 0, time.UTC)
	write := func(name string, content []byte) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o644)
	}
	for i := range n {
		content, err := photograph(i-i%50/49, []string{"One", "Two/Three", "Four"}[i%3], start.Add(time.Duration(i/3)*time.Second))
		if err != nil {
			return 0, err
		}
		if err := write(fmt.Sprintf("card%d/DCIM/IMG_%05d.jpg", i%4, i), content); err != nil {
			return 0, err
		}
	}
	odd := map[string]string{
		"notes.txt": "no tags here\n", "empty.jpg": "", "broken.jpg": "\x01\x02\x03 not a picture \x04", "caf\xe9 \xff.txt": "not UTF-8",
		"new\nline.txt": "a line", "-execute": "a name", "x\n-if\nsystem('touch owned');1": "a command",
	}
	for name, content := range odd {
		if err := write(name, []byte(content)); err != nil {
			return 0, err
		}
	}
	return n + len(odd), nil
}

// sums maps every regular file below dir to its SHA-256.
func sums(dir string) (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		sum := sha256.Sum256(content)
		out[name] = hex.EncodeToString(sum[:])
		return err
	})
	return out, err
}
