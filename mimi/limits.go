package mimi

// Largest request and response bodies in octets. A provider answers 413 to a
// larger request and drops a peer's larger response.
const (
	MaxKeyMaterialRequest  = 64 << 10
	MaxKeyMaterialResponse = 4 << 20
	MaxUpdateRequest       = 8 << 20
	MaxUpdateResponse      = 64 << 10
	MaxSubmitRequest       = 1 << 20
	MaxSubmitResponse      = 64 << 10
	MaxNotifyRequest       = 8 << 20
	MaxGroupInfoRequest    = 64 << 10
	MaxGroupInfoResponse   = 8 << 20
)

// Limits on lists in one body.
const (
	MaxCipherSuites  = 64   // in a KeyMaterialRequest
	MaxClients       = 1024 // in a KeyMaterialResponse
	MaxMoreProposals = 1024 // in a HandshakeBundle or FanoutMessage
	MaxPending       = 1024 // pending proposals in a GroupInfo answer
	MaxFanout        = 1024 // messages in one notification
)

// MaxErrorDescription is the longest error description of an
// UpdateRoomResponse in octets.
const MaxErrorDescription = 1024

// Media types of request and response bodies. The draft names none; the
// first is preferred, the second accepted.
const (
	MediaType      = "application/mimi-protocol"
	MediaTypeOctet = "application/octet-stream"
)
