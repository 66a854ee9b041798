package exiftool

import (
	"context"
	"fmt"
	"time"

	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// Pages brings the parts of a file of which not all is there. paging.File is one.
type Pages interface {
	// Load sees to it that the bytes from offset up to offset+length are in the file, as far as the content has them, and
	// reports the extent around them that is there until the next call.
	Load(ctx context.Context, offset, length int64) (from, to int64, err error)
}

// pager serves one read of a file.
type pager struct {
	instance *instance
	pages    Pages // nil if the file is whole
	err      error // of pages
}

// forget drops a question that an earlier read has left behind.
func (p *pager) forget() {
	select {
	case <-p.instance.asked:
	default:
	}
}

// serve answers a question, and reports how long that took. After a failure nothing more is brought.
func (p *pager) serve(ctx context.Context, q keeper.Question) time.Duration {
	began := time.Now()
	answer := keeper.Answer{ID: q.ID, Failed: true}
	if p.pages != nil && p.err == nil {
		ctx, cancel := p.instance.whileAlive(ctx)
		defer cancel()
		var err error
		if answer.From, answer.To, err = p.pages.Load(ctx, q.Offset, q.Length); err == nil {
			answer.Failed = false
		} else if p.err = (ContentError{err}); ctx.Err() != nil {
			p.err = fmt.Errorf("%w: a part was not brought: %w", errLost, ctx.Err())
		}
	}
	answer.Took = time.Since(began)
	_ = p.instance.conn.Answer(answer) // where it fails, the keeper is lost, which is noticed elsewhere
	return answer.Took
}

// judge is what came of the read: what ExifTool says counts only if it has read nothing but the content.
func (p *pager) judge(r Result, err error) (Result, error) {
	if err == nil && p.err != nil {
		return Result{}, p.err
	}
	return r, err
}

// whileAlive is ctx, but ends with the keeper, too.
func (i *instance) whileAlive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-i.lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-watched }
}
