// Command reshelf inspects and renames archives, on this machine or with a fleet of workers.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/reshelf/reshelf/producer/internal/command"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/worker/runtime"
)

// version is set by the linker.
var version = "dev" //nolint:gochecknoglobals // the linker's way

func main() {
	runtime.KeeperMain()
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	queue.LogDriver(slog.New(slog.DiscardHandler)) // what matters of it, commands say themselves
	context.AfterFunc(ctx, stop)                   // from here on a second signal ends the process at once
	return command.Run(ctx, environment(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
