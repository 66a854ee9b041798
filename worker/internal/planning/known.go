package planning

import (
	"fmt"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/naming"
)

// know keeps of a record what names are made of.
func (p *planner) know(c *candidate, r batch.Record) {
	if r.Facts != nil {
		c.Facts = *r.Facts
	}
	c.Tags = p.pick(r.Tags)
	needs := p.needs()
	for _, d := range r.Digests {
		if needs.Digests.Has(d.Algorithm()) {
			c.Digests = append(c.Digests, d)
		}
	}
	if naming.IsXMP(r.Key) {
		c.Mute = r.Mute()
	}
	if p.batch.Copies() {
		c.Row.Digest = strongest(r.Digests)
	}
}

// strongest is the digest that says most of a content: the first that is proof of it, or else any; zero if there is none.
func strongest(digests []digest.Digest) digest.Digest {
	for _, d := range digests {
		if _, proves := digest.Set(0).With(d.Algorithm()).Proof(); proves {
			return d
		}
	}
	if len(digests) == 0 {
		return digest.Digest{}
	}
	return digests[0]
}

// isOfContent reports whether an object could not be inspected for what is in it, while it is there to be renamed.
func isOfContent(r batch.Reason) bool {
	return slices.Contains([]batch.Reason{
		batch.ReasonFormat, batch.ReasonTimeout, batch.ReasonCrashed, batch.ReasonTooLarge, batch.ReasonKilled,
	}, r)
}

// asCompanion is the row of a companion, with what is to be said of it. A broken sidecar does not keep its object from being
// renamed.
func (c *candidate) asCompanion() (row batch.Row, note string) {
	if !c.Follows {
		return c.Row, ""
	}
	return batch.Row{From: c.Row.From, Want: c.Row.Want}, c.Row.Message + "; it goes where its object goes"
}

// known is what is known of a principal when it is named.
type known struct {
	principal *candidate
	// sidecar is the first of its XMP sidecars that can say something, nil if there is none.
	sidecar *candidate
	// muted are those that cannot, up to the sidecar.
	muted []*candidate
	batch batch.ID
	// numbers of the principal in the scopes of scopesOf
	numbers []int64
}

// known finds what is known of the principal of a unit.
func (p *planner) known(near map[archive.Key]*candidate, of naming.Unit) known {
	k := known{principal: near[of.Principal], batch: p.batch.ID}
	if p.batch.Renaming.IgnoreSidecars {
		return k
	}
	for _, key := range of.Sidecars {
		c := near[key]
		if c.Mute == "" {
			k.sidecar = c
			break
		}
		k.muted = append(k.muted, c)
	}
	return k
}

// values is what the principal is named by.
func (k known) values(t *naming.Template) naming.Values {
	c := k.principal
	v := naming.Values{
		Key: c.Row.From, Size: c.Row.Want.Size, MTime: c.Row.Want.ModTime(), Facts: c.Facts, Tags: c.Tags, Digests: c.Digests,
		Batch: string(k.batch), Counters: k.numbers, Columns: c.Columns, Original: c.Original,
	}
	if t.Needs().Seq && len(k.numbers) > 0 {
		v.Seq, v.Counters = k.numbers[0], k.numbers[1:]
	}
	if k.sidecar != nil {
		v.Sidecar = &naming.Sidecar{Facts: k.sidecar.Facts, Tags: k.sidecar.Tags}
	}
	return v
}

// counters is how many numbers an object gets.
func counters(t *naming.Template) int {
	if t.Needs().Seq {
		return 1 + t.Counters()
	}
	return t.Counters()
}

// scopesOf are what objects that a template counts together share, one for each of its counters: the batch's, if it has one, first.
func scopesOf(t *naming.Template, v naming.Values) []string {
	var out []string
	if t.Needs().Seq {
		out = append(out, "")
	}
	for i := range t.Counters() {
		out = append(out, t.Scope(i, v))
	}
	return out
}

// note says which sidecars were not used, "" if none.
func (k known) note() string {
	var notes []string
	for _, c := range k.muted {
		if !c.Row.Moves() && !c.Follows { // the unit stays where it is, and its row says why
			continue
		}
		notes = append(notes, fmt.Sprintf("its sidecar %s was not used: %s", c.Row.From.Text(), c.Mute))
	}
	return strings.Join(notes, "; ")
}
