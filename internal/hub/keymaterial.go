package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/keys"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// KeyMaterial answers a KeyMaterialRequest that arrived from the provider
// source, in one of two parts. As the hub of the request's room it checks that
// the requester may use what it asks for, and claims from our own users or at
// the target's provider. As the target's provider it serves the hub of the room,
// or, for no room, the requester's provider.
func (h *Hub) KeyMaterial(ctx context.Context, source string, target mimi.URI, body []byte) ([]byte, error) {
	req := new(mimi.KeyMaterialRequest)
	if err := mls.Unmarshal(body, req); err != nil {
		return nil, fmt.Errorf("hub: key material: %w: %w", federation.ErrMalformed, err)
	}
	if req.TargetUser != target {
		return nil, fmt.Errorf("hub: key material: %w: the path names %s, the request %s", federation.ErrMalformed, target, req.TargetUser)
	}
	if req.Room.IsZero() || req.Room.Domain() != h.cfg.Domain {
		return h.asTarget(ctx, source, req, body)
	}
	if req.RequestingUser.Domain() != source {
		return nil, fmt.Errorf("hub: key material: %w: %s asks for %s", federation.ErrForbidden, source, req.RequestingUser)
	}
	verdict, err := h.do(ctx, req.Room, &job{read: func(_ context.Context, r *loaded) ([]byte, error) {
		if !mayClaim(r.state.Effective().Policy(), req) {
			return []byte{0}, nil
		}
		return []byte{1}, nil
	}})
	if errors.Is(err, federation.ErrNotFound) {
		verdict, err = []byte{0}, nil
	}
	if err != nil {
		return nil, err
	}
	if verdict[0] == 0 {
		h.cfg.Metrics.Refused(mimi.EndpointKeyMaterial, "noConsent")
		return mls.Marshal(&mimi.KeyMaterialResponse{Protocol: req.Protocol, UserStatus: mimi.KeyMaterialNoConsent, User: target})
	}
	if target.Domain() == h.cfg.Domain {
		return h.claim(ctx, source, req)
	}
	return h.forward(ctx, req, body)
}

// mayClaim reports whether the requester can make use of key packages of the
// target in the room.
func mayClaim(policy *room.Policy, req *mimi.KeyMaterialRequest) bool {
	user := req.RequestingUser
	return policy.Can(user, room.CanAddParticipant) ||
		policy.IsParticipant(user) && (user == req.TargetUser || policy.IsParticipant(req.TargetUser))
}

func (h *Hub) asTarget(ctx context.Context, source string, req *mimi.KeyMaterialRequest, body []byte) ([]byte, error) {
	if req.TargetUser.Domain() != h.cfg.Domain {
		if source == h.cfg.Domain && req.Room.IsZero() && req.RequestingUser.Domain() == source {
			return h.forward(ctx, req, body) // a client of ours asks for no room
		}
		return nil, fmt.Errorf("hub: key material: %s is not a user of ours: %w", req.TargetUser, federation.ErrNotFound)
	}
	asks := req.RequestingUser.Domain()
	if !req.Room.IsZero() {
		asks = req.Room.Domain()
	}
	if source != asks {
		return nil, fmt.Errorf("hub: key material: %w: %s asks where %s should", federation.ErrForbidden, source, asks)
	}
	return h.claim(ctx, source, req)
}

// claim serves a user of ours.
func (h *Hub) claim(ctx context.Context, source string, req *mimi.KeyMaterialRequest) ([]byte, error) {
	resp, err := h.cfg.Keys.Claim(ctx, source, req)
	if errors.Is(err, keys.ErrRequester) && !federation.Unreached(err) {
		return nil, fmt.Errorf("hub: key material: %w: %w", federation.ErrForbidden, err)
	}
	if err != nil {
		return nil, h.failure(err)
	}
	return mls.Marshal(resp)
}

// forward claims at the target's provider.
func (h *Hub) forward(ctx context.Context, req *mimi.KeyMaterialRequest, body []byte) ([]byte, error) {
	domain := req.TargetUser.Domain()
	answer, err := h.cfg.Peers.Do(ctx, domain, mimi.EndpointKeyMaterial, req.TargetUser, body)
	if err != nil {
		return nil, err
	}
	resp := new(mimi.KeyMaterialResponse)
	if err := mls.Unmarshal(answer, resp); err != nil {
		return nil, fmt.Errorf("hub: key material of %s: %w: %w", domain, federation.ErrBadPeer, err)
	}
	if resp.User != req.TargetUser {
		return nil, fmt.Errorf("hub: key material of %s: %w: it is about %s", domain, federation.ErrBadPeer, resp.User)
	}
	return answer, nil
}
