// Bench-rename renames the same files by their dates in all the ways there are, side by side, and prints a table of local renames a
// second:
//
//	bench-rename [flags] DIR…
//
// In each DIR, which says the file system, every contender gets files of its own that were just written and synced, and is checked:
// every file has to have its new name and its content. Each round runs all contenders one after the other, beginning with another one;
// the table has the medians. The yardstick is a program of nothing but the system calls.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

type options struct {
	rounds, files int
	bin, exiftool string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench-rename: ")
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "run each contender `N` times; the table has the medians")
	flag.IntVar(&o.files, "files", 5000, "rename `N` files")
	flag.StringVar(&o.bin, "bin", "bin", "`FOLDER` of reshelf")
	flag.StringVar(&o.exiftool, "exiftool", "exiftool", "ExifTool's `PROGRAM`")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		log.Fatal(err)
	}
	for _, dir := range flag.Args() {
		if err := bench(ctx, o, dir); err != nil {
			log.Fatal(err)
		}
	}
}

// bench runs all contenders on one file system.
func bench(ctx context.Context, o options, where string) (err error) {
	dir, err := os.MkdirTemp(where, "reshelf-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	kind, err := fileSystem(dir)
	if err != nil {
		return err
	}
	all, took := pictures(o.files), map[string][]float64{}
	for round := range o.rounds {
		for i := range contenders() {
			c := contenders()[(i+round)%len(contenders())]
			t, err := once(ctx, o, c, dir, all)
			if err != nil {
				return err
			}
			for name, seconds := range t {
				fmt.Fprintf(os.Stderr, "round %d, %s, %s: %.2f s, %.0f files/s\n", round+1, kind, name, seconds, float64(o.files)/seconds)
				took[name] = append(took[name], seconds)
			}
		}
	}
	return table(os.Stdout, kind, o.files, took)
}

// once lets a contender rename fresh files.
func once(ctx context.Context, o options, c contender, dir string, all []picture) (took map[string]float64, err error) {
	archive, scratch := filepath.Join(dir, "archive"), filepath.Join(dir, "scratch")
	for _, d := range []string{archive, scratch} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d)) }()
	}
	if err := write(archive, all); err != nil {
		return nil, err
	}
	if took, err = c(ctx, o, archive, scratch, all); err != nil {
		return nil, err
	}
	return took, check(archive, all)
}

func fileSystem(dir string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", err
	}
	switch s.Type {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4", nil
	case unix.TMPFS_MAGIC:
		return "tmpfs", nil
	case unix.XFS_SUPER_MAGIC:
		return "XFS", nil
	case unix.BTRFS_SUPER_MAGIC:
		return "Btrfs", nil
	}
	return fmt.Sprintf("file system %#x", s.Type), nil
}

func table(w io.Writer, kind string, files int, took map[string][]float64) error {
	_, err := fmt.Fprintf(w, "| %s, %d files | files/s | slowest to fastest | of `renameat2` |\n| --- | ---: | ---: | ---: |\n", kind, files)
	limit := median(took[limitName])
	for _, r := range rows() {
		all := took[r.name]
		if len(all) == 0 {
			continue
		}
		rate := func(seconds float64) float64 { return float64(files) / seconds }
		_, failed := fmt.Fprintf(w, "| %s | %.0f | %.0f to %.0f | %.3f |\n", r.label, rate(median(all)), rate(slices.Max(all)), rate(slices.Min(all)), limit/median(all))
		err = errors.Join(err, failed)
	}
	return err
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}
