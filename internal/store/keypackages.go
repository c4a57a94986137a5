package store

import "context"

// KeyPackages keeps what local devices published, and where claimed ones lead.
type KeyPackages interface {
	// PublishKeyPackages adds KeyPackages of a device, in this order. Those whose
	// Ref is known already, published or claimed, are skipped. ErrNotFound if there
	// is no such device. It gives the number added.
	PublishKeyPackages(ctx context.Context, device string, kps []KeyPackage) (int, error)
	// CountKeyPackages gives how many of a device are there to be claimed at the
	// time now.
	CountKeyPackages(ctx context.Context, device string, now uint64) (int, error)
	// ClaimKeyPackages takes one KeyPackage for each device of a user that is not
	// revoked, in order of device. No KeyPackage is ever given to two requests.
	//
	// Of a device's KeyPackages that are good at Now, the one whose Suite comes
	// first in Suites is taken, the oldest of these first.
	//
	// The same RequestHash until RepeatUntil gives the same answer, as long as no
	// KeyPackage of it was used (see NewMail.KeyPackageRef); so an answer that was
	// lost can be had again. An answer without any KeyPackage is not remembered.
	// ErrNotFound if there is no such user.
	ClaimKeyPackages(ctx context.Context, req ClaimRequest) ([]Claimed, error)

	// PutClaims remembers where the Welcome for a KeyPackage has to go. A Ref that
	// is known already keeps its target.
	PutClaims(ctx context.Context, routes []ClaimRoute) error
	// Claim gives the route of a claimed KeyPackage; ErrNotFound. A KeyPackage
	// claimed by ClaimKeyPackages leads to its device.
	Claim(ctx context.Context, ref []byte) (ClaimRoute, error)
}

// KeyPackage is a published KeyPackage.
type KeyPackage struct {
	Ref      []byte // KeyPackageRef, RFC 9420 §5.2
	Suite    uint16
	NotAfter uint64 // ms; it is not handed out at or after this time
	Body     []byte
}

// ClaimRequest is the request of KeyPackages.ClaimKeyPackages.
type ClaimRequest struct {
	User        string
	Suites      []uint16 // in order of preference
	Room        string   // for the record; may be empty
	Now         uint64
	RequestHash Hash   // zero: never a repetition
	RepeatUntil uint64 // the answer is given again until then
}

// ClaimStatus says what a device had to give.
type ClaimStatus uint8

// What a device had to give.
const (
	ClaimOK           ClaimStatus = 1
	ClaimExhausted    ClaimStatus = 2 // no KeyPackage left
	ClaimIncompatible ClaimStatus = 3 // some left, none of a suite asked for
)

// Claimed is the answer for one device.
type Claimed struct {
	Device   string
	Status   ClaimStatus
	Ref      []byte // this and the rest only with ClaimOK
	Suite    uint16
	NotAfter uint64
	Body     []byte
	Left     int // how many are left after this one
}

// ClaimRoute says where the Welcome for a KeyPackage goes.
type ClaimRoute struct {
	Ref      []byte
	Target   string // device URI, or domain of a provider
	Room     string // the room it was claimed for, if known
	NotAfter uint64
}
