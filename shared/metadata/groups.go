package metadata

import (
	"cmp"
	"slices"
	"strings"
)

// The order of groups for a bare name, which Tags.Text documents.
const (
	rankGPSComposite = iota
	rankIFD0
	rankExifIFD
	rankGPS
	rankSubIFD
	rankQuickTime
	rankFormat
	rankXMP
	rankIPTC
	rankMaker
	rankComposite
	rankOtherImage
	rankFile
)

// comparePreference orders keys of tags by the rank of their group, then by its name, so that SubIFD precedes SubIFD1.
// The order is total.
func comparePreference(a, b string) int {
	groupA, _ := splitKey(a)
	groupB, _ := splitKey(b)
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(groupA, groupB), strings.Compare(a, b))
}

func rank(key string) int {
	group, name := splitKey(key)
	group = strings.ToLower(group)
	switch group {
	case "ifd0":
		return rankIFD0
	case "exififd":
		return rankExifIFD
	case "gps":
		return rankGPS
	case "quicktime":
		return rankQuickTime
	case "composite":
		if strings.HasPrefix(strings.ToLower(name), "gps") {
			return rankGPSComposite
		}
		return rankComposite
	case "file", "exiftool", "system":
		return rankFile
	case "interopifd":
		return rankSubIFD
	case "ge", "hp", "htc", "jvc", "raf", "raf2", "red":
		return rankMaker // too short to be told by their beginning
	}
	return rankByPrefix(group)
}

func rankByPrefix(group string) int {
	begins := func(prefix string) bool { return strings.HasPrefix(group, prefix) }
	switch {
	case begins("subifd"):
		return rankSubIFD
	case begins("xmp"):
		return rankXMP
	case begins("iptc"):
		return rankIPTC
	case begins("ifd"), begins("previewifd"), begins("mpimage"):
		return rankOtherImage
	case slices.ContainsFunc(makers(), begins):
		return rankMaker
	}
	return rankFormat
}

// makers are what the names of ExifTool's maker-note groups begin with (its modules with GROUPS 0 => MakerNotes and the
// cameras' own raw formats), in lower case.
func makers() []string {
	return []string{
		"apple", "camera", "canon", "casio", "ciff", "dji", "flir", "fuji", "infiray", "kodak", "kyocera", "leaf", "leica",
		"lytro", "maker", "metaifd", "microsoft", "minolta", "motorola", "nikon", "nintendo", "olympus", "panasonic",
		"pentax", "phaseone", "pictureinfo", "qualcomm", "reconyx", "ricoh", "samsung", "sanyo", "scalado", "sigma",
		"sony", "sr2",
	}
}

// familyOf is which ranks a family-0 group of ExifTool's stands for, nil where a group has no other name in family 1 or is the
// beginning of it (File, IPTC, QuickTime).
func familyOf(group string) func(rank int) bool {
	switch strings.ToLower(group) {
	case "exif":
		return func(r int) bool { return r >= rankIFD0 && r <= rankSubIFD || r == rankOtherImage }
	case "xmp":
		return func(r int) bool { return r == rankXMP }
	case "makernotes":
		return func(r int) bool { return r == rankMaker }
	}
	return nil
}
