package main

import (
	"fmt"
	"io"
)

func printTable(w io.Writer, contenders []contender, runs map[string][]run) {
	middle := func(name string, of func(run) float64) float64 {
		var values []float64
		for _, r := range runs[name] {
			values = append(values, of(r))
		}
		if len(values) == 0 {
			return 0
		}
		return median(values)
	}
	rate, cpu := middle(limitName, run.rate), middle(limitName, run.cpu)
	fmt.Fprintln(w, "| | files/s | of the limit | CPU ms/file | of the limit | peak memory | files | |")
	fmt.Fprintln(w, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
	for _, c := range contenders {
		r, u := middle(c.name, run.rate), middle(c.name, run.cpu)
		fmt.Fprintf(w, "| %s | %.0f | %s | %.2f | %s | %.0f MB | %d | %s |\n",
			c.label, r, ratio(r, rate), u, ratio(u, cpu), middle(c.name, run.peakMB), c.files, c.note)
	}
}

func ratio(value, limit float64) string {
	if limit == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", value/limit)
}
