package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

type jsonAnswer[T any] struct{ Body T }

const smallBody = 16 << 10

// accounts registers what concerns devices and their keys.
func (a *API) accounts() {
	huma.Register(a.doc, operation("enrol", http.MethodPost, local.PathEnrol,
		"Turn an enrolment code into a device with a certificate", smallBody, true, http.StatusForbidden),
		func(ctx context.Context, in *struct{ Body local.EnrolRequest }) (*jsonAnswer[local.EnrolResponse], error) {
			resp, err := a.enrol(ctx, &in.Body)
			if err != nil {
				return nil, a.failed(ctx, "enrol", err)
			}
			return &jsonAnswer[local.EnrolResponse]{*resp}, nil
		})

	huma.Register(a.doc, operation("challenge", http.MethodPost, local.PathChallenge,
		"Get a challenge to sign for a token", smallBody, true),
		func(context.Context, *struct{}) (*jsonAnswer[local.ChallengeResponse], error) {
			return &jsonAnswer[local.ChallengeResponse]{local.ChallengeResponse{Challenge: a.cfg.Tokens.Challenge()}}, nil
		})

	huma.Register(a.doc, operation("token", http.MethodPost, local.PathToken,
		"Get a bearer token for a signature with the device's key", smallBody, true, http.StatusUnauthorized),
		func(ctx context.Context, in *struct{ Body local.TokenRequest }) (*jsonAnswer[local.TokenResponse], error) {
			resp, err := a.login(ctx, &in.Body)
			if err != nil {
				return nil, a.failed(ctx, "token", err)
			}
			return &jsonAnswer[local.TokenResponse]{*resp}, nil
		})

	huma.Register(a.doc, operation("publishKeyPackages", http.MethodPut, local.PathKeyPackages,
		"Add KeyPackages to the device's pool", 2<<20, false, http.StatusConflict),
		func(ctx context.Context, in *TLSBody) (*struct{}, error) {
			err := in.check()
			var kps keyPackages
			if err == nil {
				err = decode(in.RawBody, &kps)
			}
			var device mimi.URI
			if err == nil {
				device, err = mimi.ParseURI(deviceOf(ctx).URI)
			}
			if err == nil {
				err = a.cfg.Keys.Publish(ctx, device, kps)
			}
			if err != nil {
				return nil, a.failed(ctx, "publishKeyPackages", err)
			}
			return nil, nil
		})

	huma.Register(a.doc, operation("countKeyPackages", http.MethodGet, local.PathKeyPackages,
		"How many KeyPackages of the device can still be claimed", 0, false),
		func(ctx context.Context, _ *struct{}) (*jsonAnswer[local.KeyPackageCount], error) {
			device, err := mimi.ParseURI(deviceOf(ctx).URI)
			n := 0
			if err == nil {
				n, err = a.cfg.Keys.Count(ctx, device)
			}
			if err != nil {
				return nil, a.failed(ctx, "countKeyPackages", err)
			}
			return &jsonAnswer[local.KeyPackageCount]{local.KeyPackageCount{Count: n}}, nil
		})

	huma.Register(a.doc, operation("anchor", http.MethodGet, local.PathAnchors+"{domain}",
		"The statement by which a provider vouches for the CA of its devices", 0, false, http.StatusBadGateway, http.StatusForbidden),
		func(ctx context.Context, in *struct {
			Domain string `path:"domain" maxLength:"255"`
		}) (*answer, error) {
			domain, err := mimi.ParseDomain(in.Domain)
			if err != nil {
				return nil, a.failed(ctx, "anchor", fmt.Errorf("%w: %w", ErrMalformed, err))
			}
			body, err := a.cfg.Anchor(ctx, domain)
			if err != nil {
				return nil, a.failed(ctx, "anchor", err)
			}
			return tlsAnswer(body), nil
		})
}

// keyPackages is KeyPackage<V>.
type keyPackages []mls.KeyPackage

// UnmarshalTLS consumes the vector.
func (k *keyPackages) UnmarshalTLS(r *tlspl.Reader) {
	*k = tlspl.ReadVector(r, local.MaxKeyPackages, func(r *tlspl.Reader, kp *mls.KeyPackage) { r.Value(kp) })
}

// enrol makes a device. The same request again gets the same answer, so that
// one that was lost costs no code.
func (a *API) enrol(ctx context.Context, req *local.EnrolRequest) (*local.EnrolResponse, error) {
	if len(req.Code) > local.MaxEnrolmentCode || len(req.DeviceName) > local.MaxDeviceName {
		return nil, malformed("the code or the device name is too long")
	}
	suite := mls.CipherSuite(req.CipherSuite)
	tbs, err := req.TBS()
	if err != nil {
		return nil, malformed("%v", err)
	}
	hash := sha256.Sum256([]byte(req.Code))
	device := store.Device{
		Name: req.DeviceName, PublicKey: req.PublicKey, CipherSuite: req.CipherSuite,
		Created: uint64(a.cfg.Now().UnixMilli()),
	}
	user, uri, err := a.owner(ctx, hash, req.DeviceName)
	if err != nil {
		return nil, err
	}
	// Strangers have no code, and do not get a signature of theirs verified.
	if err := mls.VerifyWithLabel(suite, req.PublicKey, local.LabelEnrol, tbs, req.Signature); err != nil {
		return nil, ErrEnrolment
	}
	device.URI, device.User = uri.String(), user.String()
	if device.Certificate, err = a.cfg.Issue(user, uri, suite, req.PublicKey); err != nil {
		return nil, err
	}
	err = a.cfg.Directory.UseEnrolment(ctx, hash, device, device.Created)
	if errors.Is(err, store.ErrExists) {
		return nil, fmt.Errorf("%w: the user has a device %q already; choose another name", ErrForbidden, req.DeviceName)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrEnrolment
	}
	if err != nil {
		return nil, err
	}
	if device, err = a.cfg.Directory.Device(ctx, device.URI); err != nil { // a repetition has the first certificate
		return nil, err
	}
	anchor, err := a.cfg.Anchor(ctx, a.cfg.Domain)
	if err != nil {
		return nil, err
	}
	a.cfg.Log.InfoContext(ctx, "device enrolled", "device", device.URI)
	return &local.EnrolResponse{
		User: device.User, Device: device.URI, Certificate: device.Certificate,
		Anchor: anchor, ExternalSender: a.cfg.ExternalSender,
	}, nil
}

// owner finds the user that a code is for and the URI of the new device.
func (a *API) owner(ctx context.Context, hash store.Hash, deviceName string) (user, device mimi.URI, err error) {
	e, err := a.cfg.Directory.Enrolment(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		return user, device, ErrEnrolment
	}
	if err != nil {
		return user, device, err
	}
	if user, err = mimi.ParseURI(e.User); err != nil {
		return user, device, fmt.Errorf("api: user %q in the store: %w", e.User, err)
	}
	if deviceName == "" || mimi.EscapeName(deviceName) != deviceName {
		return user, device, malformed("a device name has only letters, digits, '-', '.', '_' and '~'")
	}
	// The user's name keeps the names of two users' devices apart.
	device, err = mimi.NewURI(mimi.KindClient, a.cfg.Domain, user.Name()+"/"+deviceName)
	if err != nil {
		return user, device, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return user, device, nil
}

// login gives a token for a signed challenge. Whatever is wrong, the answer is
// the same.
func (a *API) login(ctx context.Context, req *local.TokenRequest) (*local.TokenResponse, error) {
	if len(req.Challenge) > local.MaxChallenge {
		return nil, ErrChallenge
	}
	if err := a.cfg.Tokens.CheckChallenge(req.Challenge); err != nil {
		return nil, err
	}
	uri, err := parse(req.Device, mimi.KindClient)
	if err != nil {
		return nil, err
	}
	d, err := a.cfg.Directory.Device(ctx, uri.String())
	if errors.Is(err, store.ErrNotFound) || (err == nil && d.Revoked != 0) {
		return nil, ErrLogin
	}
	if err != nil {
		return nil, err
	}
	if err := mls.VerifyWithLabel(mls.CipherSuite(d.CipherSuite), d.PublicKey, local.LabelToken, req.Challenge, req.Signature); err != nil {
		return nil, ErrLogin
	}
	// Only now: strangers must not fill the memory of used challenges.
	if err := a.cfg.Tokens.UseChallenge(req.Challenge); err != nil {
		return nil, err
	}
	token, expires := a.cfg.Tokens.Issue(uri)
	return &local.TokenResponse{Token: token, Expires: expires.Unix()}, nil
}
