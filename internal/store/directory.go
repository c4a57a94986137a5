package store

import "context"

// Directory keeps the users of this provider and their devices.
type Directory interface {
	// PutUser creates or replaces a user.
	PutUser(ctx context.Context, u User) error
	// User gives a user; ErrNotFound.
	User(ctx context.Context, uri string) (User, error)
	// Users lists users by URI, those greater than after, at most limit.
	Users(ctx context.Context, after string, limit int) ([]User, error)

	// PutEnrolment makes a code good for one enrolment of a device of a user.
	// ErrNotFound if there is no such user; ErrExists if the code is known.
	PutEnrolment(ctx context.Context, e Enrolment) error
	// Enrolment gives a code, spent or not, whatever its Expires; ErrNotFound.
	Enrolment(ctx context.Context, codeHash Hash) (Enrolment, error)
	// UseEnrolment spends a code and creates the device, as one. The code must be
	// known, unspent, not expired at now, and be for d.User, else ErrNotFound.
	// ErrExists if the device URI is taken. The same code with a device of the same
	// URI and public key again is a repetition: it gives nil and changes nothing.
	UseEnrolment(ctx context.Context, codeHash Hash, d Device, now uint64) error

	// Device gives a device; ErrNotFound.
	Device(ctx context.Context, uri string) (Device, error)
	// Devices gives the devices of a user in order of URI.
	Devices(ctx context.Context, user string) ([]Device, error)
	// PutDevice replaces what is kept of a device (a renewed certificate, a
	// revocation); ErrNotFound if there is none. User can't be changed: ErrInvalid.
	PutDevice(ctx context.Context, d Device) error
	// RemoveDevice forgets a device, its KeyPackages and its mail. It is no error if
	// there is none. Memberships stay: they end by a commit of the room.
	RemoveDevice(ctx context.Context, uri string) error
}

// User is an account.
type User struct {
	URI      string
	Name     string // for display
	Created  uint64
	Disabled bool
	Data     []byte // the caller's
}

// Device is a client of a user.
type Device struct {
	URI         string
	User        string
	Name        string // for display
	PublicKey   []byte // raw signature key
	CipherSuite uint16 // that gives the signature scheme
	Certificate []byte // DER
	Created     uint64
	Revoked     uint64 // 0: not revoked
	Data        []byte // the caller's
}

// Enrolment is a code by which a user adds a device.
type Enrolment struct {
	CodeHash Hash
	User     string
	Expires  uint64
	Device   string // that spent it; empty: unspent. Ignored by PutEnrolment.
}
