package hub

import (
	"fmt"
	"sync"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// maxDomains bounds the providers whose users one request brings in, since the
// CA of each may have to be fetched.
const maxDomains = 32

// acquaint has the CAs fetched that a request will be judged by. Who asks for
// an update waits for that, not the room: fetching can take long, and a provider
// can see to it that it does. What comes of it is remembered by the Verifier,
// failures as well, and found there when the request is judged.
func (h *Hub) acquaint(req *mimi.UpdateRequest) error {
	domains := make(map[string]bool)
	note := func(leaf *mls.LeafNode) {
		if user, _, err := identity.ClientURIs(&leaf.Credential); err == nil && user.Domain() != h.cfg.Domain {
			domains[user.Domain()] = true
		}
	}
	noteMessage(&req.Message, note)
	for i := range req.MoreProposals {
		noteMessage(&req.MoreProposals[i], note)
	}
	if len(domains) > maxDomains {
		return &room.Error{Code: room.CodeNotAllowed,
			Err: fmt.Errorf("clients of %d other providers; the limit is %d at once", len(domains), maxDomains)}
	}
	var wg sync.WaitGroup
	for d := range domains {
		wg.Go(func() { _, _ = h.cfg.Verifier.Anchors.Anchor(d) })
	}
	wg.Wait()
	return nil
}

// noteMessage calls note for every leaf that a message brings.
func noteMessage(m *mls.MLSMessage, note func(*mls.LeafNode)) {
	if m.PublicMessage == nil {
		return
	}
	noteProposal := func(p *mls.Proposal) {
		switch {
		case p == nil:
		case p.Add != nil:
			note(&p.Add.KeyPackage.LeafNode)
		case p.Update != nil:
			note(&p.Update.LeafNode)
		}
	}
	noteProposal(m.PublicMessage.Content.Proposal)
	if c := m.PublicMessage.Content.Commit; c != nil {
		for i := range c.Proposals {
			noteProposal(c.Proposals[i].Proposal)
		}
		if c.Path != nil {
			note(&c.Path.LeafNode)
		}
	}
}
