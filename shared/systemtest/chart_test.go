package systemtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store/s3store"
)

// These tests read the chart without Helm, which .ci/helm builds: what the chart says fits the programs.

const chart = "../../charts/reshelf"

func readText(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func readYAML(t *testing.T, path string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(readText(t, path)), &out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

func TestChartVersions(t *testing.T) {
	c := readYAML(t, chart+"/Chart.yaml")
	version, app := fmt.Sprint(c["version"]), fmt.Sprint(c["appVersion"])
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) {
		t.Errorf("got version %q, want major.minor.patch", version)
	}
	if version != app {
		t.Errorf("got version %s of the chart and %s of the programs, want them to be released together", version, app)
	}
}

// schema is what of JSON Schema the chart uses.
type schema struct {
	Schema     string            `json:"$schema"`
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Additional any               `json:"additionalProperties"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	Defs       map[string]schema `json:"$defs"`
	Minimum    int               `json:"minimum"`
	Pattern    string            `json:"pattern"`
}

func readSchema(t *testing.T) schema {
	t.Helper()
	var s schema
	if err := json.Unmarshal([]byte(readText(t, chart+"/values.schema.json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestChartSchemaKnowsEveryValue(t *testing.T) {
	s := readSchema(t)
	if s.Schema != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("got schema %q", s.Schema)
	}
	var compare func(path string, s schema, values map[string]any, defs map[string]schema)
	compare = func(path string, s schema, values map[string]any, defs map[string]schema) {
		if s.Additional != false {
			t.Errorf("%s: a misspelt value would be taken", path)
		}
		for name, v := range values {
			p, ok := s.Properties[name]
			if !ok {
				t.Errorf("%s.%s is not in the schema", path, name)
			}
			if p.Ref != "" {
				p = defs[strings.TrimPrefix(p.Ref, "#/$defs/")]
			}
			if below, ok := v.(map[string]any); ok && p.Properties != nil {
				compare(path+"."+name, p, below, defs)
			}
		}
		for name := range s.Properties {
			if _, ok := values[name]; !ok && name != "global" && path+"."+name != ".podSecurityContext."+name {
				t.Errorf("%s.%s is not in values.yaml", path, name)
			}
		}
	}
	compare("", s, readYAML(t, chart+"/values.yaml"), s.Defs)
	for _, path := range chartFiles(t, "ci/*-values.yaml") {
		for name := range readYAML(t, path) {
			if _, ok := s.Properties[name]; !ok {
				t.Errorf("%s: %s is not in the schema", path, name)
			}
		}
	}
}

func chartFiles(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(chart, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found
}

// TestChartSettingsAreFlags: a setting that a program does not know would be ignored in silence.
func TestChartSettingsAreFlags(t *testing.T) {
	variable := regexp.MustCompile(`RESHELF_[A-Z_]+`)
	shared := readText(t, chart+"/templates/_helpers.tpl")
	config := readText(t, chart+"/templates/configmap.yaml")
	worker, dashboard, ok := strings.Cut(config, "{{- if .Values.dashboard.enabled }}")
	if !ok {
		t.Fatal("configmap.yaml has not two parts")
	}
	for program, text := range map[string]string{"worker": shared + worker, "dashboard": shared + dashboard} {
		source := readText(t, "../../"+program+"/main.go") + readText(t, "../queue/address.go") // which reads the passwords
		settings := slices.Sorted(slices.Values(variable.FindAllString(text, -1)))
		for _, v := range slices.Compact(settings) {
			flag := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(v, "RESHELF_")), "_", "-")
			if !strings.Contains(source, strconv.Quote(v)) && !strings.Contains(source, `("`+flag+`"`) && !strings.Contains(source, `, "`+flag+`"`) {
				t.Errorf("the chart sets %s, and reshelf-%s has no flag --%s", v, program, flag)
			}
		}
		if len(settings) < 6 {
			t.Errorf("%s: found only the settings %v", program, settings)
		}
	}
}

// TestChartBuckets: the chart takes the URLs that the programs take, and no others; what it puts into the stores file can be read.
func TestChartBuckets(t *testing.T) {
	pattern := regexp.MustCompile(readSchema(t).Defs["bucket"].Pattern)
	for _, url := range []string{
		"s3://photos", "s3://photos/", "s3://Photos_1.old/2024 and before", "s3://photos?region=eu-central-1",
		"s3://photos/2024?endpoint=https://nas.local:9000&path-style=true&ca=/etc/reshelf/ca/ca.crt&profile=nas",
	} {
		if _, err := archive.ParseRoot(url); err != nil || !pattern.MatchString(url) {
			t.Errorf("%s: the chart takes it: %t; the programs say: %v", url, pattern.MatchString(url), err)
		}
	}
	for _, url := range []string{
		"", "photos", "s3://", "s3://ab", "s3://user:secret@photos", "s3://photos?secret-key=x", "s3://photos?region=a#b",
		"s3://photos?region", "s3://photos?region=a&b",
	} {
		if _, err := archive.ParseRoot(url); err == nil || pattern.MatchString(url) {
			t.Errorf("%s: the chart takes it: %t; the programs say: %v", url, pattern.MatchString(url), err)
		}
	}
	values := readYAML(t, chart+"/ci/s3-values.yaml")["s3"].(map[string]any)
	text, err := yaml.Marshal(values["stores"])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "stores.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	stores, err := s3store.ReadStores(file)
	if err != nil || len(stores.Buckets) != 3 || stores.Buckets["*"].PathStyle != "true" {
		t.Errorf("the programs read the stores file as %+v, %v", stores, err)
	}
}

// TestChartKeepsSecrets: a password or key is in a Secret, and reaches a program by a reference to it; arguments and
// ConfigMaps can be read by many.
func TestChartKeepsSecrets(t *testing.T) {
	secret := regexp.MustCompile(`"?([A-Z0-9_]*(?:PASSWORD|SECRET|ACCESS_KEY|SESSION_TOKEN)[A-Z0-9_]*)"?`)
	seen := map[string]bool{}
	for _, path := range append(chartFiles(t, "templates/*.yaml"), chartFiles(t, "templates/*.tpl")...) {
		text := readText(t, path)
		if strings.Contains(text, "args:") {
			t.Errorf("%s: settings are to come from the environment", path)
		}
		for i, line := range strings.Split(text, "\n") {
			m := secret.FindStringSubmatch(line)
			switch {
			case m == nil || strings.HasPrefix(strings.TrimSpace(line), "key: "):
			case !strings.HasPrefix(line, "- name: ") || !strings.Contains(strings.Join(strings.Split(text, "\n")[i:i+3], "\n"), "secretKeyRef:"):
				t.Errorf("%s:%d: %s does not come from a Secret", path, i+1, m[1])
			default:
				seen[m[1]] = true
			}
		}
	}
	want := []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RESHELF_REDIS_PASSWORD"}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("got %v from Secrets, want %v", got, want)
	}
}

// TestChartGraceCoversShutdown: Kubernetes kills a pod after its grace period, whatever it is doing.
func TestChartGraceCoversShutdown(t *testing.T) {
	part := regexp.MustCompile(`StopWithin: +(?:(\d+) \* )?time\.Second`)
	seconds, parts := 0, 0
	for _, path := range []string{"../../worker/main.go", "../../worker/runtime/runtime.go"} {
		for _, m := range part.FindAllStringSubmatch(readText(t, path), -1) {
			n, err := strconv.Atoi(m[1])
			if m[1] == "" {
				n, err = 1, nil
			}
			if err != nil {
				t.Fatal(err)
			}
			seconds += n
			parts++
		}
	}
	if parts < 5 {
		t.Fatalf("found only %d parts of the worker", parts)
	}
	needed := seconds + parts // service.Run gives each a second more
	grace := readYAML(t, chart+"/values.yaml")["worker"].(map[string]any)["terminationGracePeriodSeconds"].(int)
	least := readSchema(t).Properties["worker"].Properties["terminationGracePeriodSeconds"].Minimum
	if grace <= needed || least <= needed {
		t.Errorf("got a grace period of %d s, at least %d s, and a shutdown that may take %d s", grace, least, needed)
	}
}

// TestChartQuotesStrings: an unquoted y or 1e3 is no string in YAML.
func TestChartQuotesStrings(t *testing.T) {
	value := regexp.MustCompile(`^\s*(?:- )?([A-Za-z/_.-]+): \{\{-? (.*) \}\}$`)
	numbers := []string{"replicas", "port", "terminationGracePeriodSeconds", "readOnly", "maxUnavailable"}
	n := 0
	for _, path := range append(chartFiles(t, "templates/*.yaml"), append(chartFiles(t, "templates/tests/*.yaml"), chartFiles(t, "templates/*.tpl")...)...) {
		for line := range strings.Lines(readText(t, path)) {
			m := value.FindStringSubmatch(strings.TrimRight(line, "\n"))
			if m == nil {
				continue
			}
			n++
			if !strings.HasSuffix(m[2], "quote") && !slices.Contains(numbers, m[1]) {
				t.Errorf("%s: %s is not quoted: %s", path, m[1], strings.TrimSpace(line))
			}
		}
	}
	if n < 30 {
		t.Errorf("looked at only %d values", n)
	}
}

// TestImages: the Dockerfile makes what the chart runs.
func TestImages(t *testing.T) {
	dockerfile := readText(t, "../../Dockerfile")
	values := readYAML(t, chart+"/values.yaml")
	for _, target := range []string{"producer", "worker", "dashboard"} {
		_, stage, ok := strings.Cut(dockerfile, " AS "+target+"\n")
		if !ok {
			t.Errorf("the Dockerfile has no target %s", target)
			continue
		}
		stage, _, _ = strings.Cut(stage, "\nFROM ")
		if !strings.Contains(stage, "\nUSER 65532:65532\n") {
			t.Errorf("the image of the %s runs as root", target)
		}
		if target == "producer" {
			continue
		}
		part := values[target].(map[string]any)
		if got, want := part["image"].(map[string]any)["repository"], "ghcr.io/reshelf/reshelf-"+target; got != want {
			t.Errorf("got image %v, want %s", got, want)
		}
		port := map[string]string{"worker": "8081", "dashboard": "8080"}[target]
		template := readText(t, chart+"/templates/"+target+".yaml")
		for what, ok := range map[string]bool{
			"EXPOSE": strings.Contains(stage, "EXPOSE "+port), "containerPort": strings.Contains(template, "containerPort: "+port+"\n"),
			"RESHELF_LISTEN": strings.Contains(readText(t, chart+"/templates/configmap.yaml"), `RESHELF_LISTEN: ":`+port+`"`),
			"/livez":         strings.Contains(template, `"/livez"`), "/readyz": strings.Contains(template, `"/readyz"`),
		} {
			if !ok {
				t.Errorf("%s: %s does not fit port %s", target, what, port)
			}
		}
	}
}

// TestPodsAreRestricted: what the Pod Security Standard "restricted" asks for, in every pod of the chart.
func TestPodsAreRestricted(t *testing.T) {
	helpers := readText(t, chart+"/templates/_helpers.tpl")
	for _, want := range []string{
		"runAsNonRoot: true", `type: "RuntimeDefault"`, "allowPrivilegeEscalation: false", "readOnlyRootFilesystem: true", `drop: ["ALL"]`,
	} {
		if !strings.Contains(helpers, want) {
			t.Errorf("the helpers do not say %s", want)
		}
	}
	pods := map[string]string{}
	for _, path := range append(chartFiles(t, "templates/*.yaml"), chartFiles(t, "templates/tests/*.yaml")...) {
		if text := readText(t, path); strings.Contains(text, "containers:") {
			pods[path] = text
		}
	}
	if len(pods) != 3 {
		t.Fatalf("got pods in %v, want three", slices.Sorted(maps.Keys(pods)))
	}
	for path, text := range pods {
		for _, want := range []string{`include "reshelf.podSecurity"`, `include "reshelf.containerSecurity"`, "automountServiceAccountToken: false", "resources:"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %s", path, want)
			}
		}
	}
}
