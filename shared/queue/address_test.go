package queue_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/queue"
)

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"localhost", "redis://localhost:6379"},
		{"10.0.0.1:7000", "redis://10.0.0.1:7000"},
		{"redis://localhost", "redis://localhost:6379"},
		{"redis://localhost/", "redis://localhost:6379"},
		{"redis://localhost:7000/3", "redis://localhost:7000/3"},
		{"redis://localhost?db=3", "redis://localhost:6379/3"},
		{"redis://:secret@localhost", "redis://:xxxxx@localhost:6379"},
		{"redis://alice@localhost", "redis://alice@localhost:6379"},
		{"redis://alice:secret@localhost", "redis://alice:xxxxx@localhost:6379"},
		{"redis://al%2Fce:se%40%2F%3Acret@localhost", "redis://al%2Fce:xxxxx@localhost:6379"},
		{"redis://a:b:c@localhost", "redis://a:xxxxx@localhost:6379"},
		{"redis://a:b@c@localhost", "redis://a:xxxxx@localhost:6379"},
		{"redis://[::1]", "redis://[::1]:6379"},
		{"redis://[::1]:7000", "redis://[::1]:7000"},
		{"rediss://localhost", "rediss://localhost:6379"},
		{"rediss://localhost?skip_verify=true", "rediss://localhost:6379?skip_verify=true"},
		{"unix:///run/redis.sock", "unix:///run/redis.sock"},
		{"unix://alice:secret@/run/redis.sock?db=2", "unix://alice:xxxxx@/run/redis.sock?db=2"},
		{"redis+sentinel://:secret@a:26380,b/mymaster?db=0", "redis+sentinel://:xxxxx@a:26380,b:26379/mymaster"},
		{"rediss+sentinel://a/m?db=1&sentinel_user=s", "rediss+sentinel://a:26379/m?db=1&sentinel_user=s"},
		{"redis+cluster://a,b:7001,[::1]:7002", "redis+cluster://a:6379,b:7001,[::1]:7002"},
		{"rediss+cluster://u:secret@a", "rediss+cluster://u:xxxxx@a:6379"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			a, err := queue.ParseAddress(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			again, err := queue.ParseAddress(tt.want)
			if err != nil || again.String() != tt.want {
				t.Errorf("its text parses as %v, %v", again, err)
			}
		})
	}
}

func TestAddressFrom(t *testing.T) {
	const text = "redis+sentinel://:old@a/master"
	env := map[string]string{}
	plain, err := queue.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []queue.Address{plain, plain.WithPassword("new"), plain.WithPassword("new").WithSentinelPassword("other")} {
		got, err := queue.AddressFrom(text, func(name string) string { return env[name] })
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("with %v: got %v, %v", env, got, err)
		}
		if env["RESHELF_REDIS_PASSWORD"] != "" {
			env["RESHELF_REDIS_SENTINEL_PASSWORD"] = "other"
		}
		env["RESHELF_REDIS_PASSWORD"] = "new"
	}
	if _, err := queue.AddressFrom("redis://", os.Getenv); !errors.Is(err, queue.ErrAddress) {
		t.Errorf("got %v, want ErrAddress", err)
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, text := range []string{
		"", "redis://", "://", "http://localhost", "redis+x://localhost", "unix+cluster:///x", "redis://:hunter2",
		"redis://localhost:0", "redis://localhost:70000", "redis://localhost:x", "redis://localhost/x", "redis://localhost/-1",
		"redis://localhost/1/2", "redis://localhost//x", "redis://localhost#x", "redis://a,b", "redis://a b", "redis://::1",
		"redis://localhost?hunter2=1", "redis://localhost?skip_verify=true", "rediss://localhost?skip_verify=hunter2",
		"redis://localhost?%zz", "unix://localhost/x", "unix://", "unix:///",
		"redis+sentinel://a", "redis+sentinel://a/m/n", "redis+cluster://a/1", "redis+cluster://a?db=1", "redis+cluster://a,",
		"redis://:hun/ter2@localhost", "redis://:hun?ter2@localhost", "redis://:hun#ter2@localhost", "redis://:hun%zzter2@localhost",
		"redis://:hunter2@local host", "redis://:12/hunter2@localhost", "hunter2://localhost", "redis//:hunter2@localhost",
	} {
		t.Run(text, func(t *testing.T) {
			a, err := queue.ParseAddress(text)
			if !errors.Is(err, queue.ErrAddress) {
				t.Fatalf("got %v, error %v, want ErrAddress", a, err)
			}
			if s := err.Error(); strings.Contains(s, "hun") || strings.Contains(s, "ter2") {
				t.Errorf("the error shows the password: %s", s)
			}
		})
	}
}

func TestAddressKeepsPasswords(t *testing.T) {
	a, err := queue.ParseAddress("redis+sentinel://alice:one@a/m")
	if err != nil {
		t.Fatal(err)
	}
	a = a.WithPassword("hunter2").WithSentinelPassword("hunter3")
	text, _ := a.MarshalText()
	for _, s := range []string{a.String(), string(text), fmt.Sprintf("%v %+v %#v %s", a, a, a, a)} {
		if strings.Contains(s, "hunter") {
			t.Errorf("%s shows a password", s)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"localhost", "/3", "a,b/m?db=1", "[::1]:1", "host?skip_verify=true", "/run/x.sock", "x@y", "%41/"} {
		f.Add("redis", s)
		f.Add("rediss+sentinel", s)
		f.Add("redis+cluster", s)
		f.Add("unix", s)
	}
	f.Fuzz(func(t *testing.T, scheme, rest string) {
		const password = "Q7gPzWx0"
		a, err := queue.ParseAddress(scheme + "://user:" + password + "@" + rest)
		if err != nil {
			if strings.Contains(err.Error(), password) {
				t.Fatalf("the error shows the password: %v", err)
			}
			return
		}
		text := a.String()
		if strings.Contains(text, password) {
			t.Fatalf("the text shows the password: %s", text)
		}
		again, err := queue.ParseAddress(text)
		if err != nil {
			t.Fatalf("text %q: %v", text, err)
		}
		if got := again.String(); got != text {
			t.Fatalf("got %q again, want %q", got, text)
		}
	})
}
