package mimi

import "github.com/comity-im/comity/mls"

// Component IDs of MIMI in the MLS component registry. Those of MLS itself
// are in package mls.
const (
	ComponentFrankAAD                 mls.ComponentID = 0x0020 // draft-ietf-mimi-protocol-06 section 10
	ComponentFrankingAgent            mls.ComponentID = 0x0021 // ... registered as franking_signature_key
	ComponentParticipantList          mls.ComponentID = 0x0022 // ... section 7.5
	ComponentRoomMetadata             mls.ComponentID = 0x0023 // ... section 7.6
	ComponentOperationalPolicy        mls.ComponentID = 0x0024 // draft-ietf-mimi-room-policy-04 section 7
	ComponentRolesList                mls.ComponentID = 0x0025 // ... section 3
	ComponentPreauthList              mls.ComponentID = 0x0026 // ... section 4
	ComponentBaseRoomPolicy           mls.ComponentID = 0x0027 // ... section 5
	ComponentStatusNotificationPolicy mls.ComponentID = 0x0028 // ... section 6.1
	ComponentJoinLinkPolicy           mls.ComponentID = 0x0029 // ... section 6.2
	ComponentJoinLinks                mls.ComponentID = 0x002A // ... section 6.2
	ComponentLinkPreviewPolicy        mls.ComponentID = 0x002B // ... section 6.3
	ComponentAssetPolicy              mls.ComponentID = 0x002C // ... section 6.4
	ComponentLoggingPolicy            mls.ComponentID = 0x002D // ... section 6.5
	ComponentChatHistoryPolicy        mls.ComponentID = 0x002E // ... section 6.6
	ComponentBotPolicy                mls.ComponentID = 0x002F // ... section 6.7
	ComponentMessageExpirationPolicy  mls.ComponentID = 0x0030 // ... section 6.8
	ComponentMessageID                mls.ComponentID = 0x0040 // draft-mahy-mimi-msgid-aad-02
)

// Labels of signatures and encryptions (draft-ietf-mimi-protocol-06).
const (
	labelKeyMaterialRequest = "KeyMaterialRequestTBS"                 // section 5.2
	labelGroupInfoRequest   = "GroupInfoRequestTBS"                   // section 5.6
	labelGroupInfoResponse  = "GroupInfoResponseTBS"                  // section 5.6
	labelGroupInfoSeal      = "GroupInfo and ratchet_tree encryption" // section 5.6
	labelFrankingIntegrity  = "FrankingIntegrityTBS"                  // section 5.4.1
)
