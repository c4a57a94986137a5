package local

import "github.com/comity-im/comity/internal/tlspl"

// An EnrolRequest turns an enrolment code into a device. The code names the
// user and works once.
type EnrolRequest struct {
	Code        string `json:"code"`
	DeviceName  string `json:"device_name"`  // letters, digits, '-', '_', '.'; unique among the user's devices
	CipherSuite uint16 `json:"cipher_suite"` // whose signature scheme PublicKey follows
	PublicKey   []byte `json:"public_key"`   // the device's signature key, as in a LeafNode
	Signature   []byte `json:"signature"`    // LabelEnrol over EnrolTBS, by PublicKey
}

// TBS returns EnrolTBS, what the signature of an EnrolRequest covers: the proof that
// who enrols holds the private key.
//
//	struct {
//	    opaque code<V>;
//	    opaque device_name<V>;
//	    CipherSuite cipher_suite;
//	    opaque public_key<V>;
//	} EnrolTBS;
func (r *EnrolRequest) TBS() ([]byte, error) {
	var w tlspl.Writer
	w.Opaque([]byte(r.Code))
	w.Opaque([]byte(r.DeviceName))
	w.Uint16(r.CipherSuite)
	w.Opaque(r.PublicKey)
	return w.Bytes()
}

// An EnrolResponse is the new device's place in the world.
type EnrolResponse struct {
	User           string `json:"user"`            // identifier URI of the user
	Device         string `json:"device"`          // identifier URI of the device
	Certificate    []byte `json:"certificate"`     // DER, issued by the provider's CA
	Anchor         []byte `json:"anchor"`          // the provider's own AnchorStatement
	ExternalSender []byte `json:"external_sender"` // mls ExternalSender of the provider as a hub
}

// A ChallengeResponse carries a fresh challenge to be signed for a token.
type ChallengeResponse struct {
	Challenge []byte `json:"challenge"`
}

// A TokenRequest proves that the caller holds the device's key.
type TokenRequest struct {
	Device    string `json:"device"`
	Challenge []byte `json:"challenge"`
	Signature []byte `json:"signature"` // LabelToken over Challenge, by the device's key
}

// A TokenResponse carries the bearer token for all other calls:
// "Authorization: Bearer <token>".
type TokenResponse struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires"` // seconds since the Unix epoch
}

// A KeyPackageCount says how many unclaimed KeyPackages the device has.
type KeyPackageCount struct {
	Count int `json:"count"`
}

// A PendingResponse is the body of status 202: the message is stored and will
// be sent to the hub. The outcome arrives on the stream, as the message
// itself or as MailRejected.
type PendingResponse struct {
	Hub string `json:"hub"` // the provider that did not answer
}
