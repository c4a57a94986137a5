// Package mimi holds the words that messaging providers exchange:
// identifier URIs, the directory document, the requests and responses of the
// protocol endpoints, and the code points of the MLS components that MIMI
// uses. It implements draft-ietf-mimi-protocol-06.
//
// Start with [URI], which names providers, users, clients, rooms and groups,
// and [Directory], which says where a provider's endpoints are. One pair of
// types stands for each endpoint: [KeyMaterialRequest] and
// [KeyMaterialResponse], [UpdateRequest] and [UpdateRoomResponse],
// [SubmitMessageRequest] and [SubmitMessageResponse], [GroupInfoRequest] and
// [GroupInfoResponse]; a hub's notification is a sequence of
// [FanoutMessage].
//
// Every decoder consumes all of its input, checks lengths before it
// allocates and refuses unknown values where the draft gives no meaning to
// them. MLS messages inside a request keep the bytes they arrived in, so they
// can be stored and forwarded unchanged; signatures are verified over the
// bytes as received.
//
// The package does no input or output and makes no policy decision: package
// room decides, the federation code transports.
package mimi

// DraftProtocol names the version of the protocol that this package
// implements.
const DraftProtocol = "draft-ietf-mimi-protocol-06"
