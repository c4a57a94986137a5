package mls

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// stagedRecord is the stored form of a commit that was made here. The public
// part of the new epoch follows from the commit and is computed anew.
//
//	struct {
//	    uint8 version; /* 1, or 2 for a commit that is a PrivateMessage */
//	    uint64 epoch;  /* in which the commit was made */
//	    MLSMessage commit;
//	    select (StagedRecord.version) {
//	        case 1: struct{};
//	        case 2: AuthenticatedContent content;
//	    };
//	    optional<Welcome> welcome;
//	    GroupInfo group_info;
//	    EpochSecrets secrets;
//	    NodeKey keys<V>;
//	} StagedRecord;
type stagedRecord struct {
	epoch   Epoch
	sc      StagedCommit // Message, Welcome and GroupInfo
	content *AuthenticatedContent
	secrets epochSecrets
	keys    treeKeys
}

func (s *stagedRecord) MarshalTLS(w *tlspl.Writer) {
	if s.content == nil {
		w.Uint8(stagedRecordPublic)
	} else {
		w.Uint8(stagedRecordPrivate)
	}
	w.Uint64(s.epoch)
	s.sc.Message.MarshalTLS(w)
	if s.content != nil {
		s.content.MarshalTLS(w)
	}
	w.Optional(s.sc.Welcome != nil, func(w *tlspl.Writer) { s.sc.Welcome.MarshalTLS(w) })
	s.sc.GroupInfo.MarshalTLS(w)
	s.secrets.MarshalTLS(w)
	s.keys.MarshalTLS(w)
}

func (s *stagedRecord) UnmarshalTLS(r *tlspl.Reader) {
	v := r.Uint8()
	if r.Err() == nil && v != stagedRecordPublic && v != stagedRecordPrivate {
		r.Failf("staged commit of version %d; this program reads versions %d and %d", v, stagedRecordPublic, stagedRecordPrivate)
	}
	s.epoch = r.Uint64()
	s.sc.Message = new(MLSMessage)
	s.sc.Message.UnmarshalTLS(r)
	if v == stagedRecordPrivate {
		s.content = new(AuthenticatedContent)
		s.content.UnmarshalTLS(r)
	}
	if r.Optional() {
		s.sc.Welcome = new(Welcome)
		s.sc.Welcome.UnmarshalTLS(r)
	}
	s.sc.GroupInfo = new(GroupInfo)
	s.sc.GroupInfo.UnmarshalTLS(r)
	s.secrets.UnmarshalTLS(r)
	s.keys.UnmarshalTLS(r)
}

// The versions of a StagedRecord.
const (
	stagedRecordPublic  = 1
	stagedRecordPrivate = 2
)

// SealStaged returns a commit of Commit in a form to store until it is known
// whether the commit was accepted. It holds the secrets of the new epoch:
// store it encrypted, and delete it when the commit is merged or dropped. The
// proposals that the commit refers to must have been stored by Records.
//
// What JoinExternal returns is stored by the Records of its Group.
func (g *Group) SealStaged(sc *StagedCommit) ([]byte, error) {
	switch {
	case sc.private == nil || sc.private.secrets == nil || sc.GroupInfo == nil:
		return nil, fmt.Errorf("%w: not a commit that this group made", ErrInvalidCommit)
	case sc.Before != g.state:
		return nil, fmt.Errorf("%w: the commit was staged in another epoch", ErrWrongEpoch)
	}
	return tlspl.Marshal(&stagedRecord{
		epoch:   g.state.Epoch(),
		sc:      StagedCommit{Message: sc.Message, Welcome: sc.Welcome, GroupInfo: sc.GroupInfo},
		content: sc.private.content,
		secrets: *sc.private.secrets,
		keys:    sc.private.keys,
	})
}

// LoadStaged restores a commit of SealStaged in the epoch in which it was
// made. A commit that changed the signature key needs the new signer; others
// are ignored. It returns an error that matches ErrWrongEpoch if the group
// has moved on, so that the commit can only be dropped.
func (g *Group) LoadStaged(b []byte, signers ...Signer) (*StagedCommit, error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	var s stagedRecord
	if err := Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%w: staged commit: %w", ErrState, err)
	}
	if s.epoch != g.state.Epoch() {
		return nil, fmt.Errorf("%w: the commit was made in epoch %d, the group is in epoch %d", ErrWrongEpoch, s.epoch, g.state.Epoch())
	}
	a, err := g.openStaged(&s)
	if err != nil {
		return nil, err
	}
	c := &a.Content
	if c.Commit == nil || c.Sender != MemberSender(g.own) {
		return nil, fmt.Errorf("%w: the staged message is not an own commit", ErrState)
	}
	props, err := resolveProposals(c.Commit, c.Sender, &g.pending)
	if err != nil {
		return nil, err
	}
	// The key packages were valid when the commit was made.
	cfg := *g.cfg
	cfg.SkipLifetime = true
	p, err := g.state.stageProposals(&cfg, props, c.Sender)
	if err != nil {
		return nil, err
	}
	if err := p.applyPath(c.Commit.Path); err != nil {
		return nil, err
	}
	sc, err := g.publicOutcome(p, a)
	if err != nil {
		return nil, err
	}
	if err := s.keys.check(sc.After.tree); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	for _, secret := range s.secrets.fields() {
		if len(*secret) != g.suite.nh() {
			return nil, fmt.Errorf("%w: secrets of the staged commit have another length", ErrState)
		}
	}
	if !macEqual(g.suite.confirmationTag(s.secrets.confirmation, sc.After.context.ConfirmedTranscriptHash), sc.After.ConfirmationTag()) {
		return nil, fmt.Errorf("%w: the secrets of the staged commit are not those of its confirmation tag", ErrState)
	}
	sc.private = &stagedPrivate{own: g.own, secrets: &s.secrets, keys: s.keys, content: s.content}
	leaf, _ := sc.After.Member(g.own)
	if !bytes.Equal(leaf.SignatureKey, g.signer.Public()) {
		for _, signer := range signers {
			if bytes.Equal(leaf.SignatureKey, signer.Public()) {
				sc.private.signer = signer
			}
		}
		if sc.private.signer == nil {
			return nil, fmt.Errorf("%w: the commit changed the signature key: pass its signer", ErrKey)
		}
	}
	sc.Message, sc.Welcome, sc.GroupInfo = s.sc.Message, s.sc.Welcome, s.sc.GroupInfo
	return sc, nil
}

// openStaged authenticates a stored commit. The key of an own PrivateMessage
// was used up when it was made, so that its content is stored beside it.
func (g *Group) openStaged(s *stagedRecord) (*AuthenticatedContent, error) {
	if s.content == nil {
		a, _, err := g.openHandshake(s.sc.Message)
		return a, err
	}
	c := &s.content.Content
	if s.sc.Message.WireFormat != s.content.WireFormat || !bytes.Equal(c.GroupID, g.state.GroupID()) || c.Epoch != g.state.Epoch() {
		return nil, fmt.Errorf("%w: the staged message and its content do not fit together", ErrState)
	}
	return s.content, g.state.verifyContent(s.content)
}

// publicOutcome finishes a commit without the secrets of its epoch: one that
// was made here before, or that removes the local member.
func (g *Group) publicOutcome(p *provisional, a *AuthenticatedContent) (*StagedCommit, error) {
	confirmed, err := g.suite.confirmedTranscriptHash(g.state.interim, a)
	if err != nil {
		return nil, err
	}
	if _, err := p.confirm(confirmed); err != nil {
		return nil, err
	}
	after, err := p.finish(a.Auth.ConfirmationTag)
	if err != nil {
		return nil, err
	}
	return p.staged(after, a.Content.AuthenticatedData), nil
}
