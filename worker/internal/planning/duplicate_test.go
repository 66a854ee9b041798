package planning_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

func TestSameContent(t *testing.T) {
	type file struct {
		key, content string
		excluded     bool
	}
	tests := map[string]struct {
		files   []file
		want    map[archive.Key]string
		blocked []batch.Reason
	}{
		"of two that want one name one is a duplicate": {
			files: []file{{"in/a.jpg", "same", false}, {"jn/a.jpg", "same", false}},
			want:  map[archive.Key]string{"in/a.jpg": "n/a.jpg", "jn/a.jpg": "skipped: duplicate"},
		},
		"of what has the name": {
			files: []file{{"in/a.jpg", "same", false}, {"n/a.jpg", "same", false}},
			want:  map[archive.Key]string{"in/a.jpg": "skipped: duplicate", "n/a.jpg": "skipped: unchanged"},
		},
		"another content stops the plan": {
			files: []file{{"in/a.jpg", "same", false}, {"jn/a.jpg", "same", false}, {"kn/a.jpg", "other", false}},
			want: map[archive.Key]string{
				"in/a.jpg": "n/a.jpg", "jn/a.jpg": "skipped: duplicate", "kn/a.jpg": "failed: same-target",
			},
			blocked: []batch.Reason{batch.ReasonSameTarget},
		},
		"what was not inspected may have any content": {
			files:   []file{{"in/a.jpg", "same", false}, {"n/a.jpg", "same", true}},
			want:    map[archive.Key]string{"in/a.jpg": "failed: target-exists"},
			blocked: []batch.Reason{batch.ReasonExists},
		},
		"a group of duplicates": {
			files: []file{
				{"in/a.cr2", "raw", false}, {"in/a.jpg", "rendered", false}, {"n/a.cr2", "raw", false}, {"n/a.jpg", "rendered", false},
			},
			want: map[archive.Key]string{
				"in/a.cr2": "skipped: duplicate", "in/a.jpg": "skipped: duplicate", "n/a.cr2": "skipped: unchanged", "n/a.jpg": "skipped: unchanged",
			},
		},
		"a group is no duplicate by a part of it": {
			files:   []file{{"in/a.cr2", "raw", false}, {"in/a.jpg", "edited", false}, {"n/a.cr2", "raw", false}, {"n/a.jpg", "rendered", false}},
			want:    map[archive.Key]string{"in/a.cr2": "failed: target-exists", "in/a.jpg": "failed: target-exists", "n/a.cr2": "skipped: unchanged", "n/a.jpg": "skipped: unchanged"},
			blocked: []batch.Reason{batch.ReasonExists},
		},
		"a companion without a counterpart": {
			files:   []file{{"in/a.jpg", "same", false}, {"in/a.xmp", "says", false}, {"n/a.jpg", "same", false}},
			want:    map[archive.Key]string{"in/a.jpg": "failed: target-exists", "in/a.xmp": "skipped: group", "n/a.jpg": "skipped: unchanged"},
			blocked: []batch.Reason{batch.ReasonExists},
		},
		"empty files are equal": {
			files: []file{{"in/a.jpg", "", false}, {"jn/a.jpg", "", false}},
			want:  map[archive.Key]string{"in/a.jpg": "n/a.jpg", "jn/a.jpg": "skipped: duplicate"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for _, f := range tt.files {
				check(t, w.archive.Create(context.Background(), archive.Key(f.key), strings.NewReader(f.content)))
			}
			b := renameBatch(idA, "n/{name}{ext}", batch.ConflictSameContent)
			w.digests = b.Digests
			w.inspect(t, b, nil, func(k archive.Key) bool {
				return slices.ContainsFunc(tt.files, func(f file) bool { return f.key == string(k) && f.excluded })
			})
			for _, memory := range []int{0, 1} {
				again := newWorldLike(w)
				p, rows := again.plan(t, b, planning.Options{Memory: memory})
				if diff := cmp.Diff(tt.want, outcomes(rows)); diff != "" {
					t.Errorf("rows (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.blocked, p.Summary.Blocked(batch.ConflictSameContent)); diff != "" {
					t.Errorf("blocked for (-want +got):\n%s", diff)
				}
			}
		})
	}
}
