package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// fileSet is what all contenders read.
type fileSet struct {
	dir         string // the files, in folders
	list        string // a file with their names, one a line
	sample      string // a file with the names of some of them
	count       int
	sampleCount int
	bytes       int64
}

// perFolder is how many files a folder gets.
const perFolder = 250

// copyFiles copies the regular files of source into dir, under names that no contender can stumble over: some can run
// commands out of names. Extensions stay, since ExifTool goes by them. Names are in the order of the copies, so that
// equal files are far apart.
func copyFiles(source, dir string, o options) (fileSet, error) {
	set := fileSet{dir: filepath.Join(dir, "files"), list: filepath.Join(dir, "list"), sample: filepath.Join(dir, "sample")}
	var paths []string
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > o.max {
			return err
		}
		out, err := filepath.Match(o.without, d.Name())
		if !out {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return set, err
	}
	if len(paths) == 0 {
		return set, fmt.Errorf("no files in %s", source)
	}
	var names []string
	for range o.copies {
		for _, path := range paths {
			n := len(names)
			name := filepath.Join(set.dir, fmt.Sprintf("%04d", n/perFolder), fmt.Sprintf("%06d%s", n, plainExt(path)))
			size, err := copyFile(path, name)
			if err != nil {
				return set, err
			}
			names = append(names, name)
			set.bytes += size
		}
	}
	var some []string
	for i := 0; i < len(names); i += max(1, len(names)/o.sample) {
		some = append(some, names[i])
	}
	set.count, set.sampleCount = len(names), len(some)
	return set, errors.Join(writeLines(set.list, names), writeLines(set.sample, some))
}

func writeLines(path string, lines []string) error {
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

func readLines(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	return strings.Fields(string(text)), err
}

// plainExt is the extension of path, "" if it has other characters than letters and digits.
func plainExt(path string) string {
	ext := filepath.Ext(path)
	for _, c := range strings.TrimPrefix(ext, ".") {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return ""
		}
	}
	return ext
}

func copyFile(from, to string) (int64, error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return 0, err
	}
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	return n, errors.Join(err, out.Close())
}
