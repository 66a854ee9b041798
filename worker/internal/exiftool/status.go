package exiftool

import (
	"context"
	"slices"

	"github.com/reshelf/reshelf/shared/batch"
)

// Process describes one keeper and its ExifTool.
type Process struct {
	Level batch.Level `json:"level"`
	// Keeper and ExifTool are process ids; ExifTool's is that of the one started last.
	Keeper   int `json:"keeper"`
	ExifTool int `json:"exiftool"`
	// Restarts counts the ExifTool processes of this keeper after its first.
	Restarts int    `json:"restarts"`
	Version  string `json:"version"`
}

// Status describes the pool at this moment.
type Status struct {
	Processes []Process `json:"processes"`
	// Version is that of the ExifTool started last, also where none runs now; "" before the first.
	Version string `json:"version,omitempty"`
	// Free is how many more files could be read at once now.
	Free int `json:"free"`
	// Gaps say in which ways the ExifTools are not confined, as far as is known: nothing before the first has started.
	Gaps []string `json:"gaps,omitempty"`
	// Abandoned counts processes that the kernel would not end. Each holds a goroutine and a few descriptors.
	Abandoned int `json:"abandoned"`
}

// Status reports the pool's processes, in order of their keepers' ids.
func (p *Pool) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Version: p.version, Gaps: p.gaps, Abandoned: p.abandoned}
	for _, one := range p.slots {
		if one.reads == 0 {
			s.Free++
		}
	}
	for i, level := range p.running {
		now := i.status()
		s.Processes = append(s.Processes, Process{
			Level: level, Keeper: i.conn.PID, ExifTool: now.PID, Restarts: now.Restarts, Version: now.Version,
		})
	}
	slices.SortFunc(s.Processes, func(a, b Process) int { return a.Keeper - b.Keeper })
	return s
}

// Version is ExifTool's version. It starts a process if none has been started yet.
func (p *Pool) Version(ctx context.Context) (string, error) {
	if v := p.knownVersion(); v != "" {
		return v, nil
	}
	s, err := p.acquire(ctx, batch.LevelNormal)
	if err != nil {
		return "", err
	}
	defer p.release(s)
	if _, err := s.takeTurn(ctx, batch.LevelNormal, nil); err != nil {
		return "", err
	}
	defer s.endTurn()
	if _, err := p.instance(ctx, s, batch.LevelNormal); err != nil {
		return "", err
	}
	return p.knownVersion(), nil
}

func (p *Pool) knownVersion() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}

// Check reports why the pool is unhealthy: ExifTool cannot be started, or file after file crashes it. It looks again
// itself, at most as often as the backing off allows, so an idle pool recovers too.
func (p *Pool) Check(ctx context.Context) error {
	err := p.health.err()
	if err != nil && p.health.pause() > 0 {
		return err
	}
	if err == nil && p.knownVersion() != "" {
		return nil
	}
	s, err := p.acquire(ctx, batch.LevelNormal)
	if err != nil {
		return err
	}
	defer p.release(s)
	if _, err := s.takeTurn(ctx, batch.LevelNormal, nil); err != nil {
		return err
	}
	defer s.endTurn()
	if _, err := p.instance(ctx, s, batch.LevelNormal); err != nil {
		return err
	}
	p.health.good()
	return nil
}
