package keeper

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// LinkName is the base name under which our own binary becomes a keeper.
const LinkName = "reshelf-keeper"

const (
	settingsName = "settings.json"
	pixelName    = "pixel.gif"
	sampleName   = "sample.gif" // leads to a descriptor of the keeper, as the aliases do
	aliasName    = "alias"
	pagedName    = "paged"
	pagerName    = "pager.pl"
	fasterName   = "faster.pl"
	controlName  = "control"
	callsName    = "calls" // read by pager.pl
)

// sample is a GIF of one pixel. Every new ExifTool must read it before it may read anything else, in the
// same way: through a link to a descriptor of the keeper.
const sample = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00" +
	",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"

// pager is what makes ExifTool ask for the parts of files that are not all there; it loads faster.
var (
	//go:embed pager.pl
	pager []byte
	//go:embed faster.pl
	faster []byte
)

// Settings of one keeper. They are fixed while it runs.
type Settings struct {
	// ExifTool is the absolute path of the program.
	ExifTool string `json:"exiftool"`
	// Args are given with each file, before its name: the level's flags. They never come from data.
	Args []string `json:"args"`
	// Parent is the process id of the worker; a keeper that finds itself with another parent ends.
	Parent int `json:"parent"`
	// MaxAnswer bounds ExifTool's answer for one file, in bytes.
	MaxAnswer int64 `json:"maxAnswer"`
	// StartLimit bounds the time from ExifTool's start to the sample's answer.
	StartLimit time.Duration `json:"startLimit"`
	// MaxFiles is how many files an ExifTool reads before it is replaced by a new one.
	MaxFiles int `json:"maxFiles"`
	// Read are the folders whose files ExifTool may read, with all below them; nil is the whole machine.
	Read []string `json:"read"`
	// WithoutLandlock is for the tests of what is left where a kernel has no Landlock.
	WithoutLandlock bool `json:"withoutLandlock,omitempty"`
	// AddressSpace bounds ExifTool's address space in bytes (RLIMIT_AS).
	AddressSpace uint64 `json:"addressSpace"`
}

// Install makes the existing private directory dir a keeper's: the link that starts it, its settings, the folder of its
// aliases. It returns the link. The link leads to the running binary itself, so a keeper is always of the same build as
// its worker, even after the file was replaced.
func Install(dir string, s Settings) (link string, err error) {
	text, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("install keeper: %w", err)
	}
	files := map[string][]byte{settingsName: text, pixelName: []byte(sample), pagerName: pager, fasterName: faster, callsName: toolFilter()}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return "", fmt.Errorf("install keeper: %w", err)
		}
	}
	for _, folder := range []string{AliasDir(dir), PagedDir(dir)} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return "", fmt.Errorf("install keeper: %w", err)
		}
	}
	link = filepath.Join(dir, LinkName)
	if err := os.Symlink("/proc/self/exe", link); err != nil {
		return "", fmt.Errorf("install keeper: %w", err)
	}
	return link, nil
}

// AliasDir is the folder below a keeper's directory that holds its aliases: with those in PagedDir the only names that a
// keeper accepts. An alias is digits, then optionally a dot and an extension of 1 to 16 of a-z, A-Z, 0-9 and (not first) "-".
func AliasDir(dir string) string { return filepath.Join(dir, aliasName) }

// PagedDir is the folder below a keeper's directory that holds the aliases of files of which not all is there.
func PagedDir(dir string) string { return filepath.Join(dir, pagedName) }

// ValidExt reports whether ext, without its dot, may be the extension of an alias. All extensions that ExifTool knows
// are valid.
func ValidExt(ext string) bool {
	if ext == "" || len(ext) > 16 || ext[0] == '-' {
		return false
	}
	for _, c := range []byte(ext) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		default:
			return false
		}
	}
	return true
}

func loadSettings(dir string) (Settings, error) {
	var s Settings
	text, err := os.ReadFile(filepath.Join(dir, settingsName))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}
