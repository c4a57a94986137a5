package store

import "context"

// Peers keeps how far other providers have received the rooms they follow. There
// is one cursor per window (see PeerChange) and no row per message.
type Peers interface {
	// Lagging gives the domains that have something to receive: events of a room,
	// or a request whose NotBefore is not after now. In order of domain.
	Lagging(ctx context.Context, now uint64) ([]string, error)
	// PeerCursors gives the windows of a domain that it has not fully received, in
	// order of room and start, those with a room greater than afterRoom, at most
	// limit rooms' worth. Zero means no limit.
	PeerCursors(ctx context.Context, domain, afterRoom string, limit int) ([]PeerCursor, error)
	// AdvancePeer notes that a domain has received a room up to a position,
	// included. A cursor never goes back, and never past its window: to repeat it
	// is harmless.
	AdvancePeer(ctx context.Context, domain, room string, position uint64) error
	// RoomPeers gives the domains that follow a room now, in order; ErrNoRoom.
	RoomPeers(ctx context.Context, room string) ([]string, error)
}

// PeerCursor says which events of a room a provider has yet to receive: those
// with After < position ≤ Through.
type PeerCursor struct {
	Room    string
	After   uint64
	Through uint64
}

// Requests is a durable queue per domain of what is not in the log of a room:
// messages of local clients for a hub that can't be reached, Welcomes for another
// provider. It is read in the order it was filled.
type Requests interface {
	// Enqueue adds requests. It gives their IDs in order. A request with the Hash
	// of one that is still in the queue of that domain is not added again: its ID
	// is that of the first one.
	Enqueue(ctx context.Context, reqs []NewRequest) (ids []uint64, err error)
	// Queued gives the requests of a domain with an ID greater than after, in
	// order, whether they are due or not, at most limit. Zero means no limit.
	Queued(ctx context.Context, domain string, after uint64, limit int) ([]Request, error)
	// RetryRequest notes a failed attempt: Attempts grows by one and NotBefore is
	// set. ErrNotFound if the request is gone.
	RetryRequest(ctx context.Context, id, notBefore uint64) error
	// FinishRequest forgets a request and puts mail about its outcome, as one.
	// ErrNotFound if the request is gone: no mail is put then.
	FinishRequest(ctx context.Context, id uint64, mail []NewMail) (mailIDs []uint64, err error)
}

// NewRequest is a request to be queued.
type NewRequest struct {
	Domain    string
	Room      string // may be empty
	Kind      uint8  // the caller's
	Device    string // that waits for the outcome; may be empty
	Hash      Hash   // identity within the queue of the domain; zero: never a repetition
	NotBefore uint64
	Body      []byte
}

// Request is a request in the queue.
type Request struct {
	ID       uint64
	Attempts int
	NewRequest
}
