package store

import "context"

// Mailboxes keep what is for one device and not in the log of a room: Welcomes,
// the outcome of a pending message. IDs increase within a mailbox; they need not
// be dense.
type Mailboxes interface {
	// PutMail puts mail into mailboxes. It gives the IDs in the order of mail.
	// Mail whose Hash was put into the same mailbox within MailMemory is not put
	// again: its ID is that of the first time.
	PutMail(ctx context.Context, mail []NewMail) (ids []uint64, err error)
	// Mail gives the mail of a device after an ID, in order, at most max. Zero
	// means no limit.
	Mail(ctx context.Context, device string, after uint64, max int) ([]Mail, error)
	// AckMail forgets the mail of a device up to an ID, included.
	AckMail(ctx context.Context, device string, upTo uint64) error
}

// NewMail is mail to be put.
type NewMail struct {
	Device   string
	Kind     uint8  // the caller's
	Room     string // may be empty
	Position uint64 // of the event it belongs to; may be 0
	Hash     Hash   // identity within the mailbox; zero: never a repetition
	Body     []byte
	// KeyPackageRef is set on a Welcome: the KeyPackage it uses up. See
	// KeyPackages.ClaimKeyPackages.
	KeyPackageRef []byte
}

// Mail is a piece of mail.
type Mail struct {
	ID       uint64
	Kind     uint8
	Room     string
	Position uint64
	Body     []byte
}
