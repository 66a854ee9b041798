package listing

import (
	"path"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
)

// ManagedLibrary reports whether key is inside a library whose program keeps track of files by their paths, and returns
// the key of that library. Renaming in there would damage it.
//
// It goes by names: Apple Photos, iPhoto and Aperture packages, and Lightroom's previews, smart previews and catalogues
// with their journals and locks. Originals that a Lightroom catalogue only refers to cannot be told by their key.
func ManagedLibrary(key archive.Key) (library string, ok bool) {
	for k := key; k != ""; k = k.Dir() {
		if isLibrary(k.Base()) {
			library, ok = string(k), true // the outermost one
		}
	}
	return library, ok
}

func isLibrary(base string) bool {
	switch strings.ToLower(path.Ext(base)) {
	case ".photoslibrary", ".photolibrary", ".aplibrary", ".migratedphotolibrary", ".migratedaplibrary",
		".lrlibrary", ".lrdata", ".lrcat", ".lrcat-data", ".lrcat-journal", ".lrcat-wal", ".lrcat-shm":
		return true
	case ".lock": // Catalogue.lrcat.lock
		return isLibrary(strings.TrimSuffix(base, path.Ext(base)))
	}
	return false
}
