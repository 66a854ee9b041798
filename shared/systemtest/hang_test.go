package systemtest

import (
	"cmp"
	"context"
	"os"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/childtest"
)

// TestStoreHangs freezes the server of the archive while it is inspected, and that of the ledger while objects are renamed: calls
// are taken and not answered. Claims are held meanwhile, and nothing is lost but that time.
func TestStoreHangs(t *testing.T) {
	hangs, err := time.ParseDuration(cmp.Or(os.Getenv("RESHELF_OUTAGE"), "10s"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFleetAt(t, programs, newPlace(t, 200, true, true))
	before := f.draw(f.files)
	identities := f.identities()
	f.start("w1")
	f.start("w2")
	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "rename", f.archive.String(), template,
		"--on-conflict", "number", "--yes")
	f.wait(20*time.Second, "the batch", func() bool { command.alive(t); return f.newest() != "" })
	id := f.newest()
	for _, in := range []struct {
		step   batch.Step
		server *childtest.Server
	}{{batch.StepInspect, f.server.Server}, {batch.StepRename, f.ledgers.Server}} {
		f.claimed(id, in.step)
		in.server.Pause()
		hang, cancel := context.WithTimeout(f.ctx(), hangs)
		<-hang.Done()
		cancel()
		in.server.Resume()
	}
	if s := f.over(id, 3*time.Minute); s.State != batch.Complete {
		t.Fatalf("batch is %v: %s", s, s.Reason)
	}
	<-command.done
	f.checkRecords(id, len(before), before)
	for _, r := range f.finals(id) {
		if r.Outcome == batch.Failed && r.Reason != batch.ReasonNoValue && r.Reason != batch.ReasonFormat { // the odd files
			t.Errorf("%s failed: %s: %s", r.Key.Text(), r.Reason, r.Message)
		}
	}
	f.checkNames(id, before, f.sums())
	f.undo(id, before)
	f.checkVersions(identities)
}
