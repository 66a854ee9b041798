package keeper

import (
	"path/filepath"
	"time"
)

// upcoming is an announced request that ExifTool may have been given before go-exiftool has sent it. So ExifTool does not wait
// while the answer for one file travels and the request for the next one comes.
type upcoming struct {
	announcement
	begun *tool // that was given it; nil if none was
}

// begunBy reports whether t reads the file now or has read it. It is false for no request and for no tool.
func (u *upcoming) begunBy(t *tool) bool { return u != nil && t != nil && u.begun == t }

// goAhead gives t, which has just answered, the next request, if that was announced and t is to read on. Where anything is
// wrong with the file it is left alone until go-exiftool asks for it.
func (k *keeper) goAhead(t *tool) {
	if k.upcoming == nil {
		select {
		case r := <-k.requests:
			k.upcoming = &upcoming{announcement: r}
		default:
			return
		}
	}
	u := k.upcoming
	name := filepath.Join(AliasDir(k.dir), u.Alias)
	due := k.next != nil || k.asked || u.Renew || t.files >= k.settings.MaxFiles // for a new ExifTool
	if !u.Whole || due || !isAlias(k.dir, name) {
		return
	}
	if k.fill(u.file) != nil || k.reachable() != nil {
		return
	}
	if t.begin(k.settings.Args, name, time.Now().Add(u.Deadline)) == nil {
		u.begun = t
	}
}

// forget drops a request that go-exiftool does not send any more. What ExifTool says about it would be taken for the
// answer to the next one.
func (k *keeper) forget(u *upcoming) {
	_ = u.file.Close()
	if u.begunBy(k.running()) {
		k.drop()
	}
}
