package mls

import "errors"

// The errors that callers tell apart with errors.Is. None carries a secret.
var (
	// ErrWrongGroup means that a message belongs to another group.
	ErrWrongGroup = errors.New("mls: message of another group")
	// ErrWrongEpoch means that a message belongs to an epoch whose keys this
	// group does not have: fetch and process the missing commits, or drop it.
	ErrWrongEpoch = errors.New("mls: message of another epoch")
	// ErrInvalidSignature means that a signature does not verify.
	ErrInvalidSignature = errors.New("mls: invalid signature")
	// ErrUnknownSender means that the sender is not a member, or not a sender
	// that may send such a message.
	ErrUnknownSender = errors.New("mls: unknown sender")
	// ErrMissingProposal means that a commit refers to a proposal that was
	// not received: fetch it, then process the commit again.
	ErrMissingProposal = errors.New("mls: commit refers to a proposal that was not received")
	// ErrReplay means that the key of a message was consumed already.
	ErrReplay = errors.New("mls: message was decrypted before")
	// ErrTooFarAhead means that the generation of a message lies beyond the
	// window in which keys are derived ahead.
	ErrTooFarAhead = errors.New("mls: generation too far ahead")
	// ErrDecrypt means that a ciphertext or a MAC does not verify.
	ErrDecrypt = errors.New("mls: message does not decrypt")
	// ErrNotMember means that the local client is not, or no longer, a member.
	ErrNotMember = errors.New("mls: not a member of the group")
	// ErrInvalidCommit means that a commit breaks the rules of RFC 9420
	// section 12.4.2.
	ErrInvalidCommit = errors.New("mls: invalid commit")
	// ErrInvalidProposal means that a proposal, or a list of proposals,
	// breaks the rules of RFC 9420 section 12.
	ErrInvalidProposal = errors.New("mls: invalid proposal")
	// ErrInvalidMessage means that a message is well-formed but not valid.
	ErrInvalidMessage = errors.New("mls: invalid message")
	// ErrInvalidKeyPackage means that a KeyPackage or LeafNode is not valid.
	ErrInvalidKeyPackage = errors.New("mls: invalid key package")
	// ErrInvalidTree means that a ratchet tree is not valid.
	ErrInvalidTree = errors.New("mls: invalid ratchet tree")
	// ErrInvalidWelcome means that a Welcome or GroupInfo cannot be joined.
	ErrInvalidWelcome = errors.New("mls: invalid welcome")
	// ErrCredential means that the credential verifier refused a credential.
	ErrCredential = errors.New("mls: credential refused")
	// ErrCapabilities means that a member lacks a capability that is needed.
	ErrCapabilities = errors.New("mls: capability missing")
	// ErrExpired means that a KeyPackage is not valid at this time.
	ErrExpired = errors.New("mls: outside of its lifetime")
	// ErrLimit means that a configured limit is exceeded.
	ErrLimit = errors.New("mls: limit exceeded")
	// ErrCipherSuite means that a cipher suite is unknown, not available, or
	// not the one of the group.
	ErrCipherSuite = errors.New("mls: cipher suite not usable")
	// ErrKey means that a key is malformed.
	ErrKey = errors.New("mls: malformed key")
	// ErrPSK means that a pre-shared key is not available.
	ErrPSK = errors.New("mls: pre-shared key not available")
	// ErrState means that stored records are damaged or do not fit together.
	ErrState = errors.New("mls: damaged group state")
)
