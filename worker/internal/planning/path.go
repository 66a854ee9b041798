package planning

import (
	"cmp"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/naming"
)

// path is a key in the form in which names are compared and ordered: folded, with NUL for slashes. Its order puts a folder
// right before what lies in it: in plain byte order "a!" comes between "a" and "a/b".
type path string

// pathOf is the path of a key. Keys that no object should have, and a bucket may ("a//b", or one with a NUL), have a path
// too, so that they take room among the others. No name that a plan gives has the control character that stands in it.
func pathOf(key archive.Key) path {
	const stand = "\x01" // for NUL, and for a segment that is empty
	folded := strings.ReplaceAll(naming.Fold(key), "\x00", stand)
	if folded == "" || folded[0] != '/' && folded[len(folded)-1] != '/' && !strings.Contains(folded, "//") {
		return path(strings.ReplaceAll(folded, "/", "\x00"))
	}
	segments := strings.Split(folded, "/")
	for i, s := range segments {
		segments[i] = cmp.Or(s, stand)
	}
	return path(strings.Join(segments, "\x00"))
}

// holds reports whether other lies in the folder p.
func (p path) holds(other path) bool {
	return len(other) > len(p) && other[:len(p)] == p && other[len(p)] == 0
}

// Marks say what an item at a path is; at one path they come in this order.
const (
	markPresent = 'E' // an object, or whatever else the archive has there
	markSettled = 'S' // the name of a row that moves
	markWish    = 'T' // the name that a row would like
)

// item is the sort key of what stands at p. No path holds two NULs in a row, so all items of a path are beside each other, before
// those of what lies in it.
func (p path) item(mark byte, rest string) []byte {
	return []byte(string(p) + "\x00\x00" + string(mark) + rest)
}

func cutItem(key []byte) (p path, mark byte, rest string) {
	before, after, _ := strings.Cut(string(key), "\x00\x00")
	return path(before), after[0], after[1:]
}

// maxExtBytes is the longest extension that naming.Numbered keeps behind the number.
const maxExtBytes = 32

// cutExt cuts a key before its extension as naming.Numbered does.
func cutExt(key archive.Key) (stem, ext archive.Key) {
	e := key.Ext()
	if len(e) > maxExtBytes {
		e = ""
	}
	return key[:len(key)-len(e)], archive.Key(e)
}

// cutNumber takes the number out of a key that looks like one of naming.Numbered: "a_2.jpg" is "a.jpg" and 2. Keys that
// were cut for their length do not come back whole.
func cutNumber(key archive.Key) (archive.Key, int, bool) {
	stem, ext := cutExt(key)
	i := strings.LastIndexByte(string(stem), '_')
	if i < 1 || stem[i-1] == '/' {
		return "", 0, false
	}
	digits := string(stem[i+1:])
	n, err := strconv.Atoi(digits)
	if err != nil || n < 2 || strconv.Itoa(n) != digits {
		return "", 0, false
	}
	return stem[:i] + ext, n, true
}

// family is the path of a key without its extension. Names of one family share their numbers whatever their extensions, so
// that objects which have nothing to do with each other do not come to look like a group.
func family(key archive.Key) path {
	stem, _ := cutExt(key)
	return pathOf(stem)
}

// takenItem is the sort key of a number that a name of the family has.
func (p path) takenItem(n int) []byte {
	return binary.BigEndian.AppendUint64([]byte(string(p)+"\x00\x00"), uint64(n))
}

func cutTaken(key []byte) (p path, n uint64) {
	end := len(key) - 8
	return path(key[:end-2]), binary.BigEndian.Uint64(key[end:])
}
