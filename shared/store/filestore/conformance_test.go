//go:build linux

package filestore_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/storetest"
)

func TestConformance(t *testing.T) {
	alone := storetest.Options{Archive: true, AssumeSingleWriter: true}
	for name, test := range map[string]struct {
		opts    filestore.Options
		prepare func(*filestore.Store)
		suite   storetest.Options
	}{
		"Archive":    {filestore.Options{}, func(*filestore.Store) {}, storetest.Options{Archive: true}},
		"Ledger":     {filestore.Options{Ledger: true}, func(*filestore.Store) {}, storetest.Options{}},
		"Spilling":   {filestore.Options{}, func(s *filestore.Store) { s.SpillAbove(2) }, storetest.Options{Archive: true}},
		"LinkUnlink": {filestore.Options{}, withoutNoReplace, alone},
		"Devices":    {filestore.Options{}, acrossDevices, alone},
		"LedgerWithoutNoReplace": {
			filestore.Options{Ledger: true}, withoutNoReplace, storetest.Options{AssumeSingleWriter: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store {
				s := open(t, t.TempDir(), test.opts)
				test.prepare(s)
				return s
			}, test.suite)
		})
	}
}

func open(t *testing.T, dir string, opts filestore.Options) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// withoutNoReplace makes s believe that it is on a file system like NFS.
func withoutNoReplace(s *filestore.Store) {
	s.Unguard()
	s.SetRenameat2(func(int, string, int, string, uint) error { return unix.EINVAL })
}

// acrossDevices makes s believe that every rename of an object goes to another device.
func acrossDevices(s *filestore.Store) {
	s.SetRenameat2(func(olddir int, oldname string, newdir int, newname string, flags uint) error {
		if !strings.HasPrefix(oldname, store.TempPrefix) {
			return unix.EXDEV
		}
		return unix.Renameat2(olddir, oldname, newdir, newname, flags)
	})
}
