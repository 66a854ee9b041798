//go:build linux

package filestore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/storetest"
)

// A disk that tells names apart is not taken for one that folds them, whatever is in the root.
func TestFoldsCaseOfADiskThatDoesNot(t *testing.T) {
	for name, files := range map[string][]string{
		"empty":        nil,
		"one":          {"IMG_1.JPG"},
		"both":         {"IMG_1.JPG", "img_1.jpg"},
		"a folder":     {"DCIM/a"},
		"both folders": {"DCIM/a", "dcim/a"},
		"no letters":   {"1", "\u00e4", "\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range files {
				writeFiles(t, dir, map[string]string{f: f})
			}
			if open(t, dir, filestore.Options{}).Properties().FoldsCase {
				t.Error("it folds case")
			}
		})
	}
	t.Run("hard links", func(t *testing.T) {
		dir := t.TempDir()
		writeFiles(t, dir, map[string]string{"IMG_1.JPG": ""})
		must(t, os.Link(filepath.Join(dir, "IMG_1.JPG"), filepath.Join(dir, "img_1.jpg")))
		if open(t, dir, filestore.Options{}).Properties().FoldsCase {
			t.Error("it folds case")
		}
	})
}

// foldingVariable names a directory on a mounted file system that folds case. make folding sets it.
const foldingVariable = "RESHELF_FOLDING"

// onFolding calls test where there is a file system that folds case.
func onFolding(t *testing.T, test func(t *testing.T, dir func(*testing.T) string)) {
	top := os.Getenv(foldingVariable)
	if top == "" {
		return
	}
	test(t, func(t *testing.T) string {
		dir, err := os.MkdirTemp(top, "")
		must(t, err)
		t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
		return dir
	})
}

func TestFoldsCaseOfAMount(t *testing.T) {
	onFolding(t, func(t *testing.T, dir func(*testing.T) string) {
		for name, want := range map[string]bool{"IMG_1.JPG": true, "DCIM/a": true, "\xffa": true, "1": false, "\u00e4": false} {
			d := dir(t)
			writeFiles(t, d, map[string]string{name: ""})
			if got := open(t, d, filestore.Options{}).Properties().FoldsCase; got != want {
				t.Errorf("with %q: folds case: %t", name, got)
			}
		}
	})
}

// Beyond what such a file system cannot have, it keeps every promise: with RENAME_NOREPLACE as vfat and exFAT do, by way of links as a share
// of another machine does, and as FUSE says of it.
func TestConformanceFolding(t *testing.T) {
	onFolding(t, func(t *testing.T, dir func(*testing.T) string) {
		for name, prepare := range map[string]func(*filestore.Store){
			"vfat":  func(s *filestore.Store) { s.Guard() },
			"share": withoutNoReplace,
			"FUSE":  func(*filestore.Store) {},
		} {
			t.Run(name, func(t *testing.T) {
				storetest.Run(t, func(t *testing.T) store.Store {
					s := open(t, dir(t), filestore.Options{})
					prepare(s)
					s.FoldCase()
					return s
				}, storetest.Options{Archive: true, AssumeSingleWriter: name != "vfat"})
			})
		}
	})
}

// A change of case is refused at once, and says what to do.
func TestRenameToAnotherCase(t *testing.T) {
	onFolding(t, func(t *testing.T, dir func(*testing.T) string) {
		d := dir(t)
		writeFiles(t, d, map[string]string{"IMG_1.JPG": "content"})
		s := open(t, d, filestore.Options{})
		s.Guard()
		err := s.Rename(t.Context(), request(t, s, "IMG_1.JPG", "IMG_1.jpg"))
		if err == nil || !strings.Contains(err.Error(), "rename to another name first") {
			t.Errorf("got %v", err)
		}
		if files := readFiles(t, d); len(files) != 1 || files["IMG_1.JPG"] != "content" {
			t.Errorf("got %q", files)
		}
	})
}
