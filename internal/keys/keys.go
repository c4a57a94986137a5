// Package keys publishes the KeyPackages of a provider's own users and hands
// them out, each one once (draft-ietf-mimi-protocol-06 section 5.2).
//
// Start with [Keys]. A KeyPackage is checked when it is published, so that
// what is handed out can be used, and again by whoever receives it. A
// last-resort KeyPackage is refused: the protocol forbids to hand out the same
// material twice.
//
// What it does not do yet: consent. Whoever may talk to the provider at all
// may claim KeyPackages of its users.
package keys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// Limits and times.
const (
	// MaxPool is how many KeyPackages of a device are kept for claims.
	MaxPool = 200
	// RepeatFor is how long a repeated request gets its first answer.
	RepeatFor = 24 * time.Hour
	// margin keeps material from expiring on its way to the requester.
	margin = time.Hour
)

// Errors that a client can mend.
var (
	ErrKeyPackage = errors.New("keys: the KeyPackage can't be published")
	ErrPoolFull   = fmt.Errorf("keys: the device has %d unclaimed KeyPackages already", MaxPool)
	ErrRequester  = errors.New("keys: the requester is not who the request says")
)

// Store is what this package needs of the store.
type Store interface {
	PublishKeyPackages(ctx context.Context, device string, kps []store.KeyPackage) (int, error)
	CountKeyPackages(ctx context.Context, device string, now uint64) (int, error)
	ClaimKeyPackages(ctx context.Context, req store.ClaimRequest) ([]store.Claimed, error)
	Device(ctx context.Context, uri string) (store.Device, error)
}

// Config is what Keys needs. Every field is required but Now.
type Config struct {
	Store Store
	// Verify checks a KeyPackage by itself: signatures, lifetime, credential.
	Verify func(kp *mls.KeyPackage) error
	// Identify verifies a credential with its signature key and says whose it is.
	Identify func(c *mls.Credential, signatureKey []byte) (user, device mimi.URI, err error)
	Now      func() time.Time
}

// Keys is the pool of KeyPackages. Safe for concurrent use.
type Keys struct{ cfg Config }

// New returns Keys.
func New(cfg Config) *Keys {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keys{cfg}
}

func (k *Keys) millis() uint64 { return uint64(k.cfg.Now().UnixMilli()) }

// Publish adds KeyPackages of a device to its pool. All are checked first; one
// that is wrong has the whole request refused with ErrKeyPackage. Those that
// are known already are passed over.
func (k *Keys) Publish(ctx context.Context, device mimi.URI, kps []mls.KeyPackage) error {
	if len(kps) > local.MaxKeyPackages {
		return fmt.Errorf("%w: %d at once; the limit is %d", ErrKeyPackage, len(kps), local.MaxKeyPackages)
	}
	d, err := k.cfg.Store.Device(ctx, device.String())
	if err != nil {
		return err
	}
	rows := make([]store.KeyPackage, len(kps))
	for i := range kps {
		if rows[i], err = k.row(&kps[i], &d); err != nil {
			return fmt.Errorf("%w: number %d: %w", ErrKeyPackage, i+1, err)
		}
	}
	count, err := k.cfg.Store.CountKeyPackages(ctx, device.String(), k.millis())
	if err != nil {
		return err
	}
	if count+len(rows) > MaxPool {
		return ErrPoolFull
	}
	_, err = k.cfg.Store.PublishKeyPackages(ctx, device.String(), rows)
	return err
}

func (k *Keys) row(kp *mls.KeyPackage, d *store.Device) (store.KeyPackage, error) {
	if kp.LastResort() {
		return store.KeyPackage{}, errors.New("it is a last-resort KeyPackage, and none may be handed out twice")
	}
	if err := k.cfg.Verify(kp); err != nil {
		return store.KeyPackage{}, err
	}
	_, device, err := k.cfg.Identify(&kp.LeafNode.Credential, kp.LeafNode.SignatureKey)
	if err != nil {
		return store.KeyPackage{}, err
	}
	if device.String() != d.URI {
		return store.KeyPackage{}, fmt.Errorf("it is for %s, not for %s", device, d.URI)
	}
	ref, err := kp.Ref()
	if err != nil {
		return store.KeyPackage{}, err
	}
	body, err := tlspl.Marshal(kp)
	if err != nil {
		return store.KeyPackage{}, err
	}
	notAfter := kp.LeafNode.Lifetime.NotAfter
	if notAfter > 1<<62/1000 {
		return store.KeyPackage{}, errors.New("its lifetime has no end")
	}
	return store.KeyPackage{Ref: ref, Suite: uint16(kp.CipherSuite), NotAfter: notAfter * 1000, Body: body}, nil
}

// Count says how many KeyPackages of a device can be claimed.
func (k *Keys) Count(ctx context.Context, device mimi.URI) (int, error) {
	return k.cfg.Store.CountKeyPackages(ctx, device.String(), k.millis())
}

// Claim answers a KeyMaterialRequest for one of this provider's users, whose
// sender's provider is peer. The same request within RepeatFor gets the same
// KeyPackages, so that an answer that was lost costs none.
//
// The requester must prove to be who the request says, else ErrRequester; that
// the requester may ask is for the caller to decide.
func (k *Keys) Claim(ctx context.Context, peer string, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	resp := &mimi.KeyMaterialResponse{Protocol: req.Protocol, User: req.TargetUser}
	if req.Protocol != mimi.ProtocolMLS10 {
		resp.UserStatus = mimi.KeyMaterialIncompatibleProtocol
		return resp, nil
	}
	if err := k.checkRequester(req); err != nil {
		return nil, err
	}
	body, err := tlspl.Marshal(req)
	if err != nil {
		return nil, err
	}
	suites := make([]uint16, len(req.CipherSuites))
	for i, s := range req.CipherSuites {
		suites[i] = uint16(s)
	}
	now := k.cfg.Now()
	claimed, err := k.cfg.Store.ClaimKeyPackages(ctx, store.ClaimRequest{
		User: req.TargetUser.String(), Suites: suites, Room: req.Room.String(),
		Now:         uint64(now.Add(margin).UnixMilli()),
		RequestHash: sha256.Sum256(body),
		RepeatUntil: uint64(now.Add(RepeatFor).UnixMilli()),
	})
	if errors.Is(err, store.ErrNotFound) {
		resp.UserStatus = mimi.KeyMaterialUserUnknown
		return resp, nil
	}
	if err != nil {
		return nil, err
	}
	served := 0
	for _, c := range claimed {
		client, err := k.client(&c, &req.RequiredCapabilities)
		if err != nil {
			return nil, err
		}
		if client.Status == mimi.ClientSuccess {
			served++
		}
		resp.Clients = append(resp.Clients, *client)
	}
	switch {
	case served == 0:
		resp.UserStatus = mimi.KeyMaterialNoCompatibleMaterial
	case served < len(claimed):
		resp.UserStatus = mimi.KeyMaterialPartialSuccess
	default:
		resp.UserStatus = mimi.KeyMaterialSuccess
	}
	return resp, nil
}

func (k *Keys) checkRequester(req *mimi.KeyMaterialRequest) error {
	if err := req.Verify(); err != nil {
		return fmt.Errorf("%w: %w", ErrRequester, err)
	}
	user, _, err := k.cfg.Identify(&req.Credential, req.SignatureKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRequester, err)
	}
	if user != req.RequestingUser {
		return fmt.Errorf("%w: the credential is that of %s, the request names %s", ErrRequester, user, req.RequestingUser)
	}
	return nil
}

func (k *Keys) client(c *store.Claimed, need *mls.RequiredCapabilities) (*mimi.ClientKeyMaterial, error) {
	device, err := mimi.ParseURI(c.Device)
	if err != nil {
		return nil, fmt.Errorf("keys: device %q in the store: %w", c.Device, err)
	}
	out := &mimi.ClientKeyMaterial{Client: device}
	switch c.Status {
	case store.ClaimExhausted:
		out.Status = mimi.ClientKeyMaterialExhausted
		return out, nil
	case store.ClaimIncompatible:
		out.Status = mimi.ClientNothingCompatible
		return out, nil
	}
	var kp mls.KeyPackage
	if err := tlspl.Unmarshal(c.Body, &kp); err != nil {
		return nil, fmt.Errorf("keys: KeyPackage of %s in the store: %w", c.Device, err)
	}
	if err := kp.LeafNode.Capabilities.Supports(need); err != nil {
		// All KeyPackages of a device say the same, so another one would not help.
		out.Status = mimi.ClientNothingCompatible
		out.Capabilities = &kp.LeafNode.Capabilities
		return out, nil
	}
	out.KeyPackage = &kp
	return out, nil
}
