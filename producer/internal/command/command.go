// Package command is the `reshelf` command line: one file for each command. Commands get stores, flows and functions from
// main, so they know no adapter, and tests call Run.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/term"

	"github.com/reshelf/reshelf/producer/internal/progress"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/telemetry"
)

// Exit codes of Run.
const (
	ExitDone        = 0
	ExitSomeFailed  = 1   // some objects failed, or a plan has conflicts
	ExitUsage       = 2   // the command line is wrong
	ExitAwaiting    = 3   // a plan awaits approval
	ExitNotRun      = 4   // the batch could not run to its end, or the command could not: Redis, ledger, archive
	ExitInterrupted = 130 // by Ctrl-C or SIGTERM
)

// ErrInUse is wrapped by Environment.StartMachine where another process works on the ledger.
var ErrInUse = errors.New("the ledger is in use")

// Environment is all that commands have of the outside.
type Environment struct {
	// Args without the program's name.
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Interactive: Stdin and Stderr are terminals, so questions may be asked. Terminal: Stderr is one, so bars may be drawn.
	Interactive, Terminal bool
	Getenv                func(string) string
	Version               string

	// DefaultLedger is the directory of this machine's ledger.
	DefaultLedger func() (string, error)
	// OpenStore opens a ledger or an archive to look at it: store.ErrUnavailable if it is missing.
	// settings is the path of the stores file here and below, "" for none.
	OpenStore func(ctx context.Context, settings string, root archive.Root) (store.Store, error)
	// StartMachine takes a ledger on this machine and starts all parts in this process. ErrInUse.
	StartMachine func(ctx context.Context, o MachineOptions) (Installation, error)
	// JoinMachine opens a ledger on this machine for decisions, while another process works on it.
	JoinMachine func(ctx context.Context, o MachineOptions) (Installation, error)
	// InUse says who works on the ledger in dir, "" for nobody.
	InUse func(dir string) (string, error)
	// OpenFleet connects to a fleet.
	OpenFleet func(ctx context.Context, o FleetOptions) (Installation, error)
	// Preview inspects some objects of an archive at once, without a batch. Program is ExifTool's, "" for the one in PATH.
	Preview func(ctx context.Context, settings, program string, root archive.Root, keys []archive.Key, level batch.Level, digests digest.Set) iter.Seq2[batch.Record, error]
	// CheckUndo says what an undo would do.
	CheckUndo CheckUndoFunc
	// Doctor checks ExifTool, and whether an archive (the zero Root: none) can be read and renamed safely.
	Doctor func(ctx context.Context, settings, program string, root archive.Root) []Finding
	// Telemetry starts what the command is traced and measured with. The function that it returns sends the rest and ends it.
	// log is for what it says of itself. Nil: for nothing.
	Telemetry func(ctx context.Context, log *slog.Logger) (*telemetry.Telemetry, func(context.Context) error, error)
}

// MachineOptions say how to work on this machine.
type MachineOptions struct {
	Dir    string // of the ledger
	Stores string // path of the stores file
	// Slots and ExifTool default as in a worker.
	Slots    int
	ExifTool string
	// Doing is shown to others who want the ledger.
	Doing string
	// Tracer and Meter may be nil.
	Tracer trace.Tracer
	Meter  metric.Meter
	Log    *slog.Logger
}

// FleetOptions say where a fleet is.
type FleetOptions struct {
	Redis  queue.Address
	Prefix string
	Ledger archive.Root
	Stores string // path of the stores file
	Log    *slog.Logger
}

// Installation is an open place where batches live. Close it after use.
type Installation struct {
	Flow *flow.Flow
	// Warnings are for the person who opened it.
	Warnings []string
	// LedgerFull gets an error (store.ErrNoSpace) when the work in this process cannot go on; nil where others do the work.
	LedgerFull <-chan error
	Close      func() error
}

// Finding is one result of `reshelf doctor`. State is "ok", "warn" or "fail"; Remedy says what to do about it.
type Finding struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// Run runs one command and returns its exit code. The end of ctx interrupts it.
func Run(ctx context.Context, env Environment) int {
	a := &app{env: env}
	a.display = progress.New(env.Stderr, progress.Options{})
	a.log = telemetry.NewLog(a.display, slog.LevelWarn, telemetry.FormatText)
	root := a.root()
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	a.display.Close()
	if err != nil && !a.running {
		err = usageError{withoutURLs(err, env.Args), cmd.CommandPath()}
	}
	code := a.exit(ctx, err)
	a.tracing.end(ctx, a.log, code)
	return code
}

// withoutURLs is err, and repeats no argument that is a URL: one that stands where none belongs was not looked at, and may hold
// a secret.
func withoutURLs(err error, args []string) error {
	text := err.Error()
	for _, arg := range args {
		if scheme, rest, ok := strings.Cut(arg, "://"); ok && rest != "" {
			text = strings.ReplaceAll(text, arg, scheme+"://...")
		}
	}
	return errors.New(text)
}

// app is one run of the program.
type app struct {
	env     Environment
	display *progress.Display
	log     *slog.Logger
	tracing tracing
	place   placeFlags
	plain   bool
	// running: the command line was understood and its command has begun.
	running bool
}

// exitError ends the command with a code. Its text is printed unless it is empty: then everything was said.
type exitError struct {
	code int
	text string
}

func (e exitError) Error() string { return e.text }

// stop is an exitError.
func stop(code int, format string, args ...any) error {
	return exitError{code, fmt.Sprintf(format, args...)}
}

// usageError is a command line that is wrong.
type usageError struct {
	error
	command string
}

// badUsage is a usageError found by a command itself.
func badUsage(cmd *cobra.Command, format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...), cmd.CommandPath()}
}

// exit prints err and turns it into an exit code.
func (a *app) exit(ctx context.Context, err error) int {
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &exit):
		if exit.text != "" {
			a.tell("reshelf: %s", exit.text)
		}
		return exit.code
	case errors.As(err, &usage):
		a.tell("reshelf: %v\nsee: %s --help", usage.error, usage.command)
		return ExitUsage
	case ctx.Err() != nil:
		a.tell("reshelf: interrupted")
		return ExitInterrupted
	}
	a.tell("reshelf: %v", err)
	return ExitNotRun
}

// tell writes lines for a person to standard error. Whatever an error holds, nothing in it controls the terminal.
func (a *app) tell(format string, args ...any) {
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	_, _ = io.WriteString(a.display, strings.Join(lines, "\n")+"\n")
}

// print writes to standard output, with no bars in between.
func (a *app) print(format string, args ...any) error {
	a.display.Clear()
	_, err := fmt.Fprintf(a.env.Stdout, format, args...)
	return err
}

const rootExamples = `  reshelf inspect ~/Pictures
  reshelf rename ~/Pictures '{date:%Y/%m}/{date:%Y%m%d-%H%M%S}_{model}{ext}'
  reshelf undo last`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "reshelf",
		Short: "Hash, inspect and rename the objects of large archives",
		Long: "Reshelf hashes, reads the metadata of, and renames the objects of archives, on this machine or with a fleet.\n" +
			"Renames are planned, shown, approved and can be undone. Every flag can also be set by a variable: --on-conflict\n" +
			"is RESHELF_ON_CONFLICT.",
		Example:           rootExamples,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.begin(cmd) },
	}
	a.place.add(root)
	root.PersistentFlags().BoolVar(&a.plain, "plain", false, "show progress as lines, without bars")
	root.AddCommand(
		a.inspectCommand(), a.renameCommand(), a.applyCommand(), a.undoCommand(), a.tryCommand(), a.groupsCommand(),
		a.listCommand(), a.showCommand(), a.watchCommand(), a.planCommand(), a.reportCommand(), a.historyCommand(),
		a.resumeCommand(), a.recoverCommand(), a.cancelCommand(), a.workersCommand(), a.doctorCommand(), a.versionCommand(),
	)
	return root
}

// begin takes flags from the environment and sets up what depends on them.
func (a *app) begin(cmd *cobra.Command) error {
	if err := a.flagsFromEnvironment(cmd); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.place.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", a.place.logLevel)
	}
	bars := a.env.Terminal && !a.plain && a.env.Getenv("NO_COLOR") == "" && a.env.Getenv("TERM") != "dumb"
	a.display = progress.New(a.env.Stderr, progress.Options{Bars: bars, Columns: a.columns})
	a.log = telemetry.NewLog(a.display, level, telemetry.FormatText)
	a.running = true
	a.startTrace(cmd)
	return nil
}

func (a *app) columns() int {
	if f, ok := a.env.Stderr.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 80
}

// commandLine is a command to be typed by a person, with the flags that say where batches live.
func (a *app) commandLine(words ...string) string {
	line := "reshelf " + strings.Join(words, " ")
	if a.place.redisTyped {
		line += " --redis " + quote(a.place.shownRedis())
	}
	if a.place.ledgerTyped {
		line += " --ledger " + quote(a.place.ledger)
	}
	return line
}

// quote quotes a word for a POSIX shell where that is needed.
func quote(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+=,"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
