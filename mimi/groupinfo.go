package mimi

import (
	"crypto/subtle"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// A GroupInfoRequest asks the hub for what an external join needs.
//
//	struct {                                            section 5.6
//	  Protocol protocol;
//	  select (protocol) { case mls10:
//	      CipherSuite cipher_suite;
//	      SignaturePublicKey requestingSignatureKey;
//	      Credential requestingCredential;
//	      HPKEPublicKey groupInfoPublicKey;
//	      opaque joiningCode<V>;               /* empty: none */
//	      opaque signature<V>;
//	  };
//	} GroupInfoRequest;
//
// The signature covers everything before it. The draft's TBS struct has the
// joining code as optional; it is signed in the form in which it is sent.
type GroupInfoRequest struct {
	Protocol     Protocol
	CipherSuite  mls.CipherSuite
	SignatureKey []byte
	Credential   mls.Credential
	PublicKey    []byte // HPKE key for this one answer
	JoiningCode  []byte
	Signature    []byte

	tbs []byte
}

func (m *GroupInfoRequest) marshalTBS(w *tlspl.Writer) {
	m.Protocol.marshal(w)
	w.Uint16(uint16(m.CipherSuite))
	w.Opaque(m.SignatureKey)
	w.Value(&m.Credential)
	w.Opaque(m.PublicKey)
	w.Opaque(m.JoiningCode)
}

// MarshalTLS writes m with the signature that Sign made.
func (m *GroupInfoRequest) MarshalTLS(w *tlspl.Writer) {
	if m.tbs != nil {
		w.Raw(m.tbs)
	} else {
		m.marshalTBS(w)
	}
	w.Opaque(m.Signature)
}

// UnmarshalTLS reads m.
func (m *GroupInfoRequest) UnmarshalTLS(r *tlspl.Reader) {
	*m = GroupInfoRequest{}
	start := r.Offset()
	m.Protocol.unmarshal(r)
	m.CipherSuite = mls.CipherSuite(r.Uint16())
	m.SignatureKey = r.Opaque(0)
	r.Value(&m.Credential)
	m.PublicKey = r.Opaque(0)
	m.JoiningCode = r.Opaque(0)
	m.tbs = r.Since(start)
	m.Signature = r.Opaque(0)
}

// Sign sets SignatureKey and Signature. The signer's key must be of the
// scheme of CipherSuite.
func (m *GroupInfoRequest) Sign(signer mls.Signer) error {
	m.tbs = nil
	m.SignatureKey = signer.Public()
	var w tlspl.Writer
	m.marshalTBS(&w)
	tbs, err := w.Bytes()
	if err != nil {
		return err
	}
	sig, err := mls.SignWithLabel(signer, labelGroupInfoRequest, tbs)
	if err != nil {
		return fmt.Errorf("mimi: sign GroupInfo request: %w", err)
	}
	m.tbs, m.Signature = tbs, sig
	return nil
}

// Verify checks the signature. Whether the credential is valid and belongs
// to SignatureKey is for the caller to check.
func (m *GroupInfoRequest) Verify() error {
	tbs := m.tbs
	if tbs == nil {
		var w tlspl.Writer
		m.marshalTBS(&w)
		var err error
		if tbs, err = w.Bytes(); err != nil {
			return err
		}
	}
	if err := mls.VerifyWithLabel(m.CipherSuite, m.SignatureKey, labelGroupInfoRequest, tbs, m.Signature); err != nil {
		return fmt.Errorf("%w: GroupInfo request: %w", ErrSignature, err)
	}
	return nil
}

// GroupInfoCode is the hub's verdict on a GroupInfoRequest.
type GroupInfoCode uint8

// The codes of section 5.6.
const (
	GroupInfoSuccess       GroupInfoCode = 1
	GroupInfoNotAuthorized GroupInfoCode = 2
	GroupInfoNoSuchRoom    GroupInfoCode = 3
)

// String returns the draft's name of the code.
func (c GroupInfoCode) String() string {
	switch c {
	case GroupInfoSuccess:
		return "success"
	case GroupInfoNotAuthorized:
		return "notAuthorized"
	case GroupInfoNoSuchRoom:
		return "noSuchRoom"
	}
	return fmt.Sprintf("0x%02X", uint8(c))
}

// A PendingProposal is a proposal that the hub accepted in the current epoch
// and that no commit covers yet.
//
//	struct { MLSMessage proposal; uint64 hub_accepted_time; } PendingProposal;
type PendingProposal struct {
	Proposal     mls.MLSMessage
	AcceptedTime uint64 // milliseconds since the Unix epoch
}

// GroupInfoRatchetTree is what an external joiner gets, sealed in a
// GroupInfoResponse.
//
//	struct {                                            section 5.6
//	  GroupInfo groupInfo;           /* without the ratchet_tree extension */
//	  RatchetTreeOption ratchetTreeOption;
//	  PendingProposal pending_proposals<V>;
//	} GroupInfoRatchetTreeTBE;
type GroupInfoRatchetTree struct {
	GroupInfo        mls.GroupInfo
	RatchetTree      RatchetTreeOption
	PendingProposals []PendingProposal
}

// MarshalTLS writes m.
func (m *GroupInfoRatchetTree) MarshalTLS(w *tlspl.Writer) {
	w.Value(&m.GroupInfo)
	w.Value(&m.RatchetTree)
	tlspl.WriteVector(w, m.PendingProposals, func(w *tlspl.Writer, p *PendingProposal) {
		w.Value(&p.Proposal)
		w.Uint64(p.AcceptedTime)
	})
}

// UnmarshalTLS reads m.
func (m *GroupInfoRatchetTree) UnmarshalTLS(r *tlspl.Reader) {
	*m = GroupInfoRatchetTree{}
	r.Value(&m.GroupInfo)
	r.Value(&m.RatchetTree)
	m.PendingProposals = tlspl.ReadVector(r, MaxPending, func(r *tlspl.Reader, p *PendingProposal) {
		r.Value(&p.Proposal)
		if r.Err() == nil {
			if t, err := kindOf(&p.Proposal); err != nil || t != mls.ContentProposal {
				malformed(r, "a pending proposal is something else")
			}
		}
		p.AcceptedTime = r.Uint64()
	})
}

// A GroupInfoResponse answers a GroupInfoRequest. Only a success is signed; a
// refusal is as trustworthy as the connection it came over.
//
//	struct {                                            section 5.6
//	  Protocol version;
//	  opaque room_id<V>;
//	  GroupInfoCode status;
//	  select (status) {
//	    case success: select (protocol) { case mls10:
//	        CipherSuite cipher_suite;
//	        ExternalSender hub_sender;
//	        HPKECiphertext encrypted_groupinfo_and_tree;
//	        opaque signature<V>;
//	    };
//	    default: struct {};
//	  };
//	} GroupInfoResponse;
type GroupInfoResponse struct {
	Protocol    Protocol
	Room        URI
	Status      GroupInfoCode
	CipherSuite mls.CipherSuite    // with success, like the following
	HubSender   mls.ExternalSender // the hub's entry in external_senders
	Encrypted   mls.HPKECiphertext
	Signature   []byte

	tbs []byte
}

func (m *GroupInfoResponse) marshalTBS(w *tlspl.Writer) {
	m.Protocol.marshal(w)
	w.Value(m.Room)
	w.Uint8(uint8(m.Status))
	if m.Status == GroupInfoSuccess {
		w.Uint16(uint16(m.CipherSuite))
		w.Value(&m.HubSender)
		w.Value(&m.Encrypted)
	}
}

// MarshalTLS writes m.
func (m *GroupInfoResponse) MarshalTLS(w *tlspl.Writer) {
	if m.tbs != nil {
		w.Raw(m.tbs)
	} else {
		m.marshalTBS(w)
	}
	if m.Status == GroupInfoSuccess {
		w.Opaque(m.Signature)
	}
}

// UnmarshalTLS reads m.
func (m *GroupInfoResponse) UnmarshalTLS(r *tlspl.Reader) {
	*m = GroupInfoResponse{}
	start := r.Offset()
	m.Protocol.unmarshal(r)
	r.Value(&m.Room)
	required(r, "room_id", m.Room, KindRoom)
	m.Status = GroupInfoCode(r.Uint8())
	if m.Status == GroupInfoSuccess {
		m.CipherSuite = mls.CipherSuite(r.Uint16())
		r.Value(&m.HubSender)
		r.Value(&m.Encrypted)
		m.tbs = r.Since(start)
		m.Signature = r.Opaque(0)
	}
}

// SealGroupInfo returns the successful answer to req for a room: content
// encrypted to the key in the request and signed by the hub.
func SealGroupInfo(req *GroupInfoRequest, room URI, content *GroupInfoRatchetTree, hub mls.ExternalSender, signer mls.Signer) (*GroupInfoResponse, error) {
	if subtle.ConstantTimeCompare(hub.SignatureKey, signer.Public()) != 1 {
		return nil, fmt.Errorf("mimi: seal GroupInfo: the signer does not hold the key of the hub's external sender")
	}
	plain, err := tlspl.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("mimi: seal GroupInfo: %w", err)
	}
	sealed, err := mls.EncryptWithLabel(req.CipherSuite, req.PublicKey, labelGroupInfoSeal, []byte(room.String()), plain)
	if err != nil {
		return nil, fmt.Errorf("mimi: seal GroupInfo: %w", err)
	}
	m := &GroupInfoResponse{Protocol: ProtocolMLS10, Room: room, Status: GroupInfoSuccess,
		CipherSuite: req.CipherSuite, HubSender: hub, Encrypted: sealed}
	var w tlspl.Writer
	m.marshalTBS(&w)
	if m.tbs, err = w.Bytes(); err != nil {
		return nil, fmt.Errorf("mimi: seal GroupInfo: %w", err)
	}
	if m.Signature, err = mls.SignWithLabel(signer, labelGroupInfoResponse, m.tbs); err != nil {
		return nil, fmt.Errorf("mimi: sign GroupInfo response: %w", err)
	}
	return m, nil
}

// Open checks that m is a successful answer for the room, verifies its
// signature and decrypts it with the private key that belongs to the key in
// the request. Whether HubSender is the room's hub is for the caller to
// check: its credential must be valid for the room's domain and it must stand
// in the external_senders of the GroupInfo.
func (m *GroupInfoResponse) Open(req *GroupInfoRequest, room URI, private []byte) (*GroupInfoRatchetTree, error) {
	if m.Status != GroupInfoSuccess {
		return nil, fmt.Errorf("mimi: the hub refused the GroupInfo: %v", m.Status)
	}
	if m.Room != room {
		return nil, fmt.Errorf("%w: GroupInfo of room %q instead of %q", ErrMalformed, m.Room, room)
	}
	if m.CipherSuite != req.CipherSuite {
		return nil, fmt.Errorf("%w: GroupInfo sealed with a cipher suite other than the requested one", ErrMalformed)
	}
	tbs := m.tbs
	if tbs == nil {
		var w tlspl.Writer
		m.marshalTBS(&w)
		var err error
		if tbs, err = w.Bytes(); err != nil {
			return nil, err
		}
	}
	if err := mls.VerifyWithLabel(m.CipherSuite, m.HubSender.SignatureKey, labelGroupInfoResponse, tbs, m.Signature); err != nil {
		return nil, fmt.Errorf("%w: GroupInfo response: %w", ErrSignature, err)
	}
	plain, err := mls.DecryptWithLabel(m.CipherSuite, private, labelGroupInfoSeal, []byte(room.String()), m.Encrypted)
	if err != nil {
		return nil, fmt.Errorf("mimi: open GroupInfo: %w", err)
	}
	content := new(GroupInfoRatchetTree)
	if err := tlspl.Unmarshal(plain, content); err != nil {
		return nil, fmt.Errorf("mimi: open GroupInfo: %w", err)
	}
	return content, nil
}
