package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// Worker is a worker's entry in the registry.
type Worker struct {
	ID      string   `json:"id"`
	Process Process  `json:"process"`
	Pools   []string `json:"pools"`
	// Roots are the archives that the worker may touch; each stands for all below it.
	Roots []archive.Root `json:"roots"`
	// Buckets: it may touch every bucket, beside Roots.
	Buckets bool      `json:"buckets,omitempty"`
	Slots   int       `json:"slots"`
	Busy    int       `json:"busy"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Health is each check by name with its error, "" if well.
	Health map[string]string `json:"health,omitempty"`
	// ObjectsPerSecond and BytesPerSecond are averages over the last seconds.
	ObjectsPerSecond float64 `json:"objectsPerSecond"`
	BytesPerSecond   float64 `json:"bytesPerSecond"`
	// Memory is the resident set of the worker and of its ExifTool processes, in bytes.
	Memory int64 `json:"memory"`
	// ExifToolVersion is that of the ExifTool started last, also where none runs now; "" before the first.
	ExifToolVersion string            `json:"exiftoolVersion,omitempty"`
	ExifTool        []ExifToolProcess `json:"exiftool,omitempty"`
	// Silent is the time since its last sign of life, by Redis's clock.
	Silent time.Duration `json:"-"`
}

// ExifToolProcess is one of a worker's ExifTool processes.
type ExifToolProcess struct {
	PID      int         `json:"pid"` // 0 while it is being restarted
	Level    batch.Level `json:"level"`
	Version  string      `json:"version,omitempty"`
	Restarts int         `json:"restarts"`
}

// Reaches reports whether the worker may touch an archive.
func (w Worker) Reaches(root archive.Root) bool {
	return w.Buckets && root.Scheme() == archive.SchemeS3 || slices.ContainsFunc(w.Roots, func(r archive.Root) bool { return r.Contains(root) })
}

func (l *Live) workerKeys() []string {
	return []string{l.prefix + ":{workers}:info", l.prefix + ":{workers}:at"}
}

// Register is a worker's sign of life.
func (l *Live) Register(ctx context.Context, w Worker) error {
	raw, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := l.run(ctx, "register", l.workerKeys(), w.ID, raw).Err(); err != nil {
		return fmt.Errorf("register worker %s: %w", w.ID, err)
	}
	return nil
}

// Deregister takes a worker that ends off the registry.
func (l *Live) Deregister(ctx context.Context, id string) error {
	keys := l.workerKeys()
	_, err := l.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HDel(ctx, keys[0], id)
		p.ZRem(ctx, keys[1], id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("deregister worker %s: %w", id, err)
	}
	return nil
}

// Workers lists the registry; workers silent for ten minutes are forgotten.
func (l *Live) Workers(ctx context.Context) ([]Worker, error) {
	res, err := l.run(ctx, "workers", l.workerKeys(), (10 * time.Minute).Milliseconds()).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	var out []Worker
	for t := range slices.Chunk(res, 3) {
		var w Worker
		if err := json.Unmarshal([]byte(t[1]), &w); err != nil {
			continue
		}
		ms, err := strconv.ParseInt(t[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("list workers: %w", err)
		}
		w.Silent = time.Duration(ms) * time.Millisecond
		out = append(out, w)
	}
	return out, nil
}
