package exiftool

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// extension is what ExifTool takes for the extension of name: all after the last dot of the base name, also of a hidden
// one. It is "" where it is nothing that ExifTool knows by name; spelling is kept.
func extension(name archive.Key) string {
	base := name.Base()
	ext := base[strings.LastIndexByte(base, '.')+1:]
	if len(ext) == len(base) || !keeper.ValidExt(ext) {
		return ""
	}
	return ext
}

// alias gives what is in the keeper's slot a new name in folder, safe to pass on. All names lead to the slot, so a link that was
// released is renamed: that takes a file system less time than to remove it and make another one.
func (i *instance) alias(folder, ext string) (string, error) {
	i.naming.Lock()
	defer i.naming.Unlock()
	i.n++
	base := strconv.Itoa(i.n)
	if ext != "" {
		base += "." + ext
	}
	path := filepath.Join(folder, base)
	var err error
	if last := len(i.released) - 1; last >= 0 {
		err = os.Rename(i.released[last], path)
		i.released = i.released[:last]
	} else {
		err = os.Symlink(i.conn.Slot, path)
	}
	if err != nil {
		return "", fmt.Errorf("alias: %w", err)
	}
	return path, nil
}

// release gives back an alias whose file was read.
func (i *instance) release(path string) {
	i.naming.Lock()
	defer i.naming.Unlock()
	i.released = append(i.released, path)
}
