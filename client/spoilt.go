package client

import (
	"slices"

	"github.com/comity-im/comity/mls"
)

// A hub cannot verify membership tags, so it may have accepted proposals with a
// wrong one. They are kept, marked as spoilt: an external commit, whose sender
// cannot verify them either, must name a SelfRemove, and is judged by what is
// pending at the hub. No commit of this device names anything of their
// senders.

// takeProposal verifies a proposal from the log. err says what is wrong with
// one that is spoilt.
func (r *chat) takeProposal(m *mls.MLSMessage) (q *mls.QueuedProposal, err error) {
	q, err = r.group.Proposal(m)
	if err == nil {
		if q.Spoilt {
			err = errSpoilt
		}
		return q, err
	}
	if spoilt, spoiltErr := r.group.SpoiltProposal(m); spoiltErr == nil {
		return spoilt, err
	}
	return nil, err
}

// spoilers returns the senders of spoilt proposals among pending.
func spoilers(pending []mls.QueuedProposal) map[mls.Sender]bool {
	senders := make(map[mls.Sender]bool)
	for i := range pending {
		if pending[i].Spoilt {
			senders[pending[i].Sender] = true
		}
	}
	return senders
}

// toCommit returns how many pending proposals a commit of this device would
// name. They must be committed before anything is said (RFC 9420 section 12.4).
func (r *chat) toCommit() int {
	pending := r.group.Pending()
	bad := spoilers(pending)
	n := 0
	for i := range pending {
		if !bad[pending[i].Sender] {
			n++
		}
	}
	return n
}

// carryOut adds the removal of clients that asked to leave, but of which a
// proposal is spoilt. The hub, which could not know, waits for it; members
// agree that it was the client's own wish.
func (r *chat) carryOut(proposals []mls.Proposal) []mls.Proposal {
	proposals = slices.Clone(proposals)
	for _, leaf := range r.spoiltLeavers() {
		if !slices.ContainsFunc(proposals, func(p mls.Proposal) bool {
			return p.Type == mls.ProposalRemove && p.Remove.Removed == leaf
		}) {
			proposals = append(proposals, mls.RemoveProposal(leaf))
		}
	}
	return proposals
}

func (r *chat) spoiltLeavers() []mls.LeafIndex {
	pending := r.group.Pending()
	bad := spoilers(pending)
	var leaves []mls.LeafIndex
	for i := range pending {
		q := &pending[i]
		if q.Proposal.Type == mls.ProposalSelfRemove && bad[q.Sender] && q.Sender.Leaf != r.group.OwnLeaf() && !slices.Contains(leaves, q.Sender.Leaf) {
			leaves = append(leaves, q.Sender.Leaf)
		}
	}
	return leaves
}
