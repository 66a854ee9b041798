package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/naming"
)

// shots is an archive with a group of each kind.
func shots(t *testing.T) *bench {
	b := newBench(t, map[string]string{
		"IMG_1.JPG": jpg(t), "IMG_1.MOV": "film", "IMG_2_BURST001.JPG": jpg(t), "IMG_2_BURST002.JPG": jpg(t),
		"C0001.MP4": "film 1", "C0001M01.XML": "<NonRealTimeMeta/>", "P(1).JPG": jpg(t), "P.JPG.supplemental-met(1).json": "{}", "list.json": "{}",
	})
	for _, name := range []string{"IMG_1", "IMG_2_BURST001", "IMG_2_BURST002", "P(1)"} {
		b.tag(name+".JPG", "-DateTimeOriginal=2024:05:03 13:05:09")
	}
	return b
}

func (b *bench) rules(text string) string {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return file
}

func TestGroupsMoveAsOne(t *testing.T) {
	b := shots(t)
	before := b.files()
	b.want(0, []string{"9 objects renamed"}, "rename", b.archive, "n/{name|lower}_x{ext}", "--yes")
	want := map[string]string{}
	for from, to := range map[string]string{
		"IMG_1.JPG": "img_1_x.JPG", "IMG_1.MOV": "img_1_x.MOV", "IMG_2_BURST001.JPG": "img_2_burst001_x.JPG", "IMG_2_BURST002.JPG": "img_2_burst002_x.JPG",
		"C0001.MP4": "c0001_x.MP4", "C0001M01.XML": "c0001_xM01.XML", "P(1).JPG": "p(1)_x.JPG", "P.JPG.supplemental-met(1).json": "p(1)_x.JPG.supplemental-metadata.json",
		"list.json": "list_x.json",
	} {
		want["n/"+to] = before[from]
	}
	if diff := cmp.Diff(want, b.files()); diff != "" {
		t.Fatalf("after the rename:\n%s", diff)
	}
	b.want(0, []string{`"{stem}M01.xml"`, `"x3f"`}, "show", "last", "--json")
	b.want(0, []string{"9 objects renamed back"}, "undo", "last", "--yes")
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Errorf("after undo:\n%s", diff)
	}
}

func TestOtherGroups(t *testing.T) {
	b := shots(t)
	own := b.rules("roles: {rendered: [jpg], video: [mov, mp4]}\ncompanions:\n- name: '{stem}.mov' # live photos\n  of: [rendered]\n- name: list.json\n")
	b.want(2, []string{"--groups " + own + ": invalid rules of groups: line 5, companions[1].name, \"list.json\"; want a pattern such as", "see: reshelf rename --help"},
		"rename", b.archive, "n/{name}{ext}", "--groups", own)
	b.want(2, []string{"line 5, companions[1].name"}, "groups", "--groups", own)
	b.want(2, []string{"line 5, companions[1].name"}, "try", "--groups", own, "{name}{ext}", filepath.Join(b.archive, "list.json"))
	b.want(2, []string{"no such file"}, "rename", b.archive, "n/{name}{ext}", "--groups", own+".none")
	b.want(2, []string{"is longer than"}, "groups", "--groups", b.rules(strings.Repeat("#", 2<<20)))
	b.want(4, []string{"no batch was made there yet"}, "list")

	text := "roles: {rendered: [jpg], video: [mov, mp4]}\ncompanions:\n- name: '{stem}.mov' # live photos\n  of: [rendered]\n"
	own = b.rules(text)
	if o := b.want(0, nil, "groups", "--groups", own); o.stdout != text {
		t.Errorf("groups --groups prints %q", o.stdout)
	}
	t.Setenv("RESHELF_GROUPS", own)
	b.want(0, []string{"IMG_1.MOV -> n/1305.MOV", "C0001M01.XML -> n/c0001m01.XML", "C0001.MP4 -> n/c0001.MP4"}, "try", "n/{date:%H%M??name|lower}{ext}",
		filepath.Join(b.archive, "IMG_1.JPG"), filepath.Join(b.archive, "IMG_1.MOV"), filepath.Join(b.archive, "C0001.MP4"), filepath.Join(b.archive, "C0001M01.XML"))
	b.want(3, nil, "rename", b.archive, "n/{model??name|lower}{ext}")
	b.want(0, []string{"IMG_1.MOV,n/img_1.MOV,", "C0001M01.XML,n/c0001m01.XML,", "P.JPG.supplemental-met(1).json,n/p.jpg.supplemental-met(1).json,"}, "plan", "last", "--csv")
	o := b.want(0, []string{`"{stem}.mov"`}, "show", "last", "--json")
	if strings.Contains(o.stdout, "M01.xml") {
		t.Errorf("the batch has other rules: %s", o.stdout)
	}
}

func TestTryGroups(t *testing.T) {
	b := shots(t)
	t.Chdir(b.archive)
	b.want(0, []string{
		"IMG_1.MOV -> 1305.MOV", "C0001M01.XML -> noneM01.XML", "P.JPG.supplemental-met(1).json -> 1305.JPG.supplemental-metadata.json", "list.json -> none.json",
	}, "try", `{date:%H%M??"none"}{ext}`, "IMG_1.JPG", "IMG_1.MOV", "C0001.MP4", "C0001M01.XML", "P(1).JPG", "P.JPG.supplemental-met(1).json", "list.json")
}

func TestDefaultGroups(t *testing.T) {
	b := newBench(t, nil)
	if o := b.want(0, nil, "groups"); o.stdout != naming.DefaultRulesText() {
		t.Errorf("groups prints %q", o.stdout)
	}
	own := b.rules(naming.DefaultRulesText())
	b.want(0, nil, "groups", "--groups", own)
}
