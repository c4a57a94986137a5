package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// Buckets and rows of the store that do not belong to a room.
const (
	bucketDevice = "device"
	rowIdentity  = "identity"  // deviceRecord
	rowEnrolling = "enrolling" // deviceRecord without names

	bucketKeyPackages = "keyPackages" // keyPackageRecord by KeyPackageRef in hex
	bucketPublished   = "published"   // KeyPackages that the provider has, by KeyPackageRef in hex
	bucketPins        = "pins"        // pinned anchors by domain
	bucketRooms       = "rooms"       // chatRecord by room URI
)

// A deviceRecord is who the device is.
type deviceRecord struct {
	User           mimi.URI        `json:"user"`
	Device         mimi.URI        `json:"device"`
	Suite          mls.CipherSuite `json:"suite"`
	Private        []byte          `json:"private"` // signature key
	Certificates   [][]byte        `json:"certificates"`
	Anchor         []byte          `json:"anchor"`
	ExternalSender []byte          `json:"external_sender"`

	// While enrolling.
	Code string `json:"code,omitempty"`
	Name string `json:"name,omitempty"`
}

func (d *deviceRecord) credential() mls.Credential { return mls.X509Credential(d.Certificates...) }

// Enrol turns an enrolment code into a device, stores it, and opens it. The
// device's key is stored before the provider sees it, so that a call that
// failed half way can be made again with the same code.
func Enrol(ctx context.Context, cfg Config, code, deviceName string) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if code == "" || len(code) > local.MaxEnrolmentCode || deviceName == "" || len(deviceName) > local.MaxDeviceName {
		return nil, fmt.Errorf("client: an enrolment code and a device name of at most %d letters are needed", local.MaxDeviceName)
	}
	switch _, err := cfg.Store.Get(ctx, bucketDevice, rowIdentity); {
	case err == nil:
		return nil, ErrEnrolled
	case !errors.Is(err, ErrNoValue):
		return nil, err
	}
	rec, err := enrolling(ctx, cfg, code, deviceName)
	if err != nil {
		return nil, err
	}
	signer, err := mls.NewSigner(rec.Suite, rec.Private)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	req := local.EnrolRequest{Code: code, DeviceName: deviceName, CipherSuite: uint16(rec.Suite), PublicKey: signer.Public()}
	tbs, err := req.TBS()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if req.Signature, err = mls.SignWithLabel(signer, local.LabelEnrol, tbs); err != nil {
		return nil, fmt.Errorf("client: sign enrolment: %w", err)
	}
	var resp local.EnrolResponse
	if err := exchangeJSON(ctx, cfg.Transport, local.PathEnrol, req, &resp); err != nil {
		return nil, fmt.Errorf("client: enrol: %w", err)
	}
	if err := rec.accept(&resp, signer.Public()); err != nil {
		return nil, err
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	b := Batch{Durable: true}
	b.Set(bucketDevice, rowIdentity, value)
	b.Remove(bucketDevice, rowEnrolling)
	if err := cfg.Store.Apply(ctx, b); err != nil {
		return nil, err
	}
	return Open(ctx, cfg)
}

// enrolling returns the stored record of an earlier attempt with the same
// code, or makes a new one.
func enrolling(ctx context.Context, cfg Config, code, name string) (*deviceRecord, error) {
	rec := new(deviceRecord)
	value, err := cfg.Store.Get(ctx, bucketDevice, rowEnrolling)
	if err == nil {
		if err := json.Unmarshal(value, rec); err != nil {
			return nil, fmt.Errorf("client: stored enrolment: %w", err)
		}
		if rec.Code == code && rec.Name == name && rec.Suite == cfg.CipherSuite {
			return rec, nil
		}
	} else if !errors.Is(err, ErrNoValue) {
		return nil, err
	}
	_, private, err := mls.GenerateSigner(cfg.CipherSuite, nil)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	rec = &deviceRecord{Suite: cfg.CipherSuite, Private: private, Code: code, Name: name}
	if value, err = json.Marshal(rec); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	b := Batch{Durable: true}
	b.Set(bucketDevice, rowEnrolling, value)
	return rec, cfg.Store.Apply(ctx, b)
}

// accept takes over what the provider says about the device.
func (d *deviceRecord) accept(resp *local.EnrolResponse, public []byte) error {
	user, err := mimi.ParseURI(resp.User)
	if err != nil {
		return fmt.Errorf("client: enrol: %w", err)
	}
	device, err := mimi.ParseURI(resp.Device)
	if err != nil {
		return fmt.Errorf("client: enrol: %w", err)
	}
	d.User, d.Device = user, device
	d.Certificates = [][]byte{resp.Certificate}
	d.Anchor, d.ExternalSender = resp.Anchor, resp.ExternalSender
	d.Code, d.Name = "", ""
	cred := d.credential()
	certUser, certDevice, err := identity.ClientURIs(&cred)
	if err != nil {
		return fmt.Errorf("%w: the certificate from the provider: %w", ErrRefused, err)
	}
	if certUser != user || certDevice != device || user.Domain() != device.Domain() {
		return fmt.Errorf("%w: the provider certified %v and %v, but says %v and %v", ErrRefused, certUser, certDevice, user, device)
	}
	return nil
}

func loadDevice(ctx context.Context, s Store) (*deviceRecord, error) {
	value, err := s.Get(ctx, bucketDevice, rowIdentity)
	if errors.Is(err, ErrNoValue) {
		return nil, ErrNotEnrolled
	}
	if err != nil {
		return nil, err
	}
	rec := new(deviceRecord)
	if err := json.Unmarshal(value, rec); err != nil {
		return nil, fmt.Errorf("client: stored identity: %w", err)
	}
	return rec, nil
}
