package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
)

// maxHistoryPage bounds one read of the history.
const maxHistoryPage = 1000

func seqKey(n uint64) string { return fmt.Sprintf("%016x", n) }

// entry appends to the history, in the same step as everything else that the
// turn changes.
func (r *chat) entry(t *turn, e Entry) {
	r.rec.LastSeq++
	e.Seq = r.rec.LastSeq
	value, err := json.Marshal(&e)
	if err != nil {
		// All fields are plain data; there is nothing to fail on.
		panic("client: entry without encoding: " + err.Error())
	}
	t.batch.Set(bucketHistory(r.uri), seqKey(e.Seq), value)
	if e.Kind == EntryMessage && !e.ID.IsZero() {
		t.batch.Set(bucketIDs(r.uri), e.ID.String(), []byte(seqKey(e.Seq)))
		t.remember(e.ID, e.User)
	}
	t.publish(Event{Kind: EventEntry, Room: r.uri, Entry: &e})
}

// trouble appends an entry about something that did not verify.
func (r *chat) trouble(t *turn, position uint64, at time.Time, code ProblemCode, err error) {
	text := ""
	if err != nil {
		text = content.SanitizeLine(err.Error())
	}
	r.c.cfg.Log.Warn("refused what does not verify", "room", r.uri, "position", position, "code", code, "err", err)
	r.entry(t, Entry{Position: position, Time: at, Kind: EntryProblem, Problem: &Problem{Code: code, Text: text}})
}

// remember notes the messages of this turn, which are not in the store yet.
func (t *turn) remember(id content.MessageID, user mimi.URI) {
	if t.ids == nil {
		t.ids = map[content.MessageID]mimi.URI{}
	}
	t.ids[id] = user
}

// sender returns who sent an earlier message.
func (r *chat) sender(t *turn, id content.MessageID) (user mimi.URI, known bool, err error) {
	if user, ok := t.ids[id]; ok {
		return user, true, nil
	}
	ctx := context.WithoutCancel(r.c.ctx)
	key, err := r.c.cfg.Store.Get(ctx, bucketIDs(r.uri), id.String())
	if errors.Is(err, ErrNoValue) {
		return mimi.URI{}, false, nil
	}
	if err != nil {
		return mimi.URI{}, false, err
	}
	value, err := r.c.cfg.Store.Get(ctx, bucketHistory(r.uri), string(key))
	if err != nil {
		return mimi.URI{}, false, err
	}
	var e Entry
	if err := json.Unmarshal(value, &e); err != nil {
		return mimi.URI{}, false, fmt.Errorf("client: stored entry: %w", err)
	}
	return e.User, true, nil
}

// History returns up to limit entries of a room that follow the one with the
// number after, oldest first. Start with 0, and go on with the Seq of the
// last entry returned; fewer than limit entries mean the end. The limit is at
// most 1000.
func (c *Client) History(ctx context.Context, uri mimi.URI, after uint64, limit int) ([]Entry, error) {
	r, err := c.chat(uri, false)
	if err != nil {
		return nil, err
	}
	last := r.record().LastSeq
	if after >= last || limit <= 0 {
		return nil, nil
	}
	return r.readHistory(ctx, after+1, min(last, after+uint64(min(limit, maxHistoryPage))))
}

// Latest returns the newest entries of a room, at most limit, oldest first.
func (c *Client) Latest(ctx context.Context, uri mimi.URI, limit int) ([]Entry, error) {
	r, err := c.chat(uri, false)
	if err != nil {
		return nil, err
	}
	last := r.record().LastSeq
	n := uint64(max(0, min(limit, maxHistoryPage)))
	if n = min(n, last); n == 0 {
		return nil, nil
	}
	return r.readHistory(ctx, last-n+1, last)
}

// Message returns the entry of the message with this ID. The error matches
// ErrUnknownMessage if it is not in the history.
func (c *Client) Message(ctx context.Context, uri mimi.URI, id content.MessageID) (Entry, error) {
	if _, err := c.chat(uri, false); err != nil {
		return Entry{}, err
	}
	key, err := c.cfg.Store.Get(ctx, bucketIDs(uri), id.String())
	if errors.Is(err, ErrNoValue) {
		return Entry{}, ErrUnknownMessage
	}
	if err != nil {
		return Entry{}, err
	}
	value, err := c.cfg.Store.Get(ctx, bucketHistory(uri), string(key))
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := json.Unmarshal(value, &e); err != nil {
		return Entry{}, fmt.Errorf("client: stored entry: %w", err)
	}
	return e, nil
}

func (r *chat) readHistory(ctx context.Context, first, last uint64) ([]Entry, error) {
	keys := make([]string, 0, last-first+1)
	for n := first; n <= last; n++ {
		keys = append(keys, seqKey(n))
	}
	values, err := r.c.cfg.Store.GetMany(ctx, bucketHistory(r.uri), keys)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(values))
	for i, value := range values {
		if value == nil {
			return nil, fmt.Errorf("client: entry %d of the history of %v is missing from the store", first+uint64(i), r.uri)
		}
		if err := json.Unmarshal(value, &entries[i]); err != nil {
			return nil, fmt.Errorf("client: stored entry: %w", err)
		}
	}
	return entries, nil
}
