package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
)

// reference is the package whose suite has nothing before the groups of tests: it tells what a group is.
const reference = "memstore"

// column is a store: a package, or one of the servers that a package was tried with.
type column struct{ pkg, server string }

// conformance is the table of stores and tests. A cell is that of all kinds of its column together: opened as an archive and as
// a ledger, for example.
func (r *results) conformance() (string, error) {
	groups := r.groups()
	if len(groups) == 0 {
		return "", errors.New("the suite of " + reference + " did not run")
	}
	cells, rows := map[column]map[string]string{}, map[string]int{} // rows: the place of their group
	for _, t := range r.tests {
		g := slices.IndexFunc(t.names, func(name string) bool { return slices.Contains(groups, name) })
		if g < 0 || len(t.names) != g+2 {
			continue // it is a part of the suite, or of a test
		}
		c, row := column{t.pkg, strings.Join(t.names[:max(0, g-1)], " ")}, t.names[g]+"/"+t.names[g+1]
		if cells[c] == nil {
			cells[c] = map[string]string{}
		}
		cells[c][row] = worse(cells[c][row], t.outcome)
		rows[row] = slices.Index(groups, t.names[g])
	}
	columns := slices.SortedFunc(maps.Keys(cells), func(a, b column) int {
		return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.server, b.server))
	})
	header := []string{"test"}
	for _, c := range columns {
		header = append(header, c.title())
	}
	table := [][]string{header}
	for _, row := range slices.SortedFunc(maps.Keys(rows), func(a, b string) int { return cmp.Or(rows[a]-rows[b], cmp.Compare(a, b)) }) {
		line := []string{row}
		for _, c := range columns {
			line = append(line, cell(cells[c][row]))
		}
		table = append(table, line)
	}
	return markdown(table), nil
}

// groups are the parts of the suite, in its order.
func (r *results) groups() (groups []string) {
	for _, t := range r.tests {
		if t.pkg == reference && len(t.names) == 1 {
			groups = append(groups, t.names[0])
		}
	}
	return groups
}

// worse is the worse of the outcomes of one test in two kinds of a column; "" is that of a kind which does not have it.
func worse(a, b string) string {
	order := []string{"", "skip", "pass", "fail"}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

func cell(outcome string) string {
	switch outcome {
	case "pass":
		return "ok"
	case "fail":
		return "**fail**"
	}
	return "–"
}

func (c column) title() string {
	switch {
	case c.pkg == "filestore":
		return "files (" + fileSystem() + ")"
	case c.pkg == "memstore":
		return "memory"
	case c.server == "":
		return c.pkg
	}
	return serverTitle(c.server)
}

// serverTitle writes VersityVersioned as people do. A server that it does not know keeps the name that its test has.
func serverTitle(name string) string {
	for test, title := range map[string]string{"Versity": "Versity Gateway", "Rclone": "rclone", "MinIO": "MinIO"} {
		if variant, ok := strings.CutPrefix(name, test); ok {
			if variant != strings.ToUpper(variant) { // not TLS
				variant = strings.ToLower(variant)
			}
			return strings.TrimSpace(title + " " + variant)
		}
	}
	return name
}

// fileSystem is what the tests of files ran on: that of the folder for temporary files. The numbers are Linux's (statfs(2)).
func fileSystem() string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(os.TempDir(), &s); err != nil {
		return err.Error()
	}
	names := map[int64]string{0xef53: "ext4", 0x794c7630: "overlay", 0x58465342: "XFS", 0x9123683e: "Btrfs", 0x01021994: "tmpfs"}
	return cmp.Or(names[s.Type], fmt.Sprintf("file system %#x", s.Type))
}

// markdown is a table whose first line is its header.
func markdown(table [][]string) string {
	var b strings.Builder
	for i, line := range table {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			b.WriteString("|" + strings.Repeat(" --- |", len(line)) + "\n")
		}
	}
	return b.String()
}
