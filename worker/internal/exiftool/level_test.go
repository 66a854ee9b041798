package exiftool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

func TestDeadline(t *testing.T) {
	tests := []struct {
		size  int64
		level batch.Level
		want  time.Duration
	}{
		{0, batch.LevelNormal, 20 * time.Second},
		{0, batch.LevelExtended, time.Minute},
		{2000 << 20, batch.LevelNormal, 120 * time.Second},
		{2000 << 20, batch.LevelExtended, 460 * time.Second},
		{1 << 62, batch.LevelFast, time.Hour},
		{1 << 62, batch.LevelExtended, time.Hour},
	}
	for _, tt := range tests {
		if got := exiftool.Deadline(tt.size, tt.level); got != tt.want {
			t.Errorf("Deadline(%d, %s): got %v, want %v", tt.size, tt.level, got, tt.want)
		}
	}
}

func TestKnownHangs(t *testing.T) {
	for version, want := range map[string]string{
		"12.57": "AVI,BigTIFF,XMP,EXE,JPEG with Google's HDRP maker notes", "12.63": "BigTIFF,XMP,EXE,JPEG with Google's HDRP maker notes",
		"13.40": "JPEG with Google's HDRP maker notes", "13.47": "", "13.59": "", "14.00": "",
	} {
		if got := strings.Join(exiftool.KnownHangs(version), ","); got != want {
			t.Errorf("KnownHangs(%s): got %s, want %s", version, got, want)
		}
	}
}
