package queue_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
)

func TestQueueName(t *testing.T) {
	long := strings.Repeat("x", 41)
	for _, tt := range []struct {
		prefix, pool string
		priority     batch.Priority
		want         string
	}{
		{"reshelf", "nas", batch.Normal, "reshelf-nas-normal"},
		{"re_2", "nas-1", batch.Critical, "re_2-nas-1-critical"},
		{"", "nas", batch.Normal, ""},
		{"a-b", "nas", batch.Normal, ""},
		{"{a}", "nas", batch.Normal, ""},
		{"A", "nas", batch.Normal, ""},
		{long, "nas", batch.Normal, ""},
		{"a", "", batch.Normal, ""},
		{"a", "x{y}", batch.Normal, ""},
		{"a", "x y", batch.Normal, ""},
		{"a", long, batch.Normal, ""},
		{"a", "nas", "urgent", ""},
		{"a", "nas", "", ""},
	} {
		got, err := queue.QueueName(tt.prefix, tt.pool, tt.priority)
		if got != tt.want || (err != nil) != (tt.want == "") || err != nil && !errors.Is(err, queue.ErrName) {
			t.Errorf("QueueName(%q, %q, %q): got %q, %v, want %q", tt.prefix, tt.pool, tt.priority, got, err, tt.want)
		}
	}
}
