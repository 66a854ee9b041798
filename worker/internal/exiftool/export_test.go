package exiftool

// WithoutLandlock returns o for a pool that behaves as on a kernel without Landlock.
func WithoutLandlock(o Options) Options {
	o.withoutLandlock = true
	return o
}

// Waiting counts the reads that have announced their file, where they could, and wait for their turn.
func (p *Pool) Waiting() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		s.mu.Lock()
		if s.waiter != nil {
			n++
		}
		s.mu.Unlock()
	}
	return n
}
