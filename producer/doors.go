package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/reshelf/reshelf/producer/internal/command"
	"github.com/reshelf/reshelf/producer/internal/standalone"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/embedded"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
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
		Preview:       runtime.Preview,
		Doctor:        doctor,
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func openStore(ctx context.Context, root archive.Root) (store.Store, error) {
	return storeurl.Open(ctx, root, storeurl.Options{})
}

func startMachine(ctx context.Context, o command.MachineOptions) (command.Installation, error) {
	m, err := standalone.Start(ctx, standalone.Options{
		Dir: o.Dir, Slots: o.Slots, ExifTool: o.ExifTool, Version: version, Doing: o.Doing, Log: o.Log,
	})
	if errors.Is(err, standalone.ErrInUse) {
		return command.Installation{}, inUse{err}
	}
	if err != nil {
		return command.Installation{}, err
	}
	return command.Installation{Flow: m.Flow(), Close: m.Close}, nil
}

// inUse is standalone.ErrInUse as commands know it.
type inUse struct{ error }

func (inUse) Is(target error) bool { return target == command.ErrInUse }

// joinMachine gives a flow whose Redis knows nothing: what is decided goes to the ledger, where the process that works on
// it finds it.
func joinMachine(ctx context.Context, o command.MachineOptions) (command.Installation, error) {
	root, err := archive.FileRoot(o.Dir)
	if err != nil {
		return command.Installation{}, err
	}
	st, err := storeurl.Open(ctx, root, storeurl.Options{Ledger: true})
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
	st, err := storeurl.Open(ctx, o.Ledger, storeurl.Options{Ledger: true})
	if err != nil {
		return command.Installation{}, errors.Join(fmt.Errorf("ledger %s: %w", o.Ledger, err), client.Close())
	}
	closeAll := func() error { return errors.Join(client.Close(), st.Close()) }
	f, err := runtime.NewFlow(client, o.Prefix, ledger.New(st), o.Log)
	if err != nil {
		return command.Installation{}, errors.Join(err, closeAll())
	}
	return command.Installation{Flow: f, Warnings: warnings, Close: closeAll}, nil
}

func doctor(ctx context.Context, program string, root archive.Root) []command.Finding {
	var out []command.Finding
	for _, f := range runtime.Doctor(ctx, program, root) {
		out = append(out, command.Finding(f))
	}
	return out
}
