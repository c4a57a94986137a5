package mimi

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// FrankAAD is the item of component frank_aad in the SafeAAD of an
// application message.
//
//	struct { uint8 franking_tag[32]; } FrankAAD;        section 5.4.1
type FrankAAD struct{ Tag [FrankSize]byte }

// MarshalTLS writes m.
func (m *FrankAAD) MarshalTLS(w *tlspl.Writer) { w.Raw(m.Tag[:]) }

// UnmarshalTLS reads m.
func (m *FrankAAD) UnmarshalTLS(r *tlspl.Reader) { copy(m.Tag[:], r.Raw(FrankSize)) }

// FrankingAgent is the data of the franking_agent component: with which key
// the hub signs franks. An update has the same form.
//
//	struct { SignaturePublicKey franking_signature_key; Credential credential; } FrankingAgentData;
type FrankingAgent struct {
	SignatureKey []byte
	Credential   mls.Credential
}

// MarshalTLS writes m.
func (m *FrankingAgent) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(m.SignatureKey)
	w.Value(&m.Credential)
}

// UnmarshalTLS reads m.
func (m *FrankingAgent) UnmarshalTLS(r *tlspl.Reader) {
	m.SignatureKey = r.Opaque(0)
	r.Value(&m.Credential)
}

// FrankingTag commits a sender to its application data, which is what MLS
// encrypts, without the padding. salt is that of the MIMI content in it.
//
//	franking_tag = HMAC_SHA256(salt, application_data)
func FrankingTag(salt, applicationData []byte) [FrankSize]byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write(applicationData)
	return [FrankSize]byte(mac.Sum(nil))
}

// A FrankingContext is what the hub vouches for.
//
//	struct {                                            section 5.4.1
//	  IdentifierUri sender_uri;
//	  IdentifierUri room_uri;
//	  uint64 accepted_timestamp;
//	} ServerFrankingContext;
type FrankingContext struct {
	Sender            URI
	Room              URI
	AcceptedTimestamp uint64 // milliseconds since the Unix epoch
}

// MarshalTLS writes m.
func (m *FrankingContext) MarshalTLS(w *tlspl.Writer) {
	w.Value(m.Sender)
	w.Value(m.Room)
	w.Uint64(m.AcceptedTimestamp)
}

// UnmarshalTLS reads m.
func (m *FrankingContext) UnmarshalTLS(r *tlspl.Reader) {
	r.Value(&m.Sender)
	required(r, "sender_uri", m.Sender, KindUser)
	r.Value(&m.Room)
	required(r, "room_uri", m.Room, KindRoom)
	m.AcceptedTimestamp = r.Uint64()
}

// serverFrank computes
//
//	server_frank = HMAC_SHA256(hub_key, franking_tag || context)
func serverFrank(hubKey []byte, tag [FrankSize]byte, context *FrankingContext) ([FrankSize]byte, error) {
	b, err := tlspl.Marshal(context)
	if err != nil {
		return [FrankSize]byte{}, err
	}
	mac := hmac.New(sha256.New, hubKey)
	mac.Write(tag[:])
	mac.Write(b)
	return [FrankSize]byte(mac.Sum(nil)), nil
}

// integrityTBS returns what the hub signs:
//
//	struct {
//	  opaque server_frank[32];
//	  CipherSuite franking_signature_ciphersuite;
//	  ServerFrankingContext context;
//	} FrankingIntegrityTBS;
func (m *Frank) integrityTBS(context *FrankingContext) ([]byte, error) {
	var w tlspl.Writer
	w.Raw(m.ServerFrank[:])
	w.Uint16(uint16(m.CipherSuite))
	w.Value(context)
	return w.Bytes()
}

// NewFrank franks a message: hubKey is the hub's secret, signer its franking
// key, of the scheme of the room's cipher suite.
func NewFrank(hubKey []byte, tag [FrankSize]byte, context *FrankingContext, suite mls.CipherSuite, signer mls.Signer) (*Frank, error) {
	if len(hubKey) < sha256.Size {
		return nil, fmt.Errorf("mimi: hub key of %d octets; use %d at least", len(hubKey), sha256.Size)
	}
	m := &Frank{CipherSuite: suite}
	var err error
	if m.ServerFrank, err = serverFrank(hubKey, tag, context); err != nil {
		return nil, fmt.Errorf("mimi: frank: %w", err)
	}
	tbs, err := m.integrityTBS(context)
	if err != nil {
		return nil, fmt.Errorf("mimi: frank: %w", err)
	}
	if m.Signature, err = mls.SignWithLabel(signer, labelFrankingIntegrity, tbs); err != nil {
		return nil, fmt.Errorf("mimi: frank: %w", err)
	}
	return m, nil
}

// Verify checks the hub's signature, as a receiver does. The receiver also
// compares the tag in the message with its own FrankingTag, and sender and
// room in the context with what MLS says.
func (m *Frank) Verify(context *FrankingContext, suite mls.CipherSuite, frankingKey []byte) error {
	if m.CipherSuite != suite {
		return fmt.Errorf("%w: frank of cipher suite %v in a room of %v", ErrMalformed, m.CipherSuite, suite)
	}
	tbs, err := m.integrityTBS(context)
	if err != nil {
		return fmt.Errorf("mimi: frank: %w", err)
	}
	if err := mls.VerifyWithLabel(suite, frankingKey, labelFrankingIntegrity, tbs, m.Signature); err != nil {
		return fmt.Errorf("%w: frank: %w", ErrSignature, err)
	}
	return nil
}

// VerifyReport checks, as the hub does with an abuse report, that it franked
// a message with this tag in this context.
func (m *Frank) VerifyReport(hubKey []byte, tag [FrankSize]byte, context *FrankingContext, suite mls.CipherSuite, frankingKey []byte) error {
	want, err := serverFrank(hubKey, tag, context)
	if err != nil {
		return fmt.Errorf("mimi: frank: %w", err)
	}
	if !hmac.Equal(want[:], m.ServerFrank[:]) {
		return fmt.Errorf("%w: the message was not franked by this hub", ErrSignature)
	}
	return m.Verify(context, suite, frankingKey)
}
