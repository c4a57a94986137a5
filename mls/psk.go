package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// PreSharedKeyID names a pre-shared key (RFC 9420 section 8.4,
// mls-extensions section 4.5):
//
//	struct {
//	    PSKType psktype;
//	    select (PreSharedKeyID.psktype) {
//	        case external:
//	            opaque psk_id<V>;
//	        case resumption:
//	            ResumptionPSKUsage usage;
//	            opaque psk_group_id<V>;
//	            uint64 psk_epoch;
//	        case application:
//	            ComponentID component_id;
//	            opaque psk_id<V>;
//	    };
//	    opaque psk_nonce<V>;
//	} PreSharedKeyID;
type PreSharedKeyID struct {
	Type        PSKType
	ID          []byte             // external, application
	Usage       ResumptionPSKUsage // resumption
	GroupID     []byte             // resumption
	Epoch       Epoch              // resumption
	ComponentID ComponentID        // application
	Nonce       []byte             // fresh for each use, KDF.Nh octets
}

// MarshalTLS implements tlspl.Marshaler.
func (id *PreSharedKeyID) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(id.Type))
	switch id.Type {
	case PSKExternal:
		w.Opaque(id.ID)
	case PSKResumption:
		w.Uint8(uint8(id.Usage))
		w.Opaque(id.GroupID)
		w.Uint64(id.Epoch)
	case PSKApplication:
		w.Uint16(uint16(id.ComponentID))
		w.Opaque(id.ID)
	default:
		w.Fail(fmt.Errorf("%w: PSK type %d has no encoding", ErrInvalidProposal, id.Type))
	}
	w.Opaque(id.Nonce)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (id *PreSharedKeyID) UnmarshalTLS(r *tlspl.Reader) {
	*id = PreSharedKeyID{Type: PSKType(r.Uint8())}
	switch id.Type {
	case PSKExternal:
		id.ID = r.Opaque(0)
	case PSKResumption:
		id.Usage = ResumptionPSKUsage(r.Uint8())
		id.GroupID = r.Opaque(0)
		id.Epoch = r.Uint64()
	case PSKApplication:
		id.ComponentID = ComponentID(r.Uint16())
		id.ID = r.Opaque(0)
	default:
		r.Failf("PSK type %d", id.Type)
	}
	id.Nonce = r.Opaque(0)
}

// Equal reports whether both IDs are the same in every field.
func (id *PreSharedKeyID) Equal(o *PreSharedKeyID) bool {
	return id.Type == o.Type && string(id.ID) == string(o.ID) && id.Usage == o.Usage &&
		string(id.GroupID) == string(o.GroupID) && id.Epoch == o.Epoch &&
		id.ComponentID == o.ComponentID && string(id.Nonce) == string(o.Nonce)
}

// A pskInput is a key that goes into psk_secret.
type pskInput struct {
	id  PreSharedKeyID
	psk []byte
}

// pskSecret combines pre-shared keys in order (RFC 9420 section 8.4):
//
//	psk_extracted_[i] = KDF.Extract(0, psk_[i])
//	psk_input_[i] = ExpandWithLabel(psk_extracted_[i], "derived psk", PSKLabel, KDF.Nh)
//	psk_secret_[i] = KDF.Extract(psk_input_[i-1], psk_secret_[i-1])
//
//	struct {
//	    PreSharedKeyID id;
//	    uint16 index;
//	    uint16 count;
//	} PSKLabel;
func (s *suite) pskSecret(psks []pskInput) ([]byte, error) {
	if len(psks) > 0xffff {
		return nil, fmt.Errorf("%w: %d pre-shared keys", ErrLimit, len(psks))
	}
	zero := make([]byte, s.nh())
	secret := make([]byte, s.nh())
	for i := range psks {
		var w tlspl.Writer
		psks[i].id.MarshalTLS(&w)
		w.Uint16(uint16(i))
		w.Uint16(uint16(len(psks)))
		label, err := w.Bytes()
		if err != nil {
			return nil, err
		}
		extracted := s.extract(zero, psks[i].psk)
		input, err := s.expandWithLabel(extracted, "derived psk", label, s.nh())
		if err != nil {
			return nil, err
		}
		next := s.extract(input, secret)
		wipe(extracted, input, secret)
		secret = next
	}
	return secret, nil
}
