package mls

import "fmt"

// ProtocolVersion is the version of MLS (RFC 9420 section 6).
type ProtocolVersion uint16

// WireFormat names what an MLSMessage carries (RFC 9420 section 17.2).
type WireFormat uint16

// ExtensionType names an extension (RFC 9420 section 17.3).
type ExtensionType uint16

// ProposalType names a proposal (RFC 9420 section 17.4).
type ProposalType uint16

// CredentialType names a credential (RFC 9420 section 17.5).
type CredentialType uint16

// ComponentID names a component of an application (mls-extensions
// section 4.1).
type ComponentID uint16

// ContentType names the content of a framed message (RFC 9420 section 6).
type ContentType uint8

// SenderType names the kind of a sender (RFC 9420 section 6).
type SenderType uint8

// LeafNodeSource says how a leaf came into the tree (RFC 9420 section 7.2).
type LeafNodeSource uint8

// PSKType names the origin of a pre-shared key (RFC 9420 section 8.4).
type PSKType uint8

// ResumptionPSKUsage says what a resumption key is used for (RFC 9420
// section 8.4).
type ResumptionPSKUsage uint8

// AppDataOp is the operation of an AppDataUpdate (mls-extensions
// section 4.7).
type AppDataOp uint8

// Code points. Those of mls-extensions are suggested values of draft 10.
const (
	MLS10 ProtocolVersion = 0x0001

	WirePublicMessage  WireFormat = 0x0001 // RFC 9420 section 17.2
	WirePrivateMessage WireFormat = 0x0002
	WireWelcome        WireFormat = 0x0003
	WireGroupInfo      WireFormat = 0x0004
	WireKeyPackage     WireFormat = 0x0005

	// semiprivatemessage has no values yet, and suggests one for the extension
	// that mls-extensions uses otherwise: these are of the private range.
	WireSemiPrivateMessage     WireFormat    = 0xf010
	ExtensionExternalReceivers ExtensionType = 0xf011

	ExtensionApplicationID        ExtensionType = 0x0001 // RFC 9420 section 17.3
	ExtensionRatchetTree          ExtensionType = 0x0002
	ExtensionRequiredCapabilities ExtensionType = 0x0003
	ExtensionExternalPub          ExtensionType = 0x0004
	ExtensionExternalSenders      ExtensionType = 0x0005
	ExtensionAppDataDictionary    ExtensionType = 0x0006 // mls-extensions section 7.1
	ExtensionSupportedWireFormats ExtensionType = 0x0007
	ExtensionRequiredWireFormats  ExtensionType = 0x0008

	ProposalAdd                    ProposalType = 0x0001 // RFC 9420 section 17.4
	ProposalUpdate                 ProposalType = 0x0002
	ProposalRemove                 ProposalType = 0x0003
	ProposalPreSharedKey           ProposalType = 0x0004
	ProposalReInit                 ProposalType = 0x0005
	ProposalExternalInit           ProposalType = 0x0006
	ProposalGroupContextExtensions ProposalType = 0x0007
	ProposalAppDataUpdate          ProposalType = 0x0008 // mls-extensions section 7.2
	ProposalAppEphemeral           ProposalType = 0x0009
	ProposalSelfRemove             ProposalType = 0x000a

	CredentialBasic CredentialType = 0x0001 // RFC 9420 section 17.5
	CredentialX509  CredentialType = 0x0002

	CredentialMulti     CredentialType = 0x0003 // mls-extensions section 7.3
	CredentialWeakMulti CredentialType = 0x0004

	ComponentAppComponents        ComponentID = 0x0001 // mls-extensions section 7.5
	ComponentSafeAAD              ComponentID = 0x0002
	ComponentContentMediaTypes    ComponentID = 0x0003
	ComponentLastResortKeyPackage ComponentID = 0x0004
	ComponentAppAck               ComponentID = 0x0005

	ContentApplication ContentType = 1 // RFC 9420 section 6
	ContentProposal    ContentType = 2
	ContentCommit      ContentType = 3

	SenderMember            SenderType = 1 // RFC 9420 section 6
	SenderExternal          SenderType = 2
	SenderNewMemberProposal SenderType = 3
	SenderNewMemberCommit   SenderType = 4

	LeafSourceKeyPackage LeafNodeSource = 1 // RFC 9420 section 7.2
	LeafSourceUpdate     LeafNodeSource = 2
	LeafSourceCommit     LeafNodeSource = 3

	PSKExternal    PSKType = 1 // RFC 9420 section 8.4
	PSKResumption  PSKType = 2
	PSKApplication PSKType = 3 // mls-extensions section 4.5

	ResumptionApplication ResumptionPSKUsage = 1 // RFC 9420 section 8.4
	ResumptionReInit      ResumptionPSKUsage = 2
	ResumptionBranch      ResumptionPSKUsage = 3

	AppDataOpUpdate AppDataOp = 1 // mls-extensions section 4.7
	AppDataOpRemove AppDataOp = 2
)

// LeafIndex is the position of a leaf in the ratchet tree, counted from 0.
type LeafIndex uint32

// Epoch numbers the epochs of a group from 0.
type Epoch = uint64

// KeyPackageRef is the hash that names a KeyPackage (RFC 9420 section 5.2).
type KeyPackageRef = []byte

// ProposalRef is the hash that names a proposal (RFC 9420 section 5.2).
type ProposalRef = []byte

// String returns the code point.
func (t ExtensionType) String() string { return fmt.Sprintf("0x%04X", uint16(t)) }

// String returns the code point.
func (t CredentialType) String() string { return fmt.Sprintf("0x%04X", uint16(t)) }

// String returns the code point.
func (t WireFormat) String() string { return fmt.Sprintf("0x%04X", uint16(t)) }

// String returns the code point.
func (id ComponentID) String() string { return fmt.Sprintf("0x%04X", uint16(id)) }

// String returns the code point.
func (v ProtocolVersion) String() string { return fmt.Sprintf("0x%04X", uint16(v)) }

// String returns the proposal's name in the specification, or the code point.
func (t ProposalType) String() string {
	switch t {
	case ProposalAdd:
		return "add"
	case ProposalUpdate:
		return "update"
	case ProposalRemove:
		return "remove"
	case ProposalPreSharedKey:
		return "psk"
	case ProposalReInit:
		return "reinit"
	case ProposalExternalInit:
		return "external_init"
	case ProposalGroupContextExtensions:
		return "group_context_extensions"
	case ProposalAppDataUpdate:
		return "app_data_update"
	case ProposalAppEphemeral:
		return "app_ephemeral"
	case ProposalSelfRemove:
		return "self_remove"
	}
	return fmt.Sprintf("0x%04X", uint16(t))
}

// isDefault reports whether every client supports t without saying so
// (RFC 9420 section 7.2).
func (t ProposalType) isDefault() bool {
	return t >= ProposalAdd && t <= ProposalGroupContextExtensions
}

// isDefault reports whether every client supports t without saying so
// (RFC 9420 section 7.2).
func (t ExtensionType) isDefault() bool {
	return t >= ExtensionApplicationID && t <= ExtensionExternalSenders
}
