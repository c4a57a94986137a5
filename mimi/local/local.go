// Package local holds the words between a client and its own provider.
//
// MIMI leaves this conversation to each provider (draft-ietf-mimi-protocol-06
// section 4.1). Comity's client API speaks MIMI wherever MIMI has a word: a
// client posts the same update, submitMessage, keyMaterial and groupInfo
// bodies that providers exchange, to the paths of this package. What MIMI has
// no word for is here: a little JSON for accounts and devices, the creation
// of a room, and the binary frames of the stream on which a provider delivers
// room events and mail.
//
// Everything in this package is private to Comity. No other provider sees it.
package local

// Paths of the client API. A path that ends in a slash is followed by one
// percent-encoded identifier URI or domain.
const (
	PathEnrol         = "/v1/enrol"          // POST EnrolRequest
	PathChallenge     = "/v1/challenge"      // POST, empty
	PathToken         = "/v1/token"          // POST TokenRequest
	PathKeyPackages   = "/v1/keyPackages"    // PUT KeyPackage<V>; GET KeyPackageCount
	PathRooms         = "/v1/rooms"          // POST CreateRoomRequest
	PathUpdate        = "/v1/update/"        // POST mimi UpdateRequest, by room
	PathSubmitMessage = "/v1/submitMessage/" // POST mimi SubmitMessageRequest, by room
	PathKeyMaterial   = "/v1/keyMaterial/"   // POST mimi KeyMaterialRequest, by user
	PathGroupInfo     = "/v1/groupInfo/"     // POST mimi GroupInfoRequest, by room
	PathAnchors       = "/v1/anchors/"       // GET identity AnchorStatement, by domain
	PathStream        = "/v1/stream"         // GET, WebSocket
)

// Media types of the client API.
const (
	MediaTypeTLS  = "application/mimi-protocol" // TLS presentation language
	MediaTypeJSON = "application/json"
)

// Labels of the signatures with a device key (RFC 9420 section 5.1.2).
const (
	LabelEnrol = "Comity Enrol" // over EnrolTBS
	LabelToken = "Comity Token" // over the challenge's octets
)

// Limits of the client API, in octets or items.
const (
	MaxDeviceName     = 64   // octets of a device name
	MaxEnrolmentCode  = 128  // octets of an enrolment code
	MaxChallenge      = 128  // octets of a challenge
	MaxKeyPackages    = 100  // KeyPackages of one upload
	MaxSubscriptions  = 4096 // rooms of one stream
	MaxClientFrame    = 4096 // octets of a frame from the client
	DefaultTokenHours = 1    // lifetime of a token
)

// A Problem is the JSON body of every error of the client API. Code is
// stable; Message is for people and says what to do.
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Codes of a Problem.
const (
	CodeMalformed       = "malformed"          // 400: the body can't be parsed
	CodeUnauthenticated = "unauthenticated"    // 401: no token, or it has expired
	CodeForbidden       = "forbidden"          // 403
	CodeNotFound        = "not-found"          // 404
	CodeMethod          = "method-not-allowed" // 405
	CodeConflict        = "conflict"           // 409: it exists already
	CodeTooLarge        = "too-large"          // 413
	CodeMediaType       = "unsupported-media"  // 415
	CodeRateLimited     = "rate-limited"       // 429
	CodeInternal        = "internal"           // 500
	CodePeer            = "peer-unavailable"   // 502: the other provider did not answer
	CodeUnavailable     = "unavailable"        // 503
	CodeFull            = "storage-full"       // 507: the provider's disk is full
)
