package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// GroupInfo answers a GroupInfoRequest of a client of the provider source, or of
// that provider itself for its replica. A room that does not exist looks like
// one that the requester may not know.
func (h *Hub) GroupInfo(ctx context.Context, source string, roomURI mimi.URI, body []byte) ([]byte, error) {
	req := new(mimi.GroupInfoRequest)
	if err := mls.Unmarshal(body, req); err != nil {
		return nil, fmt.Errorf("hub: group info: %w: %w", federation.ErrMalformed, err)
	}
	no := func(reason string) ([]byte, error) {
		h.cfg.Metrics.Refused(mimi.EndpointGroupInfo, mimi.GroupInfoNotAuthorized.String())
		h.cfg.Log.Info("group info refused", "room", roomURI, "source", source, "reason", reason)
		return mls.Marshal(&mimi.GroupInfoResponse{Protocol: req.Protocol, Room: roomURI, Status: mimi.GroupInfoNotAuthorized})
	}
	if err := req.Verify(); err != nil {
		return no("signature")
	}
	// Before anybody is asked whether the credential is genuine.
	if presentedDomain(&req.Credential) != source {
		return no("credential of another provider")
	}
	names, err := h.cfg.Verifier.Identify(&req.Credential, req.SignatureKey, h.cfg.Now())
	if federation.Unreached(err) {
		return nil, err // nobody can say whose credential it is
	}
	if err != nil {
		return no("credential: " + err.Error())
	}
	if names.Domain != source {
		return no("credential of another provider")
	}
	if !roomURI.Is(mimi.KindRoom) || roomURI.Domain() != h.cfg.Domain {
		return nil, fmt.Errorf("hub: %s is not a room of ours: %w", roomURI, federation.ErrNotFound)
	}
	answer, err := h.do(ctx, roomURI, &job{read: func(_ context.Context, r *loaded) ([]byte, error) {
		if reason := r.mayKnow(names); reason != "" {
			return no(reason)
		}
		return h.groupInfo(r, req)
	}})
	if errors.Is(err, federation.ErrNotFound) {
		return no("no such room")
	}
	return answer, err
}

// presentedDomain returns the domain that a credential names, genuine or not; ""
// if it names none.
func presentedDomain(c *mls.Credential) string {
	if user, _, err := identity.ClientURIs(c); err == nil {
		return user.Domain()
	}
	domain, _ := identity.ProviderDomain(c)
	return domain
}

// mayKnow returns why the named may not have the room's GroupInfo; "" if they
// may.
func (r *loaded) mayKnow(names identity.Names) string {
	policy := r.state.Effective().Policy()
	if !names.IsClient() {
		for _, p := range policy.Participants {
			if p.User.Domain() == names.Domain && policy.IsParticipant(p.User) {
				return ""
			}
		}
		// Those who are about to go still follow the room, and must be able to
		// begin to: the events that bring their clients in may not have arrived.
		if slices.Contains(r.state.Committed().Providers(), names.Domain) {
			return ""
		}
		return "no participant of the provider"
	}
	switch {
	case policy.IsParticipant(names.User):
		return ""
	case policy.IsBanned(names.User):
		return "banned"
	case policy.Roles.Role(room.RoleNone).Can(room.CanOpenJoin):
		return ""
	}
	return "not a participant"
}

// groupInfo seals what an external joiner needs.
func (h *Hub) groupInfo(r *loaded, req *mimi.GroupInfoRequest) ([]byte, error) {
	_, signer, err := h.cfg.Sender(req.CipherSuite)
	if err != nil {
		return nil, fmt.Errorf("hub: %w: %w", federation.ErrMalformed, err)
	}
	if r.state.GroupInfo() == nil {
		return nil, fmt.Errorf("hub: %s has no GroupInfo", r.name)
	}
	var sender *mls.ExternalSender
	for i, s := range r.state.Group().ExternalSenders() {
		if bytes.Equal(s.SignatureKey, signer.Public()) {
			sender = &r.state.Group().ExternalSenders()[i]
			break
		}
	}
	if sender == nil {
		return nil, fmt.Errorf("hub: %w: no external sender of the room has a key of suite %v", federation.ErrMalformed, req.CipherSuite)
	}
	tree, err := mimi.FullTree(r.state.Group().RatchetTree())
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	content := &mimi.GroupInfoRatchetTree{GroupInfo: *r.state.GroupInfo(), RatchetTree: tree, PendingProposals: r.pending}
	resp, err := mimi.SealGroupInfo(req, r.uri, content, *sender, signer)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	return mls.Marshal(resp)
}
