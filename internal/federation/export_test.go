package federation

// Alive notes that a peer is there, as an authenticated request of it does.
func (p *Peers) Alive(domain string) {
	if q, err := p.peer(domain); err == nil {
		p.alive(q)
	}
}
