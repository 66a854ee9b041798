package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/reshelf/reshelf/producer/internal/command"
	"github.com/reshelf/reshelf/producer/internal/standalone"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/embedded"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/shared/telemetry"
	"github.com/reshelf/reshelf/worker/runtime"
)

// environment gives commands what they may use of the outside.
func environment(args []string, stdin io.Reader, stdout, stderr io.Writer) command.Environment {
	return command.Environment{
		Args: args, Stdin: stdin, Stdout: stdout, Stderr: stderr,
		Terminal:      isTerminal(stderr),
		Interactive:   isTerminal(stdin) && isTerminal(stderr),
		Getenv:        os.Getenv,
		Version:       version,
		DefaultLedger: standalone.DefaultDir,
		OpenStore:     openStore,
		StartMachine:  startMachine,
		JoinMachine:   joinMachine,
		InUse:         standalone.InUse,
		OpenFleet:     openFleet,
		Preview:       preview,
		CheckUndo:     checkUndo,
		Doctor:        doctor,
		Telemetry:     startTelemetry,
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// startTelemetry reads the standard variables. What OpenTelemetry says of itself is for those who debug: a command's terminal
// is not the place for it.
func startTelemetry(ctx context.Context, log *slog.Logger) (*telemetry.Telemetry, func(context.Context) error, error) {
	if !log.Enabled(ctx, slog.LevelDebug) {
		log = slog.New(slog.DiscardHandler)
	}
	telemetry.LogSDK(log)
	return telemetry.Setup(ctx, telemetry.Options{Service: "reshelf", Version: version, Output: io.Discard})
}

func openStore(ctx context.Context, settings string, root archive.Root) (store.Store, error) {
	stores := storeurl.New(settings)
	st, err := stores.Open(ctx, root, storeurl.Options{})
	if err != nil {
		stores.Close()
		return nil, err
	}
	return opened{st, stores}, nil
}

// opened closes with the store what opened it.
type opened struct {
	store.Store
	stores *storeurl.Opener
}

func (o opened) Close() error {
	defer o.stores.Close()
	return o.Store.Close()
}

func preview(ctx context.Context, settings, program string, root archive.Root, keys []archive.Key, level batch.Level, digests digest.Set) iter.Seq2[batch.Record, error] {
	return func(yield func(batch.Record, error) bool) {
		stores := storeurl.New(settings)
		defer stores.Close()
		runtime.Preview(ctx, stores, program, root, keys, level, digests)(yield)
	}
}

func checkUndo(ctx context.Context, settings string, led *ledger.Ledger, b batch.Batch, named iter.Seq2[listing.Named, error]) (command.UndoCheck, error) {
	stores := storeurl.New(settings)
	defer stores.Close()
	c, err := runtime.CheckUndo(ctx, stores, led, b, named)
	return command.UndoCheck(c), err
}

func startMachine(ctx context.Context, o command.MachineOptions) (command.Installation, error) {
	m, err := standalone.Start(ctx, standalone.Options{
		Dir: o.Dir, Stores: o.Stores, Slots: o.Slots, ExifTool: o.ExifTool, Version: version, Doing: o.Doing, Log: o.Log,
		Tracer: o.Tracer, Meter: o.Meter,
	})
	if errors.Is(err, standalone.ErrInUse) {
		return command.Installation{}, inUse{err}
	}
	if err != nil {
		return command.Installation{}, err
	}
	return command.Installation{Flow: m.Flow(), LedgerFull: m.LedgerFull(), Close: m.Close}, nil
}

// inUse is standalone.ErrInUse as commands know it.
type inUse struct{ error }

func (inUse) Is(target error) bool { return target == command.ErrInUse }

// joinMachine gives a flow whose Redis knows nothing: what is decided goes to the ledger, where the process that works on
// it finds it.
func joinMachine(ctx context.Context, o command.MachineOptions) (command.Installation, error) {
	st, err := filestore.Open(o.Dir, filestore.Options{Ledger: true})
	if err != nil {
		return command.Installation{}, err
	}
	redis, err := embedded.Start(ctx)
	if err != nil {
		return command.Installation{}, errors.Join(err, st.Close())
	}
	closeAll := func() error { return errors.Join(redis.Close(), st.Close()) }
	f, err := runtime.NewFlow(redis.Client(), "reshelf", ledger.New(st), o.Log)
	if err != nil {
		return command.Installation{}, errors.Join(err, closeAll())
	}
	return command.Installation{Flow: f, Close: closeAll}, nil
}

func openFleet(ctx context.Context, o command.FleetOptions) (command.Installation, error) {
	client, warnings, err := queue.Connect(ctx, o.Redis)
	if err != nil {
		return command.Installation{}, err
	}
	stores := storeurl.New(o.Stores)
	st, err := stores.Open(ctx, o.Ledger, storeurl.Options{Ledger: true})
	if err != nil {
		stores.Close()
		return command.Installation{}, errors.Join(fmt.Errorf("ledger %s: %w", o.Ledger, err), client.Close())
	}
	closeAll := func() error { return errors.Join(client.Close(), opened{st, stores}.Close()) }
	f, err := runtime.NewFlow(client, o.Prefix, ledger.New(st), o.Log)
	if err != nil {
		return command.Installation{}, errors.Join(err, closeAll())
	}
	return command.Installation{Flow: f, Warnings: warnings, Close: closeAll}, nil
}

func doctor(ctx context.Context, settings, program string, root archive.Root) []command.Finding {
	stores := storeurl.New(settings)
	defer stores.Close()
	var out []command.Finding
	for _, f := range runtime.Doctor(ctx, stores, program, root) {
		out = append(out, command.Finding(f))
	}
	return out
}
