// Package report writes and reads what a finished batch hands over: the catalogue as Parquet, final records as JSON
// lines, tables as CSV, checksum lists, and the summary. docs/reports.md describes every form for users.
//
// Writers stream to an io.Writer and hold a bounded part of what passes through them. None is safe for concurrent use.
package report

import (
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
)

// Names of the files of a report. The catalogue and the records are cut into shards, numbered from 0 with five digits.
const (
	SummaryName    = "summary.json"
	CatalogueName  = "catalogue-%05d.parquet"
	RecordsName    = "records-%05d.jsonl.zst"
	FailuresName   = "failures.csv"
	DuplicatesName = "duplicates.csv"
	PlanName       = "plan.csv"
)

// CurrentKey is the key that the object of a final record has now.
func CurrentKey(r batch.Record) archive.Key {
	if r.To != "" {
		return r.To
	}
	return r.Key
}

// Digest returns the digest of algorithm a that stands for the object's content at the end of the batch. It reports
// false where none was computed, and where the object has changed or vanished since.
func Digest(r batch.Record, a digest.Algorithm) (digest.Digest, bool) {
	if r.Reason == batch.ReasonChanged || r.Reason == batch.ReasonMissing {
		return digest.Digest{}, false
	}
	for _, d := range r.Digests {
		if d.Algorithm() == a {
			return d, true
		}
	}
	return digest.Digest{}, false
}
