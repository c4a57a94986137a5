package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// Proposal is a change to the group that a commit puts into effect (RFC 9420
// section 12.1). Exactly the field that Type names is set. A proposal of an
// unknown type cannot be decoded, since its length is unknown; SelfRemove
// has no content.
//
//	struct {
//	    ProposalType proposal_type;
//	    select (Proposal.proposal_type) {
//	        case add:                      Add;
//	        case update:                   Update;
//	        case remove:                   Remove;
//	        case psk:                      PreSharedKey;
//	        case reinit:                   ReInit;
//	        case external_init:            ExternalInit;
//	        case group_context_extensions: GroupContextExtensions;
//	        case app_data_update:          AppDataUpdate;
//	        case app_ephemeral:            AppEphemeral;
//	        case self_remove:              SelfRemove;
//	    };
//	} Proposal;
type Proposal struct {
	Type                   ProposalType
	Add                    *Add
	Update                 *Update
	Remove                 *Remove
	PreSharedKey           *PreSharedKey
	ReInit                 *ReInit
	ExternalInit           *ExternalInit
	GroupContextExtensions *GroupContextExtensions
	AppDataUpdate          *AppDataUpdate
	AppEphemeral           *AppEphemeral
}

// AddProposal proposes to add the client of kp.
func AddProposal(kp *KeyPackage) Proposal {
	return Proposal{Type: ProposalAdd, Add: &Add{KeyPackage: *kp}}
}

// RemoveProposal proposes to remove a member.
func RemoveProposal(leaf LeafIndex) Proposal {
	return Proposal{Type: ProposalRemove, Remove: &Remove{Removed: leaf}}
}

// PreSharedKeyProposal proposes to mix in a pre-shared key.
func PreSharedKeyProposal(id PreSharedKeyID) Proposal {
	return Proposal{Type: ProposalPreSharedKey, PreSharedKey: &PreSharedKey{PSK: id}}
}

// GroupContextExtensionsProposal proposes to replace the extensions of the
// GroupContext.
func GroupContextExtensionsProposal(x Extensions) Proposal {
	return Proposal{Type: ProposalGroupContextExtensions, GroupContextExtensions: &GroupContextExtensions{Extensions: x}}
}

// AppDataUpdateProposal proposes an update of a component's data.
func AppDataUpdateProposal(id ComponentID, update []byte) Proposal {
	return Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{ComponentID: id, Op: AppDataOpUpdate, Update: update}}
}

// AppDataRemoveProposal proposes to remove a component's data.
func AppDataRemoveProposal(id ComponentID) Proposal {
	return Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{ComponentID: id, Op: AppDataOpRemove}}
}

// AppEphemeralProposal attaches data of a component to a commit.
func AppEphemeralProposal(id ComponentID, data []byte) Proposal {
	return Proposal{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{ComponentID: id, Data: data}}
}

// SelfRemoveProposal proposes that its sender leaves.
func SelfRemoveProposal() Proposal { return Proposal{Type: ProposalSelfRemove} }

// MarshalTLS implements tlspl.Marshaler.
func (p *Proposal) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(p.Type))
	switch {
	case p.Type == ProposalAdd && p.Add != nil:
		p.Add.KeyPackage.MarshalTLS(w)
	case p.Type == ProposalUpdate && p.Update != nil:
		p.Update.LeafNode.MarshalTLS(w)
	case p.Type == ProposalRemove && p.Remove != nil:
		w.Uint32(uint32(p.Remove.Removed))
	case p.Type == ProposalPreSharedKey && p.PreSharedKey != nil:
		p.PreSharedKey.PSK.MarshalTLS(w)
	case p.Type == ProposalReInit && p.ReInit != nil:
		p.ReInit.MarshalTLS(w)
	case p.Type == ProposalExternalInit && p.ExternalInit != nil:
		w.Opaque(p.ExternalInit.KEMOutput)
	case p.Type == ProposalGroupContextExtensions && p.GroupContextExtensions != nil:
		p.GroupContextExtensions.Extensions.MarshalTLS(w)
	case p.Type == ProposalAppDataUpdate && p.AppDataUpdate != nil:
		p.AppDataUpdate.MarshalTLS(w)
	case p.Type == ProposalAppEphemeral && p.AppEphemeral != nil:
		p.AppEphemeral.MarshalTLS(w)
	case p.Type == ProposalSelfRemove:
	default:
		w.Fail(fmt.Errorf("%w: proposal %v lacks its content or is unknown", ErrInvalidProposal, p.Type))
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (p *Proposal) UnmarshalTLS(r *tlspl.Reader) {
	*p = Proposal{Type: ProposalType(r.Uint16())}
	if r.Err() != nil {
		return
	}
	switch p.Type {
	case ProposalAdd:
		p.Add = new(Add)
		p.Add.KeyPackage.UnmarshalTLS(r)
	case ProposalUpdate:
		p.Update = new(Update)
		p.Update.LeafNode.UnmarshalTLS(r)
	case ProposalRemove:
		p.Remove = &Remove{Removed: LeafIndex(r.Uint32())}
	case ProposalPreSharedKey:
		p.PreSharedKey = new(PreSharedKey)
		p.PreSharedKey.PSK.UnmarshalTLS(r)
	case ProposalReInit:
		p.ReInit = new(ReInit)
		p.ReInit.UnmarshalTLS(r)
	case ProposalExternalInit:
		p.ExternalInit = &ExternalInit{KEMOutput: r.Opaque(0)}
	case ProposalGroupContextExtensions:
		p.GroupContextExtensions = new(GroupContextExtensions)
		p.GroupContextExtensions.Extensions.UnmarshalTLS(r)
	case ProposalAppDataUpdate:
		p.AppDataUpdate = new(AppDataUpdate)
		p.AppDataUpdate.UnmarshalTLS(r)
	case ProposalAppEphemeral:
		p.AppEphemeral = new(AppEphemeral)
		p.AppEphemeral.UnmarshalTLS(r)
	case ProposalSelfRemove:
	default:
		r.Failf("proposal of unknown type %v", p.Type)
	}
}

// Add is a proposal to add a client (RFC 9420 section 12.1.1):
//
//	struct { KeyPackage key_package; } Add;
type Add struct{ KeyPackage KeyPackage }

// MarshalTLS implements tlspl.Marshaler.
func (a *Add) MarshalTLS(w *tlspl.Writer) { a.KeyPackage.MarshalTLS(w) }

// UnmarshalTLS implements tlspl.Unmarshaler.
func (a *Add) UnmarshalTLS(r *tlspl.Reader) { a.KeyPackage.UnmarshalTLS(r) }

// Update is a proposal to replace the sender's leaf (RFC 9420
// section 12.1.2):
//
//	struct { LeafNode leaf_node; } Update;
type Update struct{ LeafNode LeafNode }

// MarshalTLS implements tlspl.Marshaler.
func (u *Update) MarshalTLS(w *tlspl.Writer) { u.LeafNode.MarshalTLS(w) }

// UnmarshalTLS implements tlspl.Unmarshaler.
func (u *Update) UnmarshalTLS(r *tlspl.Reader) { u.LeafNode.UnmarshalTLS(r) }

// Remove is a proposal to remove a member (RFC 9420 section 12.1.3):
//
//	struct { uint32 removed; } Remove;
type Remove struct{ Removed LeafIndex }

// MarshalTLS implements tlspl.Marshaler.
func (m *Remove) MarshalTLS(w *tlspl.Writer) { w.Uint32(uint32(m.Removed)) }

// UnmarshalTLS implements tlspl.Unmarshaler.
func (m *Remove) UnmarshalTLS(r *tlspl.Reader) { m.Removed = LeafIndex(r.Uint32()) }

// PreSharedKey is a proposal to mix a key into the next epoch (RFC 9420
// section 12.1.4):
//
//	struct { PreSharedKeyID psk; } PreSharedKey;
type PreSharedKey struct{ PSK PreSharedKeyID }

// MarshalTLS implements tlspl.Marshaler.
func (k *PreSharedKey) MarshalTLS(w *tlspl.Writer) { k.PSK.MarshalTLS(w) }

// UnmarshalTLS implements tlspl.Unmarshaler.
func (k *PreSharedKey) UnmarshalTLS(r *tlspl.Reader) { k.PSK.UnmarshalTLS(r) }

// ReInit is a proposal to continue in a new group (RFC 9420
// section 12.1.5):
//
//	struct {
//	    opaque group_id<V>;
//	    ProtocolVersion version;
//	    CipherSuite cipher_suite;
//	    Extension extensions<V>;
//	} ReInit;
type ReInit struct {
	GroupID     []byte
	Version     ProtocolVersion
	CipherSuite CipherSuite
	Extensions  Extensions
}

// MarshalTLS implements tlspl.Marshaler.
func (p *ReInit) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(p.GroupID)
	w.Uint16(uint16(p.Version))
	w.Uint16(uint16(p.CipherSuite))
	p.Extensions.MarshalTLS(w)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (p *ReInit) UnmarshalTLS(r *tlspl.Reader) {
	p.GroupID = r.Opaque(0)
	p.Version = ProtocolVersion(r.Uint16())
	p.CipherSuite = CipherSuite(r.Uint16())
	p.Extensions.UnmarshalTLS(r)
}

// ExternalInit brings the init secret of an external commit (RFC 9420
// section 12.1.6):
//
//	struct { opaque kem_output<V>; } ExternalInit;
type ExternalInit struct{ KEMOutput []byte }

// MarshalTLS implements tlspl.Marshaler.
func (p *ExternalInit) MarshalTLS(w *tlspl.Writer) { w.Opaque(p.KEMOutput) }

// UnmarshalTLS implements tlspl.Unmarshaler.
func (p *ExternalInit) UnmarshalTLS(r *tlspl.Reader) { p.KEMOutput = r.Opaque(0) }

// GroupContextExtensions is a proposal to replace the extensions of the
// GroupContext (RFC 9420 section 12.1.7):
//
//	struct { Extension extensions<V>; } GroupContextExtensions;
type GroupContextExtensions struct{ Extensions Extensions }

// MarshalTLS implements tlspl.Marshaler.
func (p *GroupContextExtensions) MarshalTLS(w *tlspl.Writer) { p.Extensions.MarshalTLS(w) }

// UnmarshalTLS implements tlspl.Unmarshaler.
func (p *GroupContextExtensions) UnmarshalTLS(r *tlspl.Reader) { p.Extensions.UnmarshalTLS(r) }
