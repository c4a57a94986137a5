package room

import (
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// decideCommit is what only the hub checks: the committer must not be on its
// way out, what it brings by value must be allowed in the effective state
// too, and every accepted proposal must be covered.
func (s *State) decideCommit(sc *mls.StagedCommit, change *Change, pending []mls.QueuedProposal) error {
	if len(pending) == 0 {
		return nil
	}
	user := change.Committer.User
	switch {
	case sc.External && s.effective.policy.IsBanned(user):
		return denied("%q is being banned", user)
	case !sc.External:
		if _, ok := s.effective.Client(sc.Committer); !ok || !s.effective.policy.IsParticipant(user) {
			return denied("%q is being removed and cannot commit", change.Committer.Device)
		}
	}
	effective, waiting := s.effective, pending
	if kept := s.withoutRemoved(sc, pending); len(kept) < len(pending) {
		var err error
		if effective, err = s.view.project(kept); err != nil {
			return err
		}
		pending = kept
	}
	var joiner *Client
	if sc.External {
		joiner = &change.Committer
	}
	byValue := slices.DeleteFunc(slices.Clone(sc.Proposals), func(q mls.QueuedProposal) bool { return q.Ref != nil })
	d, err := s.view.resolve(byValue, joiner, waiting)
	if err != nil {
		return err
	}
	for _, m := range d.motions {
		if m.user != user || (m.joiner != nil) != sc.External {
			continue // departures, which are pending anyway
		}
		if err := effective.policy.authorise(m, &s.view.policy.Meta); err != nil {
			return err
		}
	}
	return s.checkCovered(sc, change, pending)
}

// withoutRemoved returns the pending proposals but for what clients proposed
// about themselves and their user, and which a member's commit removes without
// using any of it. That goes with the client: the hub cannot verify membership
// tags, so one client could make it wait for proposals that no member takes.
// What a client proposed about others stays.
func (s *State) withoutRemoved(sc *mls.StagedCommit, pending []mls.QueuedProposal) []mls.QueuedProposal {
	if sc.External {
		return pending
	}
	removed := make(map[mls.Sender]bool)
	for _, r := range sc.Removed {
		removed[mls.MemberSender(r.Index)] = true
	}
	for i := range sc.Proposals {
		if sc.Proposals[i].Ref != nil {
			delete(removed, sc.Proposals[i].Sender)
		}
	}
	return slices.DeleteFunc(slices.Clone(pending), func(q mls.QueuedProposal) bool {
		return removed[q.Sender] && s.concernsSender(&q)
	})
}

// concernsSender reports whether a member's proposal is about nobody but its
// sender's user.
func (s *State) concernsSender(q *mls.QueuedProposal) bool {
	sender, ok := s.view.Client(q.Sender.Leaf)
	if !ok {
		return false
	}
	switch q.Proposal.Type {
	case mls.ProposalUpdate, mls.ProposalSelfRemove:
		return true
	case mls.ProposalRemove:
		c, ok := s.view.Client(q.Proposal.Remove.Removed)
		return ok && c.User == sender.User
	}
	moves := s.view.movesOf(&q.Proposal)
	return len(moves) > 0 && !slices.ContainsFunc(moves, func(m roleMove) bool { return m.user != sender.User })
}

// checkCovered verifies that a commit leaves no accepted proposal behind. Not
// missed are a proposal about a client that is gone, the committer's own
// Update, an Update by a client of which the commit has another one, and in
// an external commit any Update, and the leave of a user that the commit
// carries by value.
func (s *State) checkCovered(sc *mls.StagedCommit, change *Change, pending []mls.QueuedProposal) error {
	included := make(map[string]bool)
	updated := make(map[mls.LeafIndex]bool)
	for i := range sc.Proposals {
		q := &sc.Proposals[i]
		if q.Ref != nil {
			included[string(q.Ref)] = true
		}
		if q.Proposal.Type == mls.ProposalUpdate {
			updated[q.Sender.Leaf] = true
		}
	}
	gone := make(map[mls.LeafIndex]bool)
	for _, r := range sc.Removed {
		gone[r.Index] = true
	}
	left := make(map[mimi.URI]bool)
	for _, p := range change.RemovedUsers {
		left[p.User] = true
	}
	for i := range pending {
		q := &pending[i]
		if included[string(q.Ref)] {
			continue
		}
		switch q.Proposal.Type {
		case mls.ProposalRemove:
			if gone[q.Proposal.Remove.Removed] {
				continue
			}
		case mls.ProposalSelfRemove:
			if gone[q.Sender.Leaf] {
				continue
			}
		case mls.ProposalUpdate:
			if sc.External || gone[q.Sender.Leaf] || updated[q.Sender.Leaf] || q.Sender.Leaf == sc.Committer {
				continue
			}
		case mls.ProposalAppDataUpdate:
			moves := s.view.movesOf(&q.Proposal)
			if sc.External && len(moves) == 1 && moves[0].to == RoleNone && left[moves[0].user] {
				continue
			}
		}
		if sc.External {
			return denied("a pending %v must be committed by a member before anyone can join; try again later", q.Proposal.Type)
		}
		return denied("the commit leaves out a pending %v", q.Proposal.Type)
	}
	return nil
}

// addedKeyPackages returns the references of the KeyPackages in Add
// proposals.
func addedKeyPackages(sc *mls.StagedCommit) ([]mls.KeyPackageRef, error) {
	var refs []mls.KeyPackageRef
	for i := range sc.Proposals {
		if a := sc.Proposals[i].Proposal.Add; a != nil {
			ref, err := a.KeyPackage.Ref()
			if err != nil {
				return nil, err
			}
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// checkWelcome verifies that a Welcome is for exactly the added clients: none
// is left without, and no other is bothered.
func checkWelcome(w *mls.Welcome, refs []mls.KeyPackageRef, suite mls.CipherSuite) error {
	if w == nil {
		if len(refs) > 0 {
			return errors.New("clients are added without a Welcome")
		}
		return nil
	}
	if w.CipherSuite != suite {
		return fmt.Errorf("a Welcome of cipher suite %v in a group of %v", w.CipherSuite, suite)
	}
	if len(w.Secrets) != len(refs) {
		return fmt.Errorf("a Welcome for %d clients, where %d are added", len(w.Secrets), len(refs))
	}
	for _, ref := range refs {
		if w.Find(ref) == nil {
			return errors.New("a client is added, but the Welcome is not for it")
		}
	}
	return nil
}

// maxGroupInfoExtensions bounds what a committer can put beside external_pub
// into the GroupInfo, in octets: everyone who joins gets it.
const maxGroupInfoExtensions = 16 << 10

// checkGroupInfo verifies the GroupInfo that came with a commit against the
// epoch it begins, in which group is. A partial one is completed.
func checkGroupInfo(group *mls.PublicGroup, sc *mls.StagedCommit, option *mimi.GroupInfoOption) (*mls.GroupInfo, error) {
	gi := option.Full
	switch {
	case gi != nil && option.Partial != nil, gi == nil && option.Partial == nil:
		return nil, errors.New("a commit needs one GroupInfo")
	case gi == nil:
		p := option.Partial
		if p.TreePresence == mimi.TreePresent || p.TreePresence == mimi.TreeAdded {
			return nil, errors.New("the ratchet tree does not belong into it")
		}
		gi = &mls.GroupInfo{
			GroupContext: *sc.After.GroupContext(), Extensions: p.Extensions,
			ConfirmationTag: sc.After.ConfirmationTag(), Signer: sc.Committer, Signature: p.Signature,
		}
	}
	if gi.Signer != sc.Committer {
		return nil, errors.New("it is not signed by the committer")
	}
	if withoutTree(gi) == nil {
		return nil, errors.New("the ratchet tree does not belong into it")
	}
	if err := group.VerifyGroupInfo(gi); err != nil {
		return nil, err
	}
	return gi, checkExternalPub(gi)
}

// checkExternalPub requires the key that external commits need, and not much
// besides.
func checkExternalPub(gi *mls.GroupInfo) error {
	switch x, err := mls.Marshal(gi.Extensions); {
	case err != nil:
		return err
	case len(x) > maxGroupInfoExtensions:
		return fmt.Errorf("its extensions have %d octets; the limit is %d", len(x), maxGroupInfoExtensions)
	}
	switch _, ok, err := gi.Extensions.ExternalPub(); {
	case err != nil:
		return err
	case !ok:
		return errors.New("the GroupInfo has no external_pub, so nobody could join")
	}
	return nil
}

func refuse(code Code, err error) *Error { return &Error{Code: code, Err: err} }

// refuseMLS turns an error of the MLS group into a refusal; other is the code
// where none fits better.
func (s *State) refuseMLS(err error, other Code) *Error {
	switch {
	case errors.Is(err, mls.ErrWrongEpoch):
		return &Error{Code: CodeWrongEpoch, Epoch: s.view.epoch, Err: fmt.Errorf("%w: %w", ErrWrongEpoch, err)}
	case errors.Is(err, mls.ErrWrongGroup):
		return refuse(CodeNotAllowed, err)
	case errors.Is(err, mls.ErrMissingProposal), errors.Is(err, mls.ErrInvalidProposal):
		return refuse(CodeInvalidProposal, err)
	}
	return refuse(other, err)
}

// refuseProposals turns the verdict on a bundle into a refusal.
func refuseProposals(err error, refs []mls.ProposalRef) *Error {
	if errors.Is(err, ErrNotAllowed) {
		return refuse(CodeNotAllowed, err)
	}
	return &Error{Code: CodeInvalidProposal, Refs: refs, Err: err}
}

// refuseCommit turns the verdict on a commit into a refusal.
func refuseCommit(err error) *Error {
	if errors.Is(err, ErrInvalidUpdate) || errors.Is(err, ErrInvalidRoom) {
		return refuse(CodeInvalidProposal, err)
	}
	return refuse(CodeNotAllowed, err)
}
