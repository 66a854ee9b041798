// Bench-metadata reads the metadata of the same files in all the ways there are, side by side, and prints a table:
//
//	bench-metadata [flags] ARCHIVE
//
// The files of ARCHIVE are copied, several times each if asked for, into a scratch folder under plain names, so that every
// contender gets the same files from the same warm cache. Each round runs all contenders one after the other, beginning with
// another one; the table has the medians. The yardstick is the limit: as many ExifTools as CPUs, held open by a
// client that does nothing but send names and look for the ends of answers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
)

type options struct {
	rounds    int
	copies    int
	max       int64
	without   string
	sample    int
	exiftool  string
	bin       string
	modules   string
	only      string
	processes int
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench-metadata: ")
	if len(os.Args) > 2 && os.Args[1] == measureCommand {
		measureMain(os.Args[2:])
		return
	}
	if len(os.Args) > 2 && os.Args[1] == contendCommand {
		contendMain(os.Args[2:])
		return
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "run each contender `N` times; the table has the medians")
	flag.IntVar(&o.copies, "copies", 3, "read `N` copies of each file")
	flag.Int64Var(&o.max, "max", 16<<20, "leave out files of more than `BYTES`")
	flag.StringVar(&o.without, "without", "", "leave out files whose name matches `GLOB`")
	flag.IntVar(&o.sample, "sample", 100, "give the contender that starts a process for each file only every n-th file, about `N`")
	flag.StringVar(&o.exiftool, "exiftool", "exiftool", "ExifTool's `PROGRAM`")
	flag.StringVar(&o.bin, "bin", "bin", "`FOLDER` of reshelf and reshelf-worker")
	flag.StringVar(&o.modules, "modules", "", "`FOLDER` where exiftool-vendored is installed; without it, it is left out")
	flag.StringVar(&o.only, "only", "", "run only the contenders in this comma-separated `LIST`: "+strings.Join(contenderNames(), ","))
	flag.IntVar(&o.processes, "processes", runtime.NumCPU(), "how many ExifTools each contender may hold at once, where it can be told")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, o, flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

func bench(ctx context.Context, o options, source string) (err error) {
	dir, err := os.MkdirTemp("", "reshelf-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	set, err := copyFiles(source, dir, o)
	if err != nil {
		return err
	}
	contenders, err := prepare(o, dir, set)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d files, %.1f MB; %d rounds of %d contenders\n", set.count, float64(set.bytes)/1e6, o.rounds, len(contenders))
	runs := map[string][]run{}
	for round := range o.rounds {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			r, err := measure(ctx, c, dir)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d, %s: %.1f files/s, %.2f CPU ms/file, %.0f MB\n", round+1, c.name, r.rate(), r.cpu(), r.peakMB())
			runs[c.name] = append(runs[c.name], r)
		}
	}
	printTable(os.Stdout, contenders, runs)
	return nil
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}
