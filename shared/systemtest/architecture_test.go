package systemtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/reshelf/reshelf/"

// layers, lowest first. A package imports only from layers above its own line here, never from its neighbours. An entry
// covers the folders below it that have no entry of their own.
func layers() [][]string {
	return [][]string{
		{"shared/archive", "shared/childtest"},
		{"shared/digest", "shared/service"},
		{"shared/telemetry"},
		{"shared/metadata"},
		{"shared/naming"},
		{"shared/batch"},
		{"shared/store"},
		{"shared/store/filestore", "shared/store/memstore", "shared/store/s3store", "shared/store/s3store/s3test", "shared/store/storetest"},
		{"shared/store/storeurl"},
		{"shared/queue"},
		{"shared/queue/embedded", "shared/queue/monitor", "shared/queue/redistest"},
		{"shared/extsort"},
		{"shared/ledger"},
		{"shared/report", "shared/listing"},
		{"shared/flow"},
		{"worker/internal/exiftool/keeper", "worker/internal/paging", "worker/internal/panics"},
		{"worker/internal/exiftool"},
		{"worker/internal/inspecting", "worker/internal/planning", "worker/internal/renaming", "worker/internal/finishing"},
		{"worker/internal/dispatch"},
		{"worker/runtime", "dashboard/internal"},
		{"dashboard/web"},
		{"producer/internal/standalone", "producer/internal/progress", "producer/internal/history", "producer/internal/editing"},
		{"producer/internal/command"},
		{"producer", "worker", "dashboard"},
		{"shared/systemtest"},
	}
}

// owners are the only packages that may import a third-party module.
func owners() map[string][]string {
	return map[string][]string{
		"github.com/hibiken/asynq":        {"shared/queue"},
		"github.com/hibiken/asynqmon":     {"shared/queue/monitor"},
		"github.com/alicebob/miniredis":   {"shared/queue/embedded"},
		"github.com/redis/go-redis":       {"shared/queue", "shared/ledger"},
		"github.com/minio/minio-go":       {"shared/store/s3store"},
		"github.com/barasher/go-exiftool": {"worker/internal/exiftool"},
		"github.com/landlock-lsm":         {"worker/internal/exiftool/keeper", "worker/internal/paging", "worker/internal/panics"},
		"github.com/parquet-go":           {"shared/report"},
		"github.com/spf13/cobra":          {"producer/internal/command"},
	}
}

type source struct {
	dir  string // below the module, "shared/archive"
	name string
	file *ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var out []source
	set := token.NewFileSet()
	for _, part := range []string{"producer", "worker", "dashboard", "shared"} {
		err := filepath.WalkDir(filepath.Join(top, part), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel(top, filepath.Dir(path))
			out = append(out, source{filepath.ToSlash(dir), filepath.Base(path), f})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (s source) test() bool { return strings.HasSuffix(s.name, "_test.go") }

func (s source) imports(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// layerOf is the layer and the entry that covers dir; -1 if none does.
func layerOf(dir string) (layer int, entry string) {
	layer = -1
	for i, l := range layers() {
		for _, e := range l {
			if (dir == e || strings.HasPrefix(dir, e+"/")) && len(e) > len(entry) {
				layer, entry = i, e
			}
		}
	}
	return layer, entry
}

func TestPackagesImportOnlyFromLowerLayers(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		from, entry := layerOf(s.dir)
		if from < 0 {
			t.Errorf("%s has no layer", s.dir)
		}
		for _, p := range s.imports(t) {
			dir, ours := strings.CutPrefix(p, module)
			if !ours {
				continue
			}
			if to, other := layerOf(dir); other != entry && to >= from {
				t.Errorf("%s/%s imports %s, which is not below it", s.dir, s.name, dir)
			}
		}
	}
}

func TestModulesHaveOwners(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, p := range s.imports(t) {
			for mod, dirs := range owners() {
				if p != mod && !strings.HasPrefix(p, mod+"/") {
					continue
				}
				owned := slices.ContainsFunc(dirs, func(d string) bool { return s.dir == d || strings.HasPrefix(s.dir, d+"/") })
				if !owned {
					t.Errorf("%s/%s imports %s, which belongs to %v", s.dir, s.name, p, dirs)
				}
			}
			if p == "testing" && !strings.HasSuffix(s.dir, "test") {
				t.Errorf("%s/%s links package testing into a program", s.dir, s.name)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	said := map[string]int{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		if s.file.Doc != nil && !strings.HasPrefix(s.file.Doc.Text(), "go:build") {
			said[s.dir]++
			if name := s.file.Name.Name; name != "main" && !strings.HasPrefix(s.file.Doc.Text(), "Package "+name+" ") {
				t.Errorf("%s/%s: the package comment does not begin with \"Package %s\"", s.dir, s.name, name)
			}
		} else {
			said[s.dir] += 0
		}
	}
	for dir, n := range said {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one", dir, n)
		}
	}
}

func TestNoInitNoGrabBags(t *testing.T) {
	bags := []string{"util", "utils", "common", "helpers", "types", "models", "config", "errors", "base", "mock", "mocks"}
	for _, s := range sources(t) {
		if slices.Contains(bags, s.file.Name.Name) {
			t.Errorf("%s: a package named %s says nothing", s.dir, s.file.Name.Name)
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s/%s has an init function", s.dir, s.name)
			}
		}
	}
}
