package batch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

var update = flag.Bool("update", false, "write the golden files anew")

const id batch.ID = "01jd0000000000000000000000"

func when() time.Time { return time.Date(2026, 11, 23, 10, 11, 12, 0, time.UTC) }

func root(t testing.TB) archive.Root {
	t.Helper()
	r, err := archive.FileRoot("/mnt/photos")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rules() *naming.Rules {
	return &naming.Rules{Roles: map[string][]string{"rendered": {"jpg"}, "sidecar": {"aae", "xmp"}}, Companions: []naming.CompanionRule{
		{Name: "{name}.xmp"}, {Name: "{name}.json", Of: []string{"rendered"}, Cut: 46, Number: true},
		{Name: "{stem}_O.aae", From: "IMG_O{digits}.aae", Stem: "IMG_{digits}"},
	}}
}

func sample(t testing.TB) batch.Batch {
	t.Helper()
	return batch.Batch{
		V: batch.Version, ID: id, Kind: batch.Rename, Archive: root(t), Filter: batch.Filter{Include: []string{"*.jpg"}},
		Digests: digest.DefaultSet(), Level: batch.LevelNormal, Pool: "default", Priority: batch.Normal, Name: "holiday",
		TrustStoreChecksums: true,
		Renaming: &batch.RenameOptions{Template: "{date}{ext}", OnConflict: batch.ConflictStop, IgnoreSidecars: true, Groups: rules(), Options: naming.Options{
			Profile: naming.S3, TimeZone: "Europe/Athens", Shifts: []naming.Shift{{Camera: "Canon EOS R5", Seconds: -3720}},
			Maps: map[string]naming.Map{"owners": {"0123": "Ann"}},
		}},
		Submitted: when(), By: "ada@desk", Labels: []string{"2026"},
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

// TestStoredFormsAreFrozen compares every stored and sent form with its golden file. A difference means that a batch of an
// older program could not be read: add fields, never change or remove them, and raise batch.Version if you must.
func TestStoredFormsAreFrozen(t *testing.T) {
	sum, err := digest.Parse("crc32:cbf43926")
	if err != nil {
		t.Fatal(err)
	}
	object := archive.Object{Key: "2024/a\xff.jpg", Identity: archive.Identity{Size: 9, MTime: 1700000000123456789, Inode: 7}}
	forms := map[string]any{
		"batch":  sample(t),
		"edit":   edit(t),
		"second": second(t),
		"copies": copies(t),
		"task":   batch.Task{V: batch.Version, Batch: id, Step: batch.StepInspect, Generation: 1, Segment: 42, Attempt: 3},
		"event":  batch.Event{V: batch.Version, N: 4, Kind: batch.EventApprove, Plan: "ab12", By: "ada", At: when()},
		"listed": batch.Listed{Object: object, Outcome: batch.Skipped, Problem: batch.ReasonSymlink, Detail: "not followed"},
		"record": batch.Record{
			Object: object, Outcome: batch.Done, Digests: []digest.Digest{sum}, FromStore: []digest.Algorithm{digest.CRC32}, Epoch: 1700000000000001, ExifTool: "13.59",
			Tags:  metadata.Tags{"IFD0:Make": json.RawMessage(`"Acme <1>"`), "XMP-dc:Subject": json.RawMessage(`["a","1.10"]`)},
			Facts: &metadata.Facts{Capture: metadata.Time{Wall: "2024-05-01T10:00:00", Offset: "+02:00", Source: "ExifIFD:DateTimeOriginal"}, Make: "Acme"},
			To:    "2024/b.jpg", Copy: "2024/c.jpg", Warnings: []string{"odd"}, Sidecars: []archive.Key{"2024/a\xff.xmp"},
		},
		"row": batch.Row{N: 5, From: "a.jpg", To: "b.jpg", Want: object.Identity, Digest: sum, Group: "a.cr2", DateSource: "mtime", Sidecar: "a.xmp", Changed: []string{"a name was cut"}, Numbered: true, OpID: "00ff", Added: true, Chain: 3, Park: "reshelf-00ff-a.jpg", Back: true, Second: true},
		"plan": batch.Plan{V: batch.Version, Batch: id, Epoch: 9, Segments: []batch.PlanSegment{{SHA256: "aa", Rows: 2, Moves: 1}}, Summary: batch.PlanSummary{
			Rows: 2, Moves: 1, Failed: map[batch.Reason]int64{batch.ReasonExists: 1}, Chained: 2, Second: 3, OldFolders: 1, NewFolders: 1, Bytes: 9, Sidecars: 1, SidecarsMuted: 2, Changed: map[string]int64{"a name was cut": 1},
			Notes:    []string{"the bucket keeps the old versions: it grows by 9 B"},
			Examples: map[batch.Reason][]batch.Row{batch.ReasonExists: {{From: "c", To: "d", Outcome: batch.Failed, Reason: batch.ReasonExists}}},
		}},
	}
	for name, v := range forms {
		t.Run(name, func(t *testing.T) {
			got, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("stored form of %s =\n%s\nwant\n%s", name, got, want)
			}
			back := reflect.New(reflect.TypeOf(v))
			if err := json.Unmarshal(want, back.Interface()); err != nil {
				t.Fatal(err)
			}
			again, err := json.MarshalIndent(back.Interface(), "", "  ")
			if err != nil || !bytes.Equal(append(again, '\n'), want) {
				t.Errorf("%s does not survive reading and writing: %s, %v", name, again, err)
			}
		})
	}
}

// TestOlderFormsAreRead reads a batch as programs wrote it before it could have a trace, trust checksums, ignore sidecars,
// give a template options, or have rules of groups.
func TestOlderFormsAreRead(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "older", "batch.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got batch.Batch
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := sample(t)
	want.Traceparent, want.TrustStoreChecksums, want.Renaming.IgnoreSidecars = "", false, false
	want.Renaming.Options, want.Renaming.Groups = naming.Options{}, nil
	if !reflect.DeepEqual(got, want) || got.Validate() != nil {
		t.Errorf("got %+v (%v), want %+v", got, got.Validate(), want)
	}
	again, err := json.MarshalIndent(got, "", "  ")
	if err != nil || !bytes.Equal(append(again, '\n'), raw) {
		t.Errorf("a batch with neither is written as %s, %v", again, err)
	}
}

func TestValidate(t *testing.T) {
	if err := sample(t).Validate(); err != nil {
		t.Fatalf("sample: %v", err)
	}
	tests := map[string]func(*batch.Batch){
		"version":  func(b *batch.Batch) { b.V = 2 },
		"id":       func(b *batch.Batch) { b.ID = "../../etc" },
		"kind":     func(b *batch.Batch) { b.Kind = "shred" },
		"archive":  func(b *batch.Batch) { b.Archive = archive.Root{} },
		"priority": func(b *batch.Batch) { b.Priority = "urgent" },
		"pool":     func(b *batch.Batch) { b.Pool = "a{b}" },
		"level":    func(b *batch.Batch) { b.Level = "deep" },
		"template": func(b *batch.Batch) { b.Renaming = nil },
		"profile":  func(b *batch.Batch) { b.Renaming.Profile = "amiga" },
		"timezone": func(b *batch.Batch) { b.Renaming.TimeZone = "../etc/passwd" },
		"shift":    func(b *batch.Batch) { b.Renaming.Shifts = []naming.Shift{{Camera: "x", Seconds: 1 << 60}} },
		"map":      func(b *batch.Batch) { b.Renaming.Maps = map[string]naming.Map{"a b": nil} },
		"groups":   func(b *batch.Batch) { b.Renaming.Groups.Companions[0].Name = "{name}/../../x.xmp" },
		"policy":   func(b *batch.Batch) { b.Renaming.OnConflict = "overwrite" },
		"undo":     func(b *batch.Batch) { b.Kind, b.Renaming = batch.Undo, nil },
		"edits":    func(b *batch.Batch) { b.Edits = edit(t).Edits },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			b := sample(t)
			spoil(&b)
			if err := b.Validate(); !errors.Is(err, batch.ErrInvalid) {
				t.Errorf("Validate = %v, want ErrInvalid", err)
			}
		})
	}
}

// A batch without rules, as older programs wrote it, has the program's.
func TestParseGroups(t *testing.T) {
	keys := []archive.Key{"a.cr2", "a.jpg", "a.jpg.json", "a.xmp"}
	for name, tt := range map[string]struct {
		of   *batch.RenameOptions
		want int
	}{
		"an inspection": {nil, 1}, "no rules": {&batch.RenameOptions{}, 1}, "its own": {&batch.RenameOptions{Groups: rules()}, 3},
	} {
		g, err := tt.of.ParseGroups()
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Arrange(keys); len(got) != tt.want {
			t.Errorf("%s: %d units %v, want %d", name, len(got), got, tt.want)
		}
	}
	if _, err := (&batch.RenameOptions{Groups: &naming.Rules{}}).ParseGroups(); !errors.Is(err, naming.ErrRules) {
		t.Errorf("empty rules: %v", err)
	}
}

// second is a batch with a template for names that are taken.
func second(t testing.TB) batch.Batch {
	t.Helper()
	b := sample(t)
	b.Renaming = &batch.RenameOptions{Template: "{date}{ext}", OnConflict: batch.ConflictTemplate, ConflictTemplate: "{date}_{sha256:8}{ext}"}
	return b
}

// A policy that takes the second template has one, and no other policy. What would count objects is refused where it stands.
func TestConflictTemplate(t *testing.T) {
	if err := second(t).Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*batch.RenameOptions){
		"no template":    func(o *batch.RenameOptions) { o.ConflictTemplate = "" },
		"another policy": func(o *batch.RenameOptions) { o.OnConflict = batch.ConflictNumber },
	} {
		b := second(t)
		spoil(b.Renaming)
		if err := b.Validate(); !errors.Is(err, batch.ErrInvalid) {
			t.Errorf("%s: Validate = %v, want ErrInvalid", name, err)
		}
	}
	b := second(t)
	if got, err := b.Renaming.ParseConflict(); err != nil || got.String() != b.Renaming.ConflictTemplate {
		t.Errorf("ParseConflict = %v, %v", got, err)
	}
	b.Renaming.ConflictTemplate = "{date}_{name??seq:3,by=day}{ext}"
	var wrong *naming.SyntaxError
	if _, err := b.Renaming.ParseConflict(); !errors.As(err, &wrong) || wrong.Column != 15 {
		t.Errorf("a counter: %v, want a SyntaxError at column 15", err)
	}
	if got, err := sample(t).Renaming.ParseConflict(); got != nil || err != nil {
		t.Errorf("another policy: %v, %v", got, err)
	}
}

// edit is a batch that edits a plan.
func edit(t testing.TB) batch.Batch {
	t.Helper()
	b := sample(t)
	b.Kind, b.Manifest, b.Filter, b.Level, b.Digests = batch.Edit, true, batch.Filter{}, "", 0
	b.Edits = &batch.PlanRef{Batch: "01jd0000000000000000000001", Digest: strings.Repeat("0a", 32)}
	return b
}

func TestValidateEdit(t *testing.T) {
	if err := edit(t).Validate(); err != nil {
		t.Fatalf("edit: %v", err)
	}
	if s := edit(t).Initial(); s.State != batch.Planning {
		t.Errorf("an edit begins with %s", s)
	}
	tests := map[string]func(*batch.Batch){
		"no plan":      func(b *batch.Batch) { b.Edits = nil },
		"no rows":      func(b *batch.Batch) { b.Manifest = false },
		"no options":   func(b *batch.Batch) { b.Renaming = nil },
		"batch":        func(b *batch.Batch) { b.Edits.Batch = "../x" },
		"digest":       func(b *batch.Batch) { b.Edits.Digest = strings.Repeat("0A", 32) },
		"part":         func(b *batch.Batch) { b.Edits.Part = "half" },
		"no digest":    func(b *batch.Batch) { b.Edits.Digest = "" },
		"other names":  func(b *batch.Batch) { b.Renaming.OnConflict = batch.ConflictNumber },
		"second names": func(b *batch.Batch) { b.Renaming = second(t).Renaming },
		"unseen":       func(b *batch.Batch) { b.Renaming.Approved = true },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			b := edit(t)
			spoil(&b)
			if err := b.Validate(); !errors.Is(err, batch.ErrInvalid) {
				t.Errorf("Validate = %v, want ErrInvalid", err)
			}
		})
	}
}

// copies is a batch that copies.
func copies(t testing.TB) batch.Batch {
	t.Helper()
	b := sample(t)
	b.Renaming.Method = batch.MethodCopy
	b.V = b.Needs()
	return b
}

func TestValidateCopies(t *testing.T) {
	link, edited := copies(t), copies(t)
	link.Renaming.Method = batch.MethodLink
	edited.Kind, edited.Manifest, edited.Filter, edited.Edits = batch.Edit, true, batch.Filter{}, edit(t).Edits
	for _, b := range []batch.Batch{copies(t), link, edited} {
		if err := b.Validate(); err != nil || !b.Copies() {
			t.Errorf("%s %q: %v, copies: %t", b.Kind, b.Method(), err, b.Copies())
		}
	}
	bucket, err := archive.ParseRoot("s3://photos/2024")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*batch.Batch){
		// Programs of version 1 check just this, so that none of them renames instead.
		"version 1":       func(b *batch.Batch) { b.V = batch.Version },
		"version 3":       func(b *batch.Batch) { b.V = 3 },
		"method":          func(b *batch.Batch) { b.Renaming.Method = "symlink" },
		"empty folders":   func(b *batch.Batch) { b.RemoveEmptyFolders = true },
		"links in bucket": func(b *batch.Batch) { b.Renaming.Method, b.Archive = batch.MethodLink, bucket },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			b := copies(t)
			spoil(&b)
			if err := b.Validate(); !errors.Is(err, batch.ErrInvalid) {
				t.Errorf("Validate = %v, want ErrInvalid", err)
			}
		})
	}
	if b := sample(t); b.Copies() || b.Needs() != batch.Version {
		t.Errorf("a rename copies: %t, and needs version %d", b.Copies(), b.Needs())
	}
	if b := (batch.Batch{Kind: batch.Undo}); b.Copies() {
		t.Error("an undo copies")
	}
}

func TestWeightsHalve(t *testing.T) {
	want := 16
	for _, p := range batch.Priorities() {
		if got := p.Weight(); got != want {
			t.Errorf("weight of %s = %d, want %d", p, got, want)
		}
		want /= 2
	}
	if got := batch.Priority("urgent").Weight(); got != 0 {
		t.Errorf("weight of an unknown priority = %d, want 0", got)
	}
}

func TestStatusFollowsOnlyWhatMayFollow(t *testing.T) {
	at := func(state batch.State) batch.Status {
		return batch.Status{State: state, Event: 7, Priority: batch.Normal}
	}
	approve := batch.Event{Kind: batch.EventApprove, Plan: "p"}
	cancelled := at(batch.Renaming)
	cancelled.Cancelled = true
	paused := at(batch.Renaming)
	paused.Paused = true
	tests := []struct {
		name string
		from batch.Status
		e    batch.Event
		want string // "" for ErrTransition
	}{
		{"advance", at(batch.Inspecting), batch.Event{Kind: batch.EventAdvance, To: batch.Planning}, "planning"},
		{"no short cut past the approval", at(batch.Planning), batch.Event{Kind: batch.EventAdvance, To: batch.Renaming}, ""},
		{"approve", at(batch.AwaitingApproval), approve, "renaming"},
		{"approve twice", at(batch.Renaming), approve, ""},
		{"pause", at(batch.Renaming), batch.Event{Kind: batch.EventPause}, "renaming, paused"},
		{"pause twice", paused, batch.Event{Kind: batch.EventPause}, ""},
		{"resume", paused, batch.Event{Kind: batch.EventResume}, "renaming"},
		{"resume what runs", at(batch.Renaming), batch.Event{Kind: batch.EventResume}, ""},
		{"cancel", paused, batch.Event{Kind: batch.EventCancel}, "renaming, cancelled"},
		{"cancel twice", cancelled, batch.Event{Kind: batch.EventCancel}, ""},
		{"cancel what finishes", at(batch.Finishing), batch.Event{Kind: batch.EventCancel}, ""},
		{"approve what was cancelled", batch.Status{State: batch.AwaitingApproval, Cancelled: true, Event: 7}, approve, ""},
		{"nothing after the end", at(batch.Complete), batch.Event{Kind: batch.EventCancel}, ""},
		{"unknown priority", at(batch.Renaming), batch.Event{Kind: batch.EventPriority, Priority: "urgent"}, ""},
		{"fail", at(batch.Finishing), batch.Event{Kind: batch.EventAdvance, To: batch.FailedState, Reason: "r"}, "failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.e.N = tt.from.Event + 1
			got, err := tt.from.Apply(tt.e)
			switch {
			case tt.want == "" && !errors.Is(err, batch.ErrTransition):
				t.Errorf("Apply = %v, %v; want ErrTransition", got, err)
			case tt.want == "" && got != tt.from:
				t.Errorf("a refused event changed the status to %v", got)
			case tt.want != "" && (err != nil || got.String() != tt.want || got.Event != 8):
				t.Errorf("Apply = %v (event %d), %v; want %s", got, got.Event, err, tt.want)
			}
		})
	}
	if _, err := at(batch.Renaming).Apply(batch.Event{N: 7, Kind: batch.EventPause}); !errors.Is(err, batch.ErrTransition) {
		t.Errorf("an event with a number that is taken = %v, want ErrTransition", err)
	}
}

func TestEveryStateEndsAndEveryStepHasItsState(t *testing.T) {
	for _, k := range []batch.Kind{batch.Inspect, batch.Rename, batch.Undo, batch.Edit} {
		b := sample(t)
		b.Kind = k
		seen := map[batch.State]bool{}
		for todo := []batch.State{b.Initial().State}; len(todo) > 0; todo = todo[1:] {
			if s := todo[0]; !seen[s] {
				seen[s] = true
				todo = append(todo, s.Next()...)
				if s.Over() != (len(s.Next()) == 0) {
					t.Errorf("state %s: over %v, next %v", s, s.Over(), s.Next())
				}
			}
		}
		if !seen[batch.Complete] || !seen[batch.Cancelled] {
			t.Errorf("kind %s never ends: %v", k, seen)
		}
	}
}

// TestTransitionsAreDrawn compares the table of transitions with the diagram in docs/architecture.md.
func TestTransitionsAreDrawn(t *testing.T) {
	doc, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, drawn, _ := strings.Cut(string(doc), "stateDiagram-v2\n")
	drawn, _, _ = strings.Cut(drawn, "```")
	got := map[string]bool{}
	for line := range strings.Lines(drawn) {
		line, _, _ = strings.Cut(strings.ReplaceAll(line, "_", "-"), ":")
		got[strings.TrimSpace(strings.ReplaceAll(line, "[*]", ""))] = true
	}
	want := map[string]bool{}
	for _, from := range []batch.State{"", batch.Inspecting, batch.Planning, batch.AwaitingApproval, batch.Renaming, batch.Finishing} {
		for _, to := range from.Next() {
			want[strings.TrimSpace(string(from)+" --> "+string(to))] = true
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("drawn transitions = %v, want %v", got, want)
	}
}

func TestPlanBlockedOnlyByConflictsUnderStop(t *testing.T) {
	s := batch.PlanSummary{Failed: map[batch.Reason]int64{batch.ReasonNoValue: 3, batch.ReasonExists: 1}}
	if got := s.Blocked(batch.ConflictStop); len(got) != 1 || got[0] != batch.ReasonExists {
		t.Errorf("Blocked(stop) = %v, want target-exists", got)
	}
	if got := s.Blocked(batch.ConflictSkip); got != nil {
		t.Errorf("Blocked(skip) = %v, want none", got)
	}
}

func FuzzParseTask(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "task.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"v":1,"batch":"../x","step":"inspect","generation":1,"attempt":1}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		task, err := batch.ParseTask(payload)
		if err != nil {
			return
		}
		if _, err := batch.ParseID(string(task.Batch)); err != nil || task.Attempt < 1 || task.Segment < 0 {
			t.Errorf("ParseTask(%q) = %+v", payload, task)
		}
		again, err := json.Marshal(task)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := batch.ParseTask(again); err != nil || back != task {
			t.Errorf("task %+v does not survive: %+v, %v", task, back, err)
		}
	})
}

func TestMute(t *testing.T) {
	xmp := &metadata.Facts{MIME: "application/rdf+xml"}
	title := metadata.Tags{"XMP-dc:Title": json.RawMessage(`"x"`)}
	for want, r := range map[string]batch.Record{
		"":                               {Outcome: batch.Done, Facts: xmp, Tags: title, Warnings: []string{"minor"}},
		"nothing could be read in it":    {Outcome: batch.Done, Warnings: []string{"File is empty"}},
		`it is not XMP but image/\u{1b}`: {Outcome: batch.Done, Facts: &metadata.Facts{MIME: "image/\x1b"}, Tags: title},
		"ExifTool says bad":              {Outcome: batch.Done, Facts: xmp, Warnings: []string{"bad", "worse"}},
		"it is broken":                   {Outcome: batch.Failed, Reason: batch.ReasonFormat, Message: "it is broken", Facts: xmp, Tags: title},
		"cold-storage":                   {Outcome: batch.Skipped, Reason: batch.ReasonCold},
	} {
		if got := r.Mute(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	long := batch.Record{Outcome: batch.Done, Facts: xmp, Warnings: []string{strings.Repeat("é", 1000)}}
	if got := long.Mute(); got != "ExifTool says "+strings.Repeat("é", 100)+"…" {
		t.Errorf("a long warning: got %q", got)
	}
	if got := (batch.Record{Outcome: batch.Done, Facts: xmp}).Mute(); got != "" {
		t.Errorf("XMP without properties: got %q", got)
	}
}
