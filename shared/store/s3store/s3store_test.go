package s3store_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
	"github.com/reshelf/reshelf/shared/store/storetest"
)

// server is a way to run a server, and what is known of it.
type server struct {
	start     func(testing.TB) *s3test.Server
	only      string // the suite is run only so: the rest is no different from another variant
	versioned bool
	redates   bool // a version that comes back has another LastModified
	limits    storetest.Options
}

func versity(variants ...s3test.Variant) func(testing.TB) *s3test.Server {
	return func(t testing.TB) *s3test.Server { return s3test.Versity(t, variants...) }
}

func minIO(variants ...s3test.Variant) func(testing.TB) *s3test.Server {
	return func(t testing.TB) *s3test.Server { return s3test.MinIO(t, variants...) }
}

// servers are those that tests run with.
func servers() map[string]server {
	all := map[string]server{
		"Versity":          {start: versity(), limits: storetest.Options{Odd: control}},
		"VersityVersioned": {start: versity(s3test.Versioned), only: "Archive", versioned: true, redates: true, limits: storetest.Options{Odd: control, VacatedTaken: true}},
		"VersityTLS":       {start: versity(s3test.TLS), only: "Ledger", limits: storetest.Options{Odd: control}},
		"Rclone":           {start: s3test.Rclone, only: "Archive", limits: storetest.Options{Odd: controlOrNFD, TornReaders: true}},
	}
	if s3test.WithMinIO() {
		all["MinIO"] = server{start: minIO(), limits: storetest.Options{AssumeSingleWriter: true, Odd: controlOrDots}}
		all["MinIOVersioned"] = server{start: minIO(s3test.Versioned), versioned: true, limits: storetest.Options{Odd: controlOrDots}}
	}
	return all
}

// control reports keys with characters that XML 1.0 has not, which servers write into it all the same, where they are lost;
// see TestGarbledNames.
func control(key archive.Key) bool {
	return strings.ContainsFunc(string(key), func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' })
}

// controlOrNFD reports also one of two forms of a letter, which rclone takes for one.
func controlOrNFD(key archive.Key) bool {
	return control(key) || strings.Contains(string(key), "e\u0301")
}

// controlOrDots reports also segments of dots and spaces, which MinIO refuses.
func controlOrDots(key archive.Key) bool {
	for seg := range strings.SplitSeq(string(key), "/") {
		if seg = strings.TrimSpace(seg); seg == "." || seg == ".." {
			return true
		}
	}
	return control(key)
}

func TestConformance(t *testing.T) {
	for name, s := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			running, clients := s.start(t), newClients(t)
			for kind, o := range map[string]s3store.Options{"Ledger": {Ledger: true, Renames: true}, "Archive": {Renames: true}} {
				if s.only != "" && kind != s.only {
					continue
				}
				limits, at := s.limits, newPlace(t, running, "")
				limits.Archive, o.Probes = !o.Ledger, &kept{}
				_, err := clients.Open(t.Context(), at.root(t), o) // so that only one probes
				must(t, err)
				var n atomic.Int64
				t.Run(kind, func(t *testing.T) {
					storetest.Run(t, func(t *testing.T) store.Store {
						at := at
						at.prefix = fmt.Sprintf("a prefix/%d", n.Add(1))
						st, err := clients.Open(t.Context(), at.root(t), o)
						must(t, err)
						return st
					}, limits)
				})
			}
		})
	}
}
