package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A Client is one device. Make one with Enrol or Open. All methods are safe
// for concurrent use.
type Client struct {
	cfg     Config
	id      *deviceRecord
	cred    mls.Credential
	signer  mls.Signer
	session *session
	creds   mls.CredentialVerifier
	feed    feed
	pool    *keyPackagePool
	line    *line

	// ctx ends with Close; wg counts every goroutine that was started.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	// mu guards chats, the rooms that are known or asked for, and closed.
	// Whoever adds to wg holds it and has seen that closed is not set.
	mu     sync.Mutex
	chats  map[mimi.URI]*chat
	closed bool
}

// Open opens the device that the store holds. It does not need the network;
// Run does.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	id, err := loadDevice(ctx, cfg.Store)
	if err != nil {
		return nil, err
	}
	signer, err := mls.NewSigner(id.Suite, id.Private)
	if err != nil {
		return nil, fmt.Errorf("client: stored signature key: %w", err)
	}
	c := &Client{
		cfg: cfg, id: id, cred: id.credential(), signer: signer,
		session: newSession(cfg.Transport, id.Device.String(), signer, cfg.Now),
		creds:   cfg.Credentials,
		chats:   map[mimi.URI]*chat{},
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	if c.creds == nil {
		c.creds = NewVerifier(c.FetchAnchor, cfg.Roots, storePins{cfg.Store}, cfg.Now)
	}
	c.pool = &keyPackagePool{c: c, wake: make(chan struct{}, 1)}
	c.line = newLine(c)
	records, err := cfg.Store.Bucket(ctx, bucketRooms)
	if err != nil {
		return nil, err
	}
	for key, value := range records {
		uri, err := mimi.ParseURI(key)
		if err != nil {
			return nil, fmt.Errorf("client: stored room: %w", err)
		}
		rec := new(chatRecord)
		if err := json.Unmarshal(value, rec); err != nil {
			return nil, fmt.Errorf("client: stored room %v: %w", uri, err)
		}
		r := newChat(c, uri)
		r.setRecord(rec)
		c.chats[uri] = r
	}
	return c, nil
}

// User returns the user whose device this is.
func (c *Client) User() mimi.URI { return c.id.User }

// Device returns the device's own URI.
func (c *Client) Device() mimi.URI { return c.id.Device }

// Subscribe returns a subscription to all events from now on.
func (c *Client) Subscribe() *Subscription { return c.feed.subscribe() }

// Run keeps the device in step with its provider: it receives the events of
// its rooms, sends what waits to be sent, and keeps KeyPackages ready. It
// reconnects as often as needed and returns when ctx ends, with its error, or
// after Close. Call it once.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unhook := context.AfterFunc(c.ctx, cancel)
	defer unhook()
	if !c.begin() {
		return ErrClosed
	}
	defer c.wg.Done()
	// Rooms with unfinished business are woken without waiting for an event.
	for _, r := range c.known() {
		if rec := r.record(); rec.Unposted > 0 || rec.Staged || rec.Status == RoomJoining || rec.Status == RoomLeaving {
			r.post(func(*turn) {}) // loads it, and loading takes the business up
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.pool.run(ctx) })
	err := c.line.run(ctx)
	cancel()
	wg.Wait()
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

// Close stops everything and waits until it has stopped. What is not sent is
// in the store and is sent after the next Open.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.wg.Wait()
	c.feed.close()
	return nil
}

// begin counts a goroutine that the caller is about to start, or reports that
// the client is closed.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Add(1)
	return true
}

// goroutine starts f unless the client is closed. f ends when c.ctx does.
func (c *Client) goroutine(f func()) {
	if !c.begin() {
		return
	}
	go func() {
		defer c.wg.Done()
		f()
	}()
}

// room returns the room with this URI; with create, also one that is not
// known yet.
func (c *Client) chat(uri mimi.URI, create bool) (*chat, error) {
	if !uri.Is(mimi.KindRoom) {
		return nil, fmt.Errorf("%w: %q is not the URI of a room", ErrNoRoom, uri)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	r := c.chats[uri]
	if r == nil {
		if !create {
			return nil, fmt.Errorf("%w: %v", ErrNoRoom, uri)
		}
		r = newChat(c, uri)
		c.chats[uri] = r
	}
	return r, nil
}

// known returns all rooms in the order of their URIs.
func (c *Client) known() []*chat {
	c.mu.Lock()
	defer c.mu.Unlock()
	rooms := make([]*chat, 0, len(c.chats))
	for _, r := range c.chats {
		rooms = append(rooms, r)
	}
	slices.SortFunc(rooms, func(a, b *chat) int { return strings.Compare(a.uri.String(), b.uri.String()) })
	return rooms
}

// Rooms returns all rooms that the device is or was a member of, in the order
// of their URIs.
func (c *Client) Rooms() []Room {
	var out []Room
	for _, r := range c.known() {
		if v := r.glance(); v.Status != RoomNone {
			out = append(out, v)
		}
	}
	return out
}

// Room returns what the device knows about a room at a glance.
func (c *Client) Room(uri mimi.URI) (Room, error) {
	r, err := c.chat(uri, false)
	if err != nil {
		return Room{}, err
	}
	v := r.glance()
	if v.Status == RoomNone {
		return Room{}, fmt.Errorf("%w: %v", ErrNoRoom, uri)
	}
	return v, nil
}

// problem reports a failure that belongs to no room.
func (c *Client) problem(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	c.cfg.Log.Warn("client problem", "err", err)
	c.feed.publish(Event{Kind: EventProblem, Err: err})
}
