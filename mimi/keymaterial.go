package mimi

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// A KeyMaterialRequest claims KeyPackages for the clients of one user. It
// travels from the requester's provider through the room's hub to the target
// user's provider.
//
//	struct {                                            section 5.2
//	    Protocol protocol;
//	    IdentifierUri requestingUser;
//	    IdentifierUri targetUser;
//	    IdentifierUri roomId;                  /* empty: for no room */
//	    select (protocol) {
//	        case mls10:
//	            CipherSuite acceptableCiphersuites<V>;
//	            RequiredCapabilities requiredCapabilities;
//	            SignaturePublicKey requesterSignatureKey;
//	            Credential requesterCredential;
//	            opaque key_material_request_signature<V>;
//	    };
//	} KeyMaterialRequest;
//
// The draft does not name the signature scheme of requesterSignatureKey; it
// is that of the first acceptable cipher suite.
type KeyMaterialRequest struct {
	Protocol             Protocol
	RequestingUser       URI
	TargetUser           URI
	Room                 URI               // zero: for no room
	CipherSuites         []mls.CipherSuite // never empty
	RequiredCapabilities mls.RequiredCapabilities
	SignatureKey         []byte
	Credential           mls.Credential
	Signature            []byte

	tbs []byte // the signed part as received
}

func (m *KeyMaterialRequest) marshalTBS(w *tlspl.Writer) {
	if len(m.CipherSuites) == 0 {
		w.Fail(fmt.Errorf("%w: no acceptable cipher suite", ErrMalformed))
	}
	m.Protocol.marshal(w)
	w.Value(m.RequestingUser)
	w.Value(m.TargetUser)
	w.Value(m.Room)
	tlspl.WriteVector(w, m.CipherSuites, func(w *tlspl.Writer, s *mls.CipherSuite) { w.Uint16(uint16(*s)) })
	w.Value(&m.RequiredCapabilities)
	w.Opaque(m.SignatureKey)
	w.Value(&m.Credential)
}

// MarshalTLS writes m with the signature that Sign made.
func (m *KeyMaterialRequest) MarshalTLS(w *tlspl.Writer) {
	if m.tbs != nil {
		w.Raw(m.tbs)
	} else {
		m.marshalTBS(w)
	}
	w.Opaque(m.Signature)
}

// UnmarshalTLS reads m. An unknown protocol gives an error that matches
// ErrProtocol.
func (m *KeyMaterialRequest) UnmarshalTLS(r *tlspl.Reader) {
	*m = KeyMaterialRequest{}
	start := r.Offset()
	m.Protocol.unmarshal(r)
	r.Value(&m.RequestingUser)
	r.Value(&m.TargetUser)
	r.Value(&m.Room)
	m.CipherSuites = tlspl.ReadVector(r, MaxCipherSuites, func(r *tlspl.Reader, s *mls.CipherSuite) {
		*s = mls.CipherSuite(r.Uint16())
	})
	r.Value(&m.RequiredCapabilities)
	m.SignatureKey = r.Opaque(0)
	r.Value(&m.Credential)
	m.tbs = r.Since(start)
	m.Signature = r.Opaque(0)
	if r.Err() != nil {
		return
	}
	required(r, "requestingUser", m.RequestingUser, KindUser)
	required(r, "targetUser", m.TargetUser, KindUser)
	if !m.Room.IsZero() {
		required(r, "roomId", m.Room, KindRoom)
	}
	if len(m.CipherSuites) == 0 {
		malformed(r, "no acceptable cipher suite")
	}
}

// Sign sets SignatureKey and Signature. The signer's key must be of the
// scheme of CipherSuites[0].
func (m *KeyMaterialRequest) Sign(signer mls.Signer) error {
	m.tbs = nil
	m.SignatureKey = signer.Public()
	var w tlspl.Writer
	m.marshalTBS(&w)
	tbs, err := w.Bytes()
	if err != nil {
		return err
	}
	sig, err := mls.SignWithLabel(signer, labelKeyMaterialRequest, tbs)
	if err != nil {
		return fmt.Errorf("mimi: sign key material request: %w", err)
	}
	m.tbs, m.Signature = tbs, sig
	return nil
}

// Verify checks the signature. Whether the credential belongs to
// RequestingUser and to SignatureKey is for the caller to check.
func (m *KeyMaterialRequest) Verify() error {
	if len(m.CipherSuites) == 0 {
		return fmt.Errorf("%w: no acceptable cipher suite", ErrMalformed)
	}
	tbs := m.tbs
	if tbs == nil {
		var w tlspl.Writer
		m.marshalTBS(&w)
		var err error
		if tbs, err = w.Bytes(); err != nil {
			return err
		}
	}
	if err := mls.VerifyWithLabel(m.CipherSuites[0], m.SignatureKey, labelKeyMaterialRequest, tbs, m.Signature); err != nil {
		return fmt.Errorf("%w: key material request: %w", ErrSignature, err)
	}
	return nil
}

// KeyMaterialUserCode says how a claim went for the user as a whole.
type KeyMaterialUserCode uint8

// The codes of section 5.2.
const (
	KeyMaterialSuccess              KeyMaterialUserCode = 0 // material for every client
	KeyMaterialPartialSuccess       KeyMaterialUserCode = 1 // material for at least one client
	KeyMaterialIncompatibleProtocol KeyMaterialUserCode = 2
	KeyMaterialNoCompatibleMaterial KeyMaterialUserCode = 3
	KeyMaterialUserUnknown          KeyMaterialUserCode = 4
	KeyMaterialNoConsent            KeyMaterialUserCode = 5
	KeyMaterialNoConsentForThisRoom KeyMaterialUserCode = 6
	KeyMaterialUserDeleted          KeyMaterialUserCode = 7
)

// String returns the draft's name of the code.
func (c KeyMaterialUserCode) String() string {
	names := [...]string{"success", "partialSuccess", "incompatibleProtocol", "noCompatibleMaterial",
		"userUnknown", "noConsent", "noConsentForThisRoom", "userDeleted"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("0x%02X", uint8(c))
}

// mayListClients reports whether a response with code c may have clients.
func (c KeyMaterialUserCode) mayListClients() bool {
	return c == KeyMaterialSuccess || c == KeyMaterialPartialSuccess || c == KeyMaterialNoCompatibleMaterial
}

// KeyMaterialClientCode says how a claim went for one client.
type KeyMaterialClientCode uint8

// The codes of section 5.2.
const (
	ClientSuccess              KeyMaterialClientCode = 0
	ClientKeyMaterialExhausted KeyMaterialClientCode = 1
	ClientNothingCompatible    KeyMaterialClientCode = 2
)

// String returns the draft's name of the code.
func (c KeyMaterialClientCode) String() string {
	names := [...]string{"success", "keyMaterialExhausted", "nothingCompatible"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("0x%02X", uint8(c))
}

// ClientKeyMaterial is the answer for one client.
//
//	struct {                                            section 5.2
//	    KeyMaterialClientCode clientStatus;
//	    IdentifierUri clientUri;
//	    select (protocol) { case mls10: select (clientStatus) {
//	        case success: KeyPackage keyPackage;
//	        case nothingCompatible: optional<Capabilities> clientCapabilities;
//	    }; };                        /* other codes: nothing */
//	} ClientKeyMaterial;
type ClientKeyMaterial struct {
	Status       KeyMaterialClientCode
	Client       URI
	KeyPackage   *mls.KeyPackage   // with ClientSuccess
	Capabilities *mls.Capabilities // with ClientNothingCompatible, may be nil
}

// MarshalTLS writes m.
func (m *ClientKeyMaterial) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(m.Status))
	w.Value(m.Client)
	switch m.Status {
	case ClientSuccess:
		if m.KeyPackage == nil {
			w.Fail(fmt.Errorf("%w: client success without a KeyPackage", ErrMalformed))
			return
		}
		w.Value(m.KeyPackage)
	case ClientNothingCompatible:
		w.Optional(m.Capabilities != nil, func(w *tlspl.Writer) { w.Value(m.Capabilities) })
	}
}

// UnmarshalTLS reads m.
func (m *ClientKeyMaterial) UnmarshalTLS(r *tlspl.Reader) {
	*m = ClientKeyMaterial{Status: KeyMaterialClientCode(r.Uint8())}
	r.Value(&m.Client)
	required(r, "clientUri", m.Client, KindClient)
	switch m.Status {
	case ClientSuccess:
		m.KeyPackage = new(mls.KeyPackage)
		r.Value(m.KeyPackage)
	case ClientNothingCompatible:
		if r.Optional() {
			m.Capabilities = new(mls.Capabilities)
			r.Value(m.Capabilities)
		}
	}
}

// A KeyMaterialResponse answers a KeyMaterialRequest. Clients is empty unless
// UserStatus is success, partialSuccess or noCompatibleMaterial.
//
//	struct {                                            section 5.2
//	    Protocol protocol;
//	    KeyMaterialUserCode userStatus;
//	    IdentifierUri userUri;
//	    ClientKeyMaterial clients<V>;
//	} KeyMaterialResponse;
type KeyMaterialResponse struct {
	Protocol   Protocol
	UserStatus KeyMaterialUserCode
	User       URI
	Clients    []ClientKeyMaterial
}

// MarshalTLS writes m.
func (m *KeyMaterialResponse) MarshalTLS(w *tlspl.Writer) {
	if len(m.Clients) > 0 && !m.UserStatus.mayListClients() {
		w.Fail(fmt.Errorf("%w: clients listed with user status %v", ErrMalformed, m.UserStatus))
	}
	m.Protocol.marshal(w)
	w.Uint8(uint8(m.UserStatus))
	w.Value(m.User)
	tlspl.WriteVector(w, m.Clients, func(w *tlspl.Writer, c *ClientKeyMaterial) { w.Value(c) })
}

// UnmarshalTLS reads m.
func (m *KeyMaterialResponse) UnmarshalTLS(r *tlspl.Reader) {
	*m = KeyMaterialResponse{}
	m.Protocol.unmarshal(r)
	m.UserStatus = KeyMaterialUserCode(r.Uint8())
	r.Value(&m.User)
	required(r, "userUri", m.User, KindUser)
	m.Clients = tlspl.ReadVector(r, MaxClients, func(r *tlspl.Reader, c *ClientKeyMaterial) { r.Value(c) })
	if r.Err() == nil && len(m.Clients) > 0 && !m.UserStatus.mayListClients() {
		malformed(r, "clients listed with user status %v", m.UserStatus)
	}
}
