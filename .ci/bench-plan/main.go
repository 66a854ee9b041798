// Bench-plan makes plans of synthetic batches of different sizes, each in a process of its own, and prints a table of times and peak
// memory:
//
//	bench-plan [flags]
//
// The batch is one that was inspected: its segments and records are in a ledger on a disk, written as the inspect step writes them. The
// archive lists as many objects, and is nothing but that list. What is measured is the whole plan step, as a worker runs it. See
// BenchmarkPlan in worker/internal/planning, which this program runs.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	rows   []int
	rounds int
	only   []string
}

// prepare makes the records and plans nothing.
const prepare = "prepare"

func plans() []string { return []string{"unique", "number", "template", "chains"} }

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench-plan: ")
	var o options
	rows := flag.String("rows", "500000,5000000", "plan batches of so many objects, a comma-separated `LIST`")
	only := flag.String("only", strings.Join(plans(), ","), "make only the plans in this comma-separated `LIST`")
	flag.IntVar(&o.rounds, "rounds", 1, "make each plan `N` times; the table has the medians")
	flag.Parse()
	for _, text := range strings.Split(*rows, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || flag.NArg() > 0 {
			flag.Usage()
			os.Exit(2)
		}
		o.rows = append(o.rows, n)
	}
	o.only = strings.Split(*only, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, o); err != nil {
		log.Fatal(err)
	}
}

// run is what one process used.
type run struct {
	plan time.Duration // of the plan step alone
	cpu  time.Duration
	peak int64 // bytes; ru_maxrss
}

func bench(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "reshelf-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "plan.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./worker/internal/planning")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	runs := map[string][]run{}
	for _, rows := range o.rows {
		ledger := filepath.Join(dir, strconv.Itoa(rows))
		if _, err := measure(ctx, program, prepare, rows, ledger); err != nil {
			return err
		}
		for round := range o.rounds {
			for _, plan := range o.only {
				r, err := measure(ctx, program, plan, rows, ledger)
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "round %d, %s, %d objects: %.0f s, %.0f s of CPU, %.0f MB\n",
					round+1, plan, rows, r.plan.Seconds(), r.cpu.Seconds(), float64(r.peak)/1e6)
				runs[key(plan, rows)] = append(runs[key(plan, rows)], r)
			}
		}
		if err := os.RemoveAll(ledger); err != nil {
			return err
		}
	}
	return table(os.Stdout, o, runs)
}

func key(plan string, rows int) string { return fmt.Sprint(plan, " ", rows) }

func measure(ctx context.Context, program, plan string, rows int, ledger string) (run, error) {
	cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.bench", "^BenchmarkPlan$/^"+plan+"$", "-test.benchtime", "1x", "-test.timeout", "0")
	cmd.Env = append(os.Environ(), "RESHELF_BENCH_PLAN_ROWS="+strconv.Itoa(rows), "RESHELF_BENCH_PLAN_LEDGER="+ledger)
	cmd.Dir = filepath.Dir(program)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return run{}, fmt.Errorf("%s: %w: %.2000s", key(plan, rows), err, out.Bytes())
	}
	nanoseconds, err := perOp(out.String())
	if err != nil {
		return run{}, fmt.Errorf("%s: %w: %.2000s", key(plan, rows), err, out.Bytes())
	}
	state := cmd.ProcessState
	usage, _ := state.SysUsage().(*syscall.Rusage)
	return run{time.Duration(nanoseconds), state.UserTime() + state.SystemTime(), usage.Maxrss << 10}, nil
}

// perOp finds the time of a benchmark in the output of a test.
func perOp(out string) (float64, error) {
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if i := slices.Index(fields, "ns/op"); i > 0 && strings.HasPrefix(line, "Benchmark") {
			return strconv.ParseFloat(fields[i-1], 64)
		}
	}
	return 0, errors.New("no benchmark was run")
}

func table(w io.Writer, o options, runs map[string][]run) error {
	fmt.Fprintln(w, "| plan | objects | time | objects/s | CPU µs/object | peak memory |")
	fmt.Fprintln(w, "| --- | ---: | ---: | ---: | ---: | ---: |")
	var err error
	for _, plan := range o.only {
		for _, rows := range o.rows {
			all := runs[key(plan, rows)]
			seconds := median(all, func(r run) float64 { return r.plan.Seconds() })
			_, failed := fmt.Fprintf(w, "| %s | %d | %.0f s | %.0f | %.0f | %.0f MB |\n", plan, rows, seconds, float64(rows)/seconds,
				median(all, func(r run) float64 { return float64(r.cpu.Microseconds()) })/float64(rows), median(all, func(r run) float64 { return float64(r.peak) / 1e6 }))
			err = cmp.Or(err, failed)
		}
	}
	return err
}

func median(runs []run, of func(run) float64) float64 {
	var values []float64
	for _, r := range runs {
		values = append(values, of(r))
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
