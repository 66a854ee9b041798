package digest_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/digest"
)

func mustParse(t testing.TB, s string) digest.Digest {
	t.Helper()
	d, err := digest.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAlgorithms(t *testing.T) {
	type row struct {
		Name          string
		Size          int
		Cryptographic bool
	}
	want := []row{
		{"crc32", 4, false},
		{"crc32c", 4, false},
		{"md5", 16, false},
		{"sha1", 20, false},
		{"sha256", 32, true},
		{"sha512", 64, true},
		{"blake3", 32, true},
		{"xxh3-64", 8, false},
		{"xxh3-128", 16, false},
		{"crc64nvme", 8, false},
	}
	var got []row
	for _, a := range digest.Algorithms() {
		got = append(got, row{a.String(), a.Size(), a.Cryptographic()})
		if back, err := digest.ParseAlgorithm(strings.ToUpper(a.String())); err != nil || back != a {
			t.Errorf("ParseAlgorithm of %s in capitals: got %v, %v", a, back, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("algorithms (-want +got):\n%s", diff)
	}
}

func TestUnknownAlgorithm(t *testing.T) {
	for _, a := range []digest.Algorithm{0, digest.CRC64NVME + 1, 255} {
		if a.String() != "" || a.Size() != 0 || a.Cryptographic() {
			t.Errorf("algorithm %d: got %q, %d bytes, cryptographic %t", uint8(a), a, a.Size(), a.Cryptographic())
		}
		if _, err := a.MarshalText(); !errors.Is(err, digest.ErrInvalid) {
			t.Errorf("MarshalText of algorithm %d: got error %v", uint8(a), err)
		}
		if _, err := digest.New(a, nil); !errors.Is(err, digest.ErrInvalid) {
			t.Errorf("New of algorithm %d: got error %v", uint8(a), err)
		}
		if s := digest.DefaultSet(); s.With(a) != s || s.Has(a) {
			t.Errorf("a set took algorithm %d", uint8(a))
		}
	}
	for _, name := range []string{"", "sha-256", "sha256 ", "none", "crc64"} {
		if _, err := digest.ParseAlgorithm(name); !errors.Is(err, digest.ErrInvalid) {
			t.Errorf("ParseAlgorithm(%q): got error %v", name, err)
		}
	}
}

func TestParseSet(t *testing.T) {
	tests := []struct {
		in   string
		want string
		len  int
	}{
		{"", "", 0},
		{"none", "", 0},
		{" None ", "", 0},
		{"sha256,crc32", "crc32,sha256", 2},
		{"xxh3-128, MD5 ,md5", "md5,xxh3-128", 2},
		{"all", "crc32,crc32c,md5,sha1,sha256,sha512,blake3,xxh3-64,xxh3-128,crc64nvme", 10},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			set, err := digest.ParseSet(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := set.String(); got != tt.want {
				t.Errorf("String: got %q, want %q", got, tt.want)
			}
			if got := set.Len(); got != tt.len || len(set.Algorithms()) != tt.len {
				t.Errorf("Len: got %d and %d algorithms, want %d", got, len(set.Algorithms()), tt.len)
			}
			for _, a := range digest.Algorithms() {
				if got, want := set.Has(a), slices.Contains(strings.Split(tt.want, ","), a.String()); got != want {
					t.Errorf("Has(%s): got %t, want %t", a, got, want)
				}
			}
		})
	}
	for _, in := range []string{",", "sha256,", "sha256,,md5", "sha256;md5", "none,md5", "all,md5", "\x00"} {
		if set, err := digest.ParseSet(in); !errors.Is(err, digest.ErrInvalid) || set != 0 {
			t.Errorf("ParseSet(%q): got %v, %v", in, set, err)
		}
	}
}

func TestDefaultSet(t *testing.T) {
	if got, want := digest.DefaultSet().String(), "crc32,sha256"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParse(t *testing.T) {
	d := mustParse(t, "CRC32:CBF43926")
	if got, want := d.String(), "crc32:cbf43926"; got != want {
		t.Errorf("String: got %q, want %q", got, want)
	}
	if d.Algorithm() != digest.CRC32 || d.Hex() != "cbf43926" || d.IsZero() {
		t.Errorf("got algorithm %s, hex %q, zero %t", d.Algorithm(), d.Hex(), d.IsZero())
	}
	made, err := digest.New(digest.CRC32, []byte{0xcb, 0xf4, 0x39, 0x26})
	if err != nil || made != d {
		t.Errorf("New: got %v, %v; want %v", made, err, d)
	}
	bad := []string{
		"", ":", "cbf43926", "crc32", "crc32:", "crc32:cbf439", "crc32:cbf4392600", "crc32:cbf4392", "crc32:cbf4392g",
		"crc32c-:cbf43926", "crc32: cbf43926", "crc32:cbf43926\n", "sha256:cbf43926",
	}
	for _, in := range bad {
		if got, err := digest.Parse(in); !errors.Is(err, digest.ErrInvalid) || !got.IsZero() {
			t.Errorf("Parse(%q): got %v, %v", in, got, err)
		}
	}
}

func TestJSON(t *testing.T) {
	type doc struct {
		Set     digest.Set       `json:"set,omitempty"`
		Digests []digest.Digest  `json:"digests,omitempty"`
		By      digest.Algorithm `json:"by"`
		None    digest.Digest    `json:"none"`
	}
	in := doc{Set: digest.DefaultSet(), Digests: []digest.Digest{mustParse(t, "crc32:00000000")}, By: digest.BLAKE3}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"set":"crc32,sha256","digests":["crc32:00000000"],"by":"blake3","none":""}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	var back doc
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.Set != in.Set || back.Digests[0] != in.Digests[0] || back.By != in.By || !back.None.IsZero() {
		t.Errorf("got %v, want %v", back, in)
	}
	if _, err := json.Marshal(digest.Set(1)); !errors.Is(err, digest.ErrInvalid) {
		t.Errorf("a set with an unknown bit: got error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "crc32:cbf43926", "MD5:d41d8cd98f00b204e9800998ecf8427e", "xxh3-64:00", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := digest.Parse(s)
		if err != nil {
			if !errors.Is(err, digest.ErrInvalid) || !d.IsZero() {
				t.Fatalf("Parse(%q): got %v, %v", s, d, err)
			}
			return
		}
		if got := d.String(); got != strings.ToLower(s) {
			t.Errorf("String: got %q, want %q", got, strings.ToLower(s))
		}
		if again := mustParse(t, d.String()); again != d {
			t.Errorf("parsed again: got %v, want %v", again, d)
		}
	})
}

func FuzzParseSet(f *testing.F) {
	for _, s := range []string{"", "none", "all", "sha256,crc32", "md5,,md5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := digest.ParseSet(s)
		if err != nil {
			if !errors.Is(err, digest.ErrInvalid) {
				t.Fatalf("ParseSet(%q): got error %v", s, err)
			}
			return
		}
		if again, err := digest.ParseSet(set.String()); err != nil || again != set {
			t.Errorf("parsed again: got %v, %v; want %v", again, err, set)
		}
	})
}
