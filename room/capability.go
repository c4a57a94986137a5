package room

import "fmt"

// A Capability is an action that a role may hold (CapabilityType in
// draft-ietf-mimi-room-policy-04 section 3).
type Capability uint16

// The registered capabilities (draft-ietf-mimi-room-policy-04 section 10.2).
// Those that the draft reserves are listed and kept, but grant nothing.
const (
	CanAddParticipant               Capability = 0x0000
	CanRemoveParticipant            Capability = 0x0001
	CanAddOwnClient                 Capability = 0x0002
	CanRemoveOwnClient              Capability = 0x0003
	CanOpenJoin                     Capability = 0x0004
	CanJoinIfPreauthorized          Capability = 0x0005
	CanRemoveSelf                   Capability = 0x0006
	CanCreateJoinCode               Capability = 0x0007 // reserved
	CanDeleteJoinCode               Capability = 0x0008 // reserved
	CanUseJoinCode                  Capability = 0x0009
	CanBan                          Capability = 0x000a
	CanUnban                        Capability = 0x000b
	CanKick                         Capability = 0x000c
	CanKnock                        Capability = 0x000d // reserved
	CanAcceptKnock                  Capability = 0x000e // reserved
	CanChangeUserRole               Capability = 0x000f
	CanChangeOwnRole                Capability = 0x0010
	CanCreateSubgroup               Capability = 0x0011 // reserved
	CanSendMessage                  Capability = 0x0100
	CanReceiveMessage               Capability = 0x0101
	CanCopyMessage                  Capability = 0x0102
	CanReportAbuse                  Capability = 0x0103
	CanReplyToMessage               Capability = 0x0104
	CanReactToMessage               Capability = 0x0105
	CanEditReaction                 Capability = 0x0106
	CanDeleteOwnReaction            Capability = 0x0107
	CanDeleteOtherReaction          Capability = 0x0108
	CanEditOwnMessage               Capability = 0x0109
	CanDeleteOwnMessage             Capability = 0x010a
	CanDeleteOtherMessage           Capability = 0x010b
	CanStartTopic                   Capability = 0x010c
	CanReplyInTopic                 Capability = 0x010d
	CanEditOwnTopic                 Capability = 0x010e
	CanEditOtherTopic               Capability = 0x010f
	CanSendDirectMessage            Capability = 0x0110 // reserved
	CanTargetMessage                Capability = 0x0111 // reserved
	CanUploadImage                  Capability = 0x0200
	CanUploadAudio                  Capability = 0x0201
	CanUploadVideo                  Capability = 0x0202
	CanUploadAttachment             Capability = 0x0203
	CanDownloadImage                Capability = 0x0204
	CanDownloadAudio                Capability = 0x0205
	CanDownloadVideo                Capability = 0x0206
	CanDownloadAttachment           Capability = 0x0207
	CanSendLink                     Capability = 0x0208
	CanSendLinkPreview              Capability = 0x0209
	CanFollowLink                   Capability = 0x020a
	CanCopyLink                     Capability = 0x020b
	CanChangeRoomName               Capability = 0x0300
	CanChangeRoomDescription        Capability = 0x0301
	CanChangeRoomAvatar             Capability = 0x0302
	CanChangeRoomSubject            Capability = 0x0303
	CanChangeRoomMood               Capability = 0x0304
	CanChangeOwnName                Capability = 0x0380 // reserved
	CanChangeOwnPresence            Capability = 0x0381 // reserved
	CanChangeOwnMood                Capability = 0x0382 // reserved
	CanChangeOwnAvatar              Capability = 0x0383 // reserved
	CanStartCall                    Capability = 0x0400
	CanJoinCall                     Capability = 0x0401
	CanSendAudio                    Capability = 0x0402
	CanReceiveAudio                 Capability = 0x0403
	CanSendVideo                    Capability = 0x0404
	CanReceiveVideo                 Capability = 0x0405
	CanShareScreen                  Capability = 0x0406
	CanViewSharedScreen             Capability = 0x0407
	CanCreateRoom                   Capability = 0x0500 // reserved
	CanDestroyRoom                  Capability = 0x0501
	CanChangeRoomMembershipStyle    Capability = 0x0502
	CanChangeRoleDefinitions        Capability = 0x0503
	CanChangePreauthorizedUserList  Capability = 0x0504
	CanChangeOtherPolicyAttribute   Capability = 0x0505 // reserved
	CanChangeMLSOperationalPolicies Capability = 0x0600 // reserved
	CanSendMLSReinitProposal        Capability = 0x0601
)

// String returns the code point.
func (c Capability) String() string { return fmt.Sprintf("0x%04X", uint16(c)) }
