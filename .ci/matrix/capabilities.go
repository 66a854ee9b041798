package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// rows are what is told of each server: a member of the attribute, most of which are those of s3store.Capabilities, and what
// it means.
var rows = [][2]string{
	{"renames", "renames"},
	{"conditionalPut", "an upload does not replace (If-None-Match)"},
	{"conditionalComplete", "an upload or copy in parts does not replace"},
	{"conditionalCopy", "CopyObject does not replace"},
	{"guardsSource", "a copy is refused if its source has changed"},
	{"conditionalDelete", "what has changed is not deleted (If-Match)"},
	{"markersBlock", "a deleted name counts as taken"},
	{"foldsCase", "names that differ in case or Unicode form only are one"},
	{"nested", "`a/b` beside the object `a`"},
	{"tags", "objects have tags"},
	{"countsTags", "HEAD tells how many"},
	{"checksums", "HEAD may be asked for checksums"},
}

// ignored members say where and when, or how the bucket was made.
var ignored = []string{"v", "probed", "endpoint", "bucket", "versioned", "versioning", "locked"}

// capabilities is the table of what servers were seen to do.
func (r *results) capabilities() (string, error) {
	if len(r.probed) == 0 {
		return "", errors.New(probes + " did not run")
	}
	servers := slices.Sorted(maps.Keys(r.probed))
	table := [][]string{{""}}
	for _, row := range rows {
		table = append(table, []string{row[1]})
	}
	for _, server := range servers {
		table[0] = append(table[0], serverTitle(server))
		var found map[string]any
		if err := json.Unmarshal([]byte(r.probed[server]), &found); err != nil {
			return "", fmt.Errorf("capabilities of %s: %w", server, err)
		}
		for i, row := range rows {
			value, ok := found[row[0]]
			if !ok {
				return "", fmt.Errorf("the capabilities of %s have no %s", server, row[0])
			}
			table[i+1] = append(table[i+1], said(value))
			delete(found, row[0])
		}
		maps.DeleteFunc(found, func(name string, _ any) bool { return slices.Contains(ignored, name) })
		if len(found) > 0 {
			return "", fmt.Errorf("a capability of %s has no row: %s", server, strings.Join(slices.Sorted(maps.Keys(found)), ", "))
		}
	}
	return markdown(table), nil
}

func said(value any) string {
	switch value {
	case true:
		return "yes"
	case false:
		return "no"
	}
	return fmt.Sprint(value)
}
