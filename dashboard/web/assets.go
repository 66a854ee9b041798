package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
)

//go:embed static page.html
var files embed.FS

// assets are the files that the page loads, by name.
type assets map[string]asset

type asset struct {
	content     []byte
	contentType string
	version     string // of the content
}

// contentTypes are said here, since those of package mime depend on the machine.
func contentTypes() map[string]string {
	return map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
}

func readAssets() (assets, error) {
	entries, err := files.ReadDir("static")
	if err != nil {
		return nil, err
	}
	all := assets{}
	for _, e := range entries {
		content, err := files.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		contentType, ok := contentTypes()[path.Ext(e.Name())]
		if !ok {
			return nil, fmt.Errorf("static/%s: of unknown type", e.Name())
		}
		all[e.Name()] = asset{content, contentType, hex.EncodeToString(sum[:8])}
	}
	return all, nil
}

// url is where the page finds a file. It changes with the content, so a browser may keep what it has.
func (a assets) url(name string) (string, error) {
	f, ok := a[name]
	if !ok {
		return "", fmt.Errorf("no file static/%s", name)
	}
	return "static/" + name + "?v=" + f.version, nil
}

func (a assets) serve(w http.ResponseWriter, r *http.Request) {
	f, ok := a[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", f.contentType)
	if r.URL.Query().Get("v") == f.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(f.content) // an error means that the client has gone
}
