package renaming_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// A plan did not know that the archive folds names, as one folder below a root may do. Nothing is renamed by it, and no record tells of copies.
func TestFoldingThatThePlanDidNotSee(t *testing.T) {
	for name, open := range foldingStores() {
		for _, cancelled := range []bool{false, true} {
			t.Run(fmt.Sprint(name, cancelled), func(t *testing.T) {
				w := folded(t, open(), "A.JPG -> B.JPG @ A.JPG", "A.XMP -> A.xmp @ A.JPG", "C.JPG -> c.JPG")
				for i := range w.rows {
					w.rows[i].Park = ""
				}
				w.led = ledger.New(memstore.New(archive.Root{}))
				w.seal(t)
				check(t, w.execute(claim{cancelled: cancelled}))
				w.checkWorld(t, nil)
				for key, r := range w.records(t) {
					if strings.Contains(r.Message, "a copy of it") {
						t.Errorf("%s: %s", key, r.Message)
					}
				}
				u := w.planUndo(t)
				for _, r := range u.rows {
					if r.Moves() {
						t.Errorf("the undo renames %s to %s", r.From, r.To)
					}
				}
				check(t, u.execute(claim{}))
				wantContents(t, w.archive.Store, "A.JPG", "A.XMP", "C.JPG")
			})
		}
	}
}
