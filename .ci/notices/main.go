// Notices writes the licences of everything that is linked into the programs, for THIRD_PARTY_NOTICES.md:
//
//	go run ./.ci/notices > THIRD_PARTY_NOTICES.md
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const self = "github.com/reshelf/reshelf"

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "notices: %v\n", err)
		os.Exit(1)
	}
}

// module is a module of which packages are linked.
type module struct {
	path, version string
	// texts are its licence files, by path in the module.
	texts map[string]string
}

func run(out io.Writer) error {
	modules, err := linked("./producer", "./worker", "./dashboard")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	fmt.Fprint(w, head)
	users := map[string][]string{} // of each text
	for _, m := range modules {
		names := map[string]bool{}
		for file, text := range m.texts {
			found := kinds(text)
			if len(found) == 0 && !strings.HasPrefix(filepath.Base(file), "NOTICE") && !strings.HasSuffix(file, bundled) {
				return fmt.Errorf("%s: %s is of an unknown licence; teach this program to tell it", m.path, file)
			}
			for _, name := range found {
				names[name] = true
			}
			users[text] = append(users[text], m.path+" "+file)
		}
		if len(names) == 0 {
			return fmt.Errorf("%s has no licence", m.path)
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", m.path, m.version, strings.Join(slices.Sorted(maps.Keys(names)), ", "))
	}
	writeTexts(w, users)
	return w.Flush()
}

const head = `# Third-party notices

Reshelf is GPL-3.0-or-later (see [LICENSE](LICENSE)). Its programs contain the Go standard library and the modules below,
as ` + "`go list -deps`" + ` names them. This file is written by ` + "`go run ./.ci/notices`" + `.

Not linked, but in the images of the worker and of the command: [ExifTool](https://exiftool.org) by Phil Harvey, under the
terms of Perl (Artistic License or GPL), as packed by exiftool-vendored.pl (MIT); and what Debian's image and its package
perl consist of, whose licences are in /usr/share/doc. In the image of the dashboard: distroless/static (Apache-2.0). The
pages of asynqmon hold the JavaScript libraries that its file LICENSE.txt below names.

| module | version | licences |
| --- | --- | --- |
`

// linked are the modules of which packages are linked into programs, by path, with the standard library first.
func linked(programs ...string) ([]module, error) {
	const format = `{{if .Standard}}{{else}}{{with .Module}}{{.Path}}|{{.Version}}|{{.Dir}}{{end}}|{{.Dir}}|{{join .EmbedFiles "|"}}{{end}}`
	list, err := exec.Command("go", append([]string{"list", "-deps", "-f", format}, programs...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	env, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	all := map[string]*module{"": {path: "Go standard library", texts: map[string]string{}}}
	if err := all[""].gather(strings.TrimSpace(string(env)), strings.TrimSpace(string(env))); err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(list)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) < 4 || f[0] == self {
			continue
		}
		if all[f[0]] == nil {
			all[f[0]] = &module{path: f[0], version: f[1], texts: map[string]string{}}
		}
		if err := all[f[0]].gather(f[2], f[3]); err != nil {
			return nil, err
		}
		for _, embedded := range f[4:] {
			if !strings.HasSuffix(embedded, bundled) {
				continue
			}
			if err := all[f[0]].read(f[2], filepath.Join(f[3], embedded)); err != nil {
				return nil, err
			}
		}
	}
	var modules []module
	for _, path := range slices.Sorted(maps.Keys(all)) {
		modules = append(modules, *all[path])
	}
	return modules, nil
}

// bundled ends the names of the files in which bundlers of JavaScript gather licences.
const bundled = ".LICENSE.txt"

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// gather reads the licence files of a package: those in its folder, and in all above it up to the module's.
func (m *module) gather(root, dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() || !licenceFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			if err := m.read(root, filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		if dir == root || !strings.HasPrefix(dir, root) {
			return nil
		}
	}
}

func (m *module) read(root, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	m.texts[filepath.ToSlash(name)] = tidy(raw)
	return nil
}

// tidy makes texts equal that differ in white space only.
func tidy(raw []byte) string {
	var b strings.Builder
	for line := range bytes.Lines(raw) {
		b.WriteString(strings.TrimRight(strings.ReplaceAll(string(line), "\f", ""), " \t\r\n") + "\n")
	}
	return strings.Trim(b.String(), "\n") + "\n"
}

// kinds tells licences by what only their texts say.
func kinds(text string) (found []string) {
	flat := strings.Join(strings.Fields(text), " ")
	for _, k := range []struct{ name, says string }{
		{"GPL-3.0", "GNU GENERAL PUBLIC LICENSE Version 3"},
		{"Apache-2.0", "Apache License Version 2.0"},
		{"Apache-2.0", "Licensed under the Apache License, Version 2.0"},
		{"MPL-2.0", "Mozilla Public License"},
		{"CC0-1.0", "CC0 1.0 Universal"},
		{"MIT", "Permission is hereby granted, free of charge"},
		{"MIT", "PERMISSION is hereby granted, free of charge"},
		{"Unlicense", "This is free and unencumbered software released into the public domain"},
		{"ISC", "Permission to use, copy, modify, and/or distribute"},
		{"BSD-3-Clause", "to endorse or promote products derived from this software"},
		{"Go patent grant", "Additional IP Rights Grant (Patents)"},
	} {
		if strings.Contains(flat, k.says) && !slices.Contains(found, k.name) {
			found = append(found, k.name)
		}
	}
	if strings.Contains(flat, "Redistribution and use in source and binary forms") && !slices.Contains(found, "BSD-3-Clause") {
		found = append(found, "BSD-2-Clause")
	}
	return found
}

// writeTexts writes each text once, with those that it is for. The text of the GPL is in LICENSE.
func writeTexts(w io.Writer, users map[string][]string) {
	for _, list := range users {
		slices.Sort(list)
	}
	texts := slices.SortedFunc(maps.Keys(users), func(a, b string) int { return cmp.Compare(users[a][0], users[b][0]) })
	for _, text := range texts {
		fmt.Fprintf(w, "\n## %s\n\n", strings.Join(users[text], "; "))
		if slices.Equal(kinds(text), []string{"GPL-3.0"}) {
			fmt.Fprintln(w, "The GNU General Public License, version 3: see [LICENSE](LICENSE).")
			continue
		}
		fmt.Fprintf(w, "~~~text\n%s~~~\n", text)
	}
}
