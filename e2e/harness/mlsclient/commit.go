package main

import (
	"context"
	"fmt"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// enqueue makes proposals pending, unless they are already, and returns
// their references.
func (m *member) enqueue(messages [][]byte) ([]mls.ProposalRef, error) {
	refs := make([]mls.ProposalRef, 0, len(messages))
	for i, b := range messages {
		ref, ok := m.known[string(b)]
		if !ok {
			msg, err := decode(fmt.Sprintf("proposal %d", i), b, mls.WirePublicMessage, mls.WirePrivateMessage)
			if err != nil {
				return nil, err
			}
			q, err := m.group.Proposal(msg)
			if err != nil {
				return nil, fmt.Errorf("proposal %d: %w", i, err)
			}
			if err := m.group.Enqueue(q); err != nil {
				return nil, fmt.Errorf("proposal %d: %w", i, err)
			}
			ref = q.Ref
			m.known[string(b)] = ref
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// A check refuses a staged commit, or returns nil.
type check func(*mls.StagedCommit) error

func anyCommit(*mls.StagedCommit) error { return nil }

// mustClose refuses a commit that holds no ReInit.
func mustClose(sc *mls.StagedCommit) error {
	if sc.After.ReInit() == nil {
		return fmt.Errorf("%w: it holds no ReInit: use the methods for other commits", mls.ErrInvalidCommit)
	}
	return nil
}

// Commit makes a commit of the given proposals and no others. It takes effect
// by HandlePendingCommit.
func (s *server) Commit(_ context.Context, r *mlsclientpb.CommitRequest) (*mlsclientpb.CommitResponse, error) {
	return s.commit(r, anyCommit)
}

func (s *server) commit(r *mlsclientpb.CommitRequest, check check) (*mlsclientpb.CommitResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	refs, err := m.enqueue(r.ByReference)
	if err != nil {
		return nil, err
	}
	o := mls.CommitOptions{Only: refs, ForcePath: r.ForcePath, OmitTree: r.ExternalTree}
	for i, d := range r.ByValue {
		p, err := describe(m.group.State(), d)
		if err != nil {
			return nil, fmt.Errorf("by_value %d: %w", i, err)
		}
		o.Proposals = append(o.Proposals, p)
	}
	return m.commit(o, check)
}

// commit makes and keeps a commit that holds all that o asks for.
func (m *member) commit(o mls.CommitOptions, check check) (*mlsclientpb.CommitResponse, error) {
	sc, err := m.group.Commit(o)
	if err != nil {
		return nil, err
	}
	if want := len(o.Only) + len(o.Proposals); len(sc.Proposals) != want {
		return nil, fmt.Errorf("%w: only %d of the %d proposals can be committed by this member, and together", mls.ErrInvalidProposal, len(sc.Proposals), want)
	}
	if err := check(sc); err != nil {
		return nil, err
	}
	out := new(mlsclientpb.CommitResponse)
	if out.Commit, err = mls.Marshal(sc.Message); err != nil {
		return nil, err
	}
	if out.Welcome, err = encodeWelcome(sc.Welcome); err != nil {
		return nil, err
	}
	if out.RatchetTree, err = encodeTree(sc.After, o.OmitTree); err != nil {
		return nil, err
	}
	m.staged = sc
	return out, nil
}

// HandlePendingCommit puts the commit of Commit into effect.
func (s *server) HandlePendingCommit(_ context.Context, r *mlsclientpb.HandlePendingCommitRequest) (*mlsclientpb.HandleCommitResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	auth, err := m.mergeStaged(anyCommit)
	return &mlsclientpb.HandleCommitResponse{StateId: r.StateId, EpochAuthenticator: auth}, err
}

func (m *member) mergeStaged(check check) ([]byte, error) {
	if m.staged == nil {
		return nil, fmt.Errorf("%w: no commit is pending: call Commit first", mls.ErrInvalidCommit)
	}
	if err := check(m.staged); err != nil {
		return nil, err
	}
	return m.merge(m.staged)
}

// HandleCommit follows the commit of another member, or of one who joins by
// it.
func (s *server) HandleCommit(_ context.Context, r *mlsclientpb.HandleCommitRequest) (*mlsclientpb.HandleCommitResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	auth, err := m.follow(r, anyCommit)
	return &mlsclientpb.HandleCommitResponse{StateId: r.StateId, EpochAuthenticator: auth}, err
}

func (m *member) follow(r *mlsclientpb.HandleCommitRequest, check check) ([]byte, error) {
	if _, err := m.enqueue(r.Proposal); err != nil {
		return nil, err
	}
	msg, err := decode("commit", r.Commit, mls.WirePublicMessage, mls.WirePrivateMessage)
	if err != nil {
		return nil, err
	}
	sc, err := m.group.StageCommit(msg)
	if err != nil {
		return nil, err
	}
	if err := check(sc); err != nil {
		return nil, err
	}
	return m.merge(sc)
}
