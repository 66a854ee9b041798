package listing_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/listing"
)

func TestFilterSkip(t *testing.T) {
	tests := []struct {
		name   string
		filter batch.Filter
		skip   []string // a folder ends in a slash
		keep   []string
	}{
		{
			name: "default",
			skip: []string{
				".x", "a/.x", ".x/", "a/.reshelf-tmp-1", ".reshelf/", "a/@eaDir/", "#recycle/", "#snapshot/", ".DS_Store",
				"a/Thumbs.db", "a/thumbs.DB", "desktop.ini", "Desktop.ini", "lost+found/", "System Volume Information/",
				"$RECYCLE.BIN/", "$Recycle.Bin/", "._a.jpg",
			},
			keep: []string{"a", "a.b", "a/", "eaDir", "x.reshelf", "a/b\xff", "Thumbs.db.jpg", "recycle/"},
		},
		{
			name:   "all",
			filter: batch.Filter{All: true},
			skip:   []string{".reshelf", "a/.reshelf-tmp-1", ".reshelf-x/"},
			keep:   []string{".x", "@eaDir/", "Thumbs.db", "lost+found/"},
		},
		{
			name:   "exclude by base name",
			filter: batch.Filter{Exclude: []string{"*.tmp", "cache", "x?y"}},
			skip:   []string{"a.tmp", "d/a.tmp", "a.tmp/", "d/cache/", "cache", "d/x\xffy", "xéy"},
			keep:   []string{"a.tmp2", "cache2/", "xy"},
		},
		{
			name:   "exclude by key",
			filter: batch.Filter{Exclude: []string{"a/**", "b/*.jpg", "**/raw/*.{nef,dng}", `w\*/z`}},
			skip:   []string{"a/", "a/b/", "a/b", "b/c.jpg", "raw/1.nef", "x/y/raw/1.dng", "w*/z"},
			keep:   []string{"aa/", "b/c/d.jpg", "c.jpg", "raw/x/1.nef", "wx/z"},
		},
		{
			name:   "include",
			filter: batch.Filter{Include: []string{"2024/*/x/*.jpg", "*.nef"}},
			skip:   []string{"2024/a/x/1.png", "1.jpg", ".nef", "@eaDir/"},
			keep:   []string{"2024/a/x/1.jpg", "1.nef", "9/9/1.nef", "2024/", "2023/", "2024/a/y/"},
		},
		{
			name:   "include below folders only",
			filter: batch.Filter{Include: []string{"2024/x/**", "2025/one.jpg", `we\[ird/*`}},
			skip:   []string{"2023/", "2024/y/", "2024/xx/", "x/2024/", "we/"},
			keep:   []string{"2024/", "2024/x/", "2024/x/deep/", "2024/x/1", "2025/", "2025/a/", "2025/one.jpg", "we[ird/", "we[ird/1"},
		},
		{
			name:   "exclude wins",
			filter: batch.Filter{Include: []string{"*.jpg"}, Exclude: []string{"a*"}},
			skip:   []string{"a.jpg", "d/a.jpg"},
			keep:   []string{"b.jpg"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := listing.Compile(tt.filter)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range slices.Concat(tt.skip, tt.keep) {
				want := slices.Contains(tt.skip, key)
				name := strings.TrimSuffix(key, "/")
				if got := f.Skip(archive.Key(name), name != key); got != want {
					t.Errorf("Skip(%q) = %v, want %v", key, got, want)
				}
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	tests := []struct{ pattern, text string }{
		{"", "empty"},
		{"/a", "starts with a slash"},
		{"a/", "write a for the folder, a/** for what is in it"},
		{"a//b", "segment"},
		{"../a", "segment"},
		{"./a", "segment"},
		{"[", "not closed"},
		{"a[]", "not closed"},
		{"{a,b", "not closed"},
		{`a\`, "followed by nothing"},
		{"\xff", "not UTF-8"},
		{strings.Repeat("a", 1025), "1025 bytes"},
		{strings.Repeat("{a,b}", 20), "more than 256 patterns"},
	}
	for _, tt := range tests {
		for list, f := range map[string]batch.Filter{
			"include": {Include: []string{"ok", tt.pattern}}, "exclude": {Exclude: []string{tt.pattern}},
		} {
			_, err := listing.Compile(f)
			if !errors.Is(err, listing.ErrPattern) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), list) {
				t.Errorf("Compile %s %q: %v; want %q", list, tt.pattern, err, tt.text)
			}
		}
	}
	if _, err := listing.Compile(batch.Filter{Exclude: slices.Repeat([]string{"a"}, 1001)}); !errors.Is(err, listing.ErrPattern) {
		t.Errorf("Compile 1001 patterns: %v", err)
	}
}

// The default exclusions that are shown are those that are applied.
func TestDefaultExclusions(t *testing.T) {
	standard, err := listing.Compile(batch.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	shown := listing.DefaultExclusions()
	for _, pattern := range shown {
		key := archive.Key("d/" + strings.ReplaceAll(pattern, "*", "x"))
		if !standard.Skip(key, false) {
			t.Errorf("%s is shown, but %s is not skipped", pattern, key)
		}
	}
	asGlobs, err := listing.Compile(batch.Filter{All: true, Exclude: shown})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []archive.Key{".x", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "a", "a.jpg"} {
		if got, want := standard.Skip(key, true), asGlobs.Skip(key, true); got != want {
			t.Errorf("Skip(%s) = %v, but as shown %v", key, got, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("*.jpg", "a/b.jpg")
	f.Add("a/**/[b-d]{x,y}", "a/b/cx")
	f.Add("{{a,b},{c,d}}*?", "\xff\xfe")
	f.Add(strings.Repeat("*a", 200), strings.Repeat("a", 1000))
	f.Add(strings.Repeat("**/a/", 50)+"b", strings.Repeat("a/", 300)+"a")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		key, err := archive.ParseKey(name)
		if err != nil {
			return
		}
		filter, err := listing.Compile(batch.Filter{Include: []string{pattern}, Exclude: []string{pattern}})
		if err != nil {
			if !errors.Is(err, listing.ErrPattern) {
				t.Fatalf("err = %v", err)
			}
			return
		}
		start := time.Now()
		if !filter.Skip(key, false) {
			t.Errorf("Skip(%q) = false with %q both included and excluded", key, pattern)
		}
		include, err := listing.Compile(batch.Filter{All: true, Include: []string{pattern}})
		if err != nil {
			t.Fatal(err)
		}
		// What is included is never lost because a folder above it was pruned.
		if !include.Skip(key, false) {
			for dir := key.Dir(); dir != ""; dir = dir.Dir() {
				if include.Skip(dir, true) && !strings.HasPrefix(dir.Base(), ".reshelf") {
					t.Errorf("%q includes %q, but prunes %q", pattern, key, dir)
				}
			}
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("matching took %v", d)
		}
	})
}

func TestManagedLibrary(t *testing.T) {
	tests := []struct {
		key, library string
	}{
		{"a/b.jpg", ""},
		{"a/My.photoslibrary/originals/0/1.heic", "a/My.photoslibrary"},
		{"My.PhotosLibrary/x", "My.PhotosLibrary"},
		{"My.photoslibrary", "My.photoslibrary"},
		{"x/Old.aplibrary/Masters/1.nef", "x/Old.aplibrary"},
		{"x/iPhoto.photolibrary/y", "x/iPhoto.photolibrary"},
		{"x/iPhoto.migratedphotolibrary/y", "x/iPhoto.migratedphotolibrary"},
		{"lr/Cat Previews.lrdata/0/a.lrprev", "lr/Cat Previews.lrdata"},
		{"lr/Cloud.lrlibrary/x/y.jpg", "lr/Cloud.lrlibrary"},
		{"lr/Cat.lrcat", "lr/Cat.lrcat"},
		{"lr/Cat.lrcat-data/x", "lr/Cat.lrcat-data"},
		{"lr/Cat.lrcat.lock", "lr/Cat.lrcat.lock"},
		{"lr/Cat.jpg", ""},
		{"a.lrdata/b.photoslibrary/c", "a.lrdata"},
		{"photoslibrary/x", ""},
		{"x.lock", ""},
		{".photoslibrary.jpg", ""},
	}
	for _, tt := range tests {
		got, ok := listing.ManagedLibrary(archive.Key(tt.key))
		if got != tt.library || ok != (tt.library != "") {
			t.Errorf("ManagedLibrary(%q) = %q, %v; want %q", tt.key, got, ok, tt.library)
		}
	}
}
