package runtime

import (
	"context"
	"log/slog"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/worker/internal/dispatch"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

// Lead is lead.
const Lead = lead

// Inspect is the inspect step of a worker without ExifTool.
func Inspect(ctx context.Context, f *flow.Flow, j dispatch.Job, w *ledger.PartWriter) error {
	return steps{flow: f, inspector: inspecting.New(nil, inspecting.Options{})}.inspect(ctx, j, w)
}

// Steps are the steps of a worker without ExifTool.
func Steps(f *flow.Flow, log *slog.Logger) (map[batch.Step]dispatch.Step, error) {
	self, err := flow.Self("worker")
	return steps{flow: f, inspector: inspecting.New(nil, inspecting.Options{}), self: self, slots: 1, log: log, inHand: &inHand{}}.all(), err
}

// InHand notes executions of a process, and says whether one has ended.
func InHand() (
	take func(ledger.Execution) (release func()), ended func(context.Context, *ledger.Ledger, ledger.Process, ledger.Execution) (bool, error),
) {
	h := &inHand{}
	return h.take, h.ended
}
