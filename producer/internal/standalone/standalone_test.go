package standalone_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/reshelf/reshelf/producer/internal/standalone"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/worker/runtime"
)

func TestMain(m *testing.M) {
	runtime.KeeperMain()
	os.Exit(m.Run())
}

func start(t *testing.T, dir string) *standalone.Machine {
	t.Helper()
	m, err := standalone.Start(t.Context(), standalone.Options{Dir: dir, Slots: 2, Doing: "test", Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newBatch(t *testing.T, id batch.ID, kind batch.Kind, dir string) batch.Batch {
	t.Helper()
	root, err := archive.FileRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return batch.Batch{
		V: batch.Version, ID: id, Kind: kind, Archive: root, Digests: digest.DefaultSet(), Level: batch.LevelNormal,
		Pool: "default", Priority: batch.Normal, Submitted: time.Now().UTC(),
	}
}

// wait waits until the batch is over or, with a plan, awaits its approval.
func wait(t *testing.T, m *standalone.Machine, id batch.ID) batch.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := m.Flow().Ledger().Batch(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.Flow().Ledger().Status(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		if s.State.Over() || s.State == batch.AwaitingApproval || s.Paused {
			return s
		}
		select {
		case <-ctx.Done():
			t.Fatalf("batch %s is still %v", id, s)
		case <-tick.C:
		}
	}
}

func TestOneProcessDoesItAll(t *testing.T) {
	ledger, photos := filepath.Join(t.TempDir(), "ledger"), t.TempDir()
	write(t, photos, map[string]string{"a/one.txt": "1", "a/two.txt": "2", "b/three.txt": "3", "b/copy.txt": "1", "empty": ""})
	before := read(t, photos)
	m := start(t, ledger)
	ctx := t.Context()
	const inspect, rename, undo batch.ID = "01jd0000000000000000000001", "01jd0000000000000000000002", "01jd0000000000000000000003"

	if err := m.Flow().Submit(ctx, newBatch(t, inspect, batch.Inspect, photos)); err != nil {
		t.Fatal(err)
	}
	if s := wait(t, m, inspect); s.State != batch.Complete {
		t.Fatalf("inspect: %v: %s", s, s.Reason)
	}

	b := newBatch(t, rename, batch.Rename, photos)
	b.Renaming = &batch.RenameOptions{Template: "all/{parent}-{name|upper}{ext}", OnConflict: batch.ConflictStop}
	if err := m.Flow().Submit(ctx, b); err != nil {
		t.Fatal(err)
	}
	if s := wait(t, m, rename); s.State != batch.AwaitingApproval {
		t.Fatalf("rename: %v: %s", s, s.Reason)
	}
	if got := read(t, photos); !maps.Equal(got, before) {
		t.Fatalf("the plan alone changed the archive: %v", got)
	}
	_, plan, err := m.Flow().Ledger().Plan(ctx, rename)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Flow().Decide(ctx, rename, batch.Event{Kind: batch.EventApprove, Plan: plan}); err != nil {
		t.Fatal(err)
	}
	if s := wait(t, m, rename); s.State != batch.Complete {
		t.Fatalf("rename: %v: %s", s, s.Reason)
	}
	got := slices.Sorted(maps.Keys(read(t, photos)))
	if want := []string{"all/a-ONE.txt", "all/a-TWO.txt", "all/b-COPY.txt", "all/b-THREE.txt", "empty"}; !slices.Equal(got, want) {
		t.Errorf("names = %v, want %v (empty has no parent)", got, want)
	}

	u := newBatch(t, undo, batch.Undo, photos)
	u.Undoes = rename
	if err := m.Flow().Submit(ctx, u); err != nil {
		t.Fatal(err)
	}
	if s := wait(t, m, undo); s.State != batch.AwaitingApproval {
		t.Fatalf("undo: %v: %s", s, s.Reason)
	}
	if _, plan, err = m.Flow().Ledger().Plan(ctx, undo); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Flow().Decide(ctx, undo, batch.Event{Kind: batch.EventApprove, Plan: plan}); err != nil {
		t.Fatal(err)
	}
	if s := wait(t, m, undo); s.State != batch.Complete {
		t.Fatalf("undo: %v: %s", s, s.Reason)
	}
	if got := read(t, photos); !maps.Equal(got, before) {
		t.Errorf("after the undo: %v, want %v", got, before)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheSecondOnOneLedgerIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	m := start(t, dir)
	_, err := standalone.Start(t.Context(), standalone.Options{Dir: dir, Doing: "second", Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, standalone.ErrInUse) {
		t.Errorf("second start = %v, want ErrInUse", err)
	}
	if who, err := standalone.InUse(dir); err != nil || who == "" {
		t.Errorf("InUse = %q, %v; want who it is", who, err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if who, err := standalone.InUse(dir); err != nil || who != "" {
		t.Errorf("InUse after Close = %q, %v; want nobody", who, err)
	}
	if err := start(t, dir).Close(); err != nil {
		t.Error(err)
	}
}
