package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/comity-im/comity/internal/store"
)

// roomRow is a room as its row has it.
type roomRow struct {
	id     int64
	epoch  uint64
	head   uint64
	lastTS uint64
}

// room finds a room; store.ErrNoRoom.
func (t *tx) room(uri string) (r roomRow, err error) {
	if r, ok := t.e.rooms[uri]; ok {
		return r, nil
	}
	var epoch, head, ts int64
	ok, err := t.row("SELECT id, epoch, head, last_ts FROM room WHERE uri = ?", []any{uri}, &r.id, &epoch, &head, &ts)
	if err == nil && !ok {
		err = store.ErrNoRoom
	}
	if err != nil {
		return r, err
	}
	r.epoch, r.head, r.lastTS = uint64(epoch), uint64(head), uint64(ts)
	t.remember(uri, r)
	return r, nil
}

// CreateRoom implements store.Rooms.
func (s *Store) CreateRoom(ctx context.Context, req store.CreateRoom) (store.AppendResult, error) {
	if err := req.Validate(); err != nil {
		return store.AppendResult{}, err
	}
	a := store.Append{
		Room: req.Room, Events: req.Events, State: store.Delta{Put: req.State},
		Members: req.Members, Peers: req.Peers, Mail: req.Mail, Requests: req.Requests,
	}
	return write(ctx, s, a.Size(), func(t *tx) (store.AppendResult, error) {
		_, err := t.room(req.Room)
		switch {
		case err == nil:
			return store.AppendResult{}, fmt.Errorf("%w: room %s", store.ErrExists, req.Room)
		case !errors.Is(err, store.ErrNoRoom):
			return store.AppendResult{}, err
		}
		id, err := t.insert("INSERT INTO room (uri, hub, is_hub, epoch, head, last_ts) VALUES (?, ?, ?, ?, 0, 0)",
			req.Room, req.Hub, req.IsHub, bits(req.Epoch))
		if err != nil {
			return store.AppendResult{}, err
		}
		return t.append(s.nowMs(), roomRow{id: int64(id), epoch: req.Epoch}, &a)
	})
}

// Append implements store.Rooms.
func (s *Store) Append(ctx context.Context, req store.Append) (store.AppendResult, error) {
	if err := req.Validate(); err != nil {
		return store.AppendResult{}, err
	}
	return write(ctx, s, req.Size(), func(t *tx) (store.AppendResult, error) {
		r, err := t.room(req.Room)
		if err != nil {
			return store.AppendResult{}, err
		}
		if res, err := t.duplicate(r, &req); err != nil || res.Duplicate {
			return res, err
		}
		if req.ExpectEpoch != nil && *req.ExpectEpoch != r.epoch {
			return store.AppendResult{}, &store.WrongEpochError{Current: r.epoch}
		}
		if req.ExpectHead != nil && *req.ExpectHead != r.head {
			return store.AppendResult{}, &store.WrongHeadError{Current: r.head}
		}
		return t.append(s.nowMs(), r, &req)
	})
}

// duplicate looks for what of the request was seen before.
func (t *tx) duplicate(r roomRow, req *store.Append) (res store.AppendResult, err error) {
	var pos, ts int64
	if req.Dedup != (store.Hash{}) {
		res.Duplicate, err = t.row("SELECT pos, ts FROM dedup WHERE room_id = ? AND hash = ?", []any{r.id, req.Dedup[:]}, &pos, &ts)
	}
	for i := range req.Events {
		if err != nil || res.Duplicate {
			break
		}
		if h := req.Events[i].Hash; h != (store.Hash{}) {
			res.Duplicate, err = t.row("SELECT pos, ts FROM event WHERE room_id = ? AND hash = ?", []any{r.id, h[:]}, &pos, &ts)
		}
	}
	res.Position, res.Timestamp = uint64(pos), uint64(ts)
	return res, err
}

// append writes a request that was found good.
func (t *tx) append(now uint64, r roomRow, req *store.Append) (res store.AppendResult, err error) {
	before := r
	for i := range req.Events {
		e := &req.Events[i]
		ts := e.Timestamp
		if ts == 0 {
			if r.lastTS == math.MaxUint64 {
				return res, fmt.Errorf("%w: the timestamps of room %s are used up", store.ErrInvalid, req.Room)
			}
			ts = max(now, r.lastTS+1)
		}
		r.head++
		r.lastTS = max(r.lastTS, ts)
		if err := t.do("INSERT INTO event (room_id, pos, ts, kind, hash, body) VALUES (?, ?, ?, ?, ?, ?)",
			r.id, bounded(r.head), bits(ts), e.Kind, hashOrNull(e.Hash), blob(e.Body)); err != nil {
			return res, err
		}
		res.Events = append(res.Events, store.Placed{Position: r.head, Timestamp: ts})
	}
	res.Position, res.Timestamp = r.head, r.lastTS
	if n := len(res.Events); n > 0 {
		res.Timestamp = res.Events[n-1].Timestamp
	}
	if req.NewEpoch != nil {
		r.epoch = *req.NewEpoch
	}
	if r != before {
		if err := t.do("UPDATE room SET epoch = ?, head = ?, last_ts = ? WHERE id = ?",
			bits(r.epoch), bounded(r.head), bits(r.lastTS), r.id); err != nil {
			return res, err
		}
		t.remember(req.Room, r)
	}
	if req.Dedup != (store.Hash{}) {
		if err := t.do("INSERT INTO dedup (room_id, hash, pos, ts) VALUES (?, ?, ?, ?)",
			r.id, req.Dedup[:], bounded(res.Position), bits(res.Timestamp)); err != nil {
			return res, err
		}
	}
	if err := t.delta(r.id, &req.State); err != nil {
		return res, err
	}

	// A window opens and closes at the last event. Where there is none, the next
	// position is the first to be seen, and the head the last.
	opens, closes := r.head, r.head
	if len(req.Events) == 0 {
		opens++
	}
	for i := range req.Members {
		if err := t.member(r.id, &req.Members[i], opens, closes); err != nil {
			return res, err
		}
	}
	for i := range req.Peers {
		if err := t.peer(r.id, &req.Peers[i], opens, closes); err != nil {
			return res, err
		}
	}
	if res.MailIDs, err = t.mail(now, req.Mail, req.Room, res.Position); err != nil {
		return res, err
	}
	_, err = t.enqueue(req.Requests)
	return res, err
}

func (t *tx) delta(room int64, d *store.Delta) error {
	if d.Clear {
		if err := t.do("DELETE FROM room_state WHERE room_id = ?", room); err != nil {
			return err
		}
	}
	for _, k := range d.Delete {
		if err := t.do("DELETE FROM room_state WHERE room_id = ? AND key = ?", room, k); err != nil {
			return err
		}
	}
	for _, kv := range d.Put {
		if err := t.do(`INSERT INTO room_state (room_id, key, value) VALUES (?, ?, ?)
			ON CONFLICT (room_id, key) DO UPDATE SET value = excluded.value`, room, kv.Key, blob(kv.Value)); err != nil {
			return err
		}
	}
	return nil
}

// member opens or closes a window of a device.
func (t *tx) member(room int64, m *store.MemberChange, opens, closes uint64) error {
	var id, from int64
	open, err := t.row("SELECT id, from_pos FROM member WHERE room_id = ? AND device = ? AND to_pos = 0",
		[]any{room, m.Device}, &id, &from)
	switch {
	case err != nil || open == m.Join:
		return err
	case m.Join:
		return t.do(`INSERT INTO member (room_id, device, account, from_pos, to_pos) VALUES (?, ?, ?, ?, 0)
			ON CONFLICT (room_id, device, from_pos) DO UPDATE SET to_pos = 0, account = excluded.account`,
			room, m.Device, m.User, bounded(opens))
	case closes < uint64(from): // it never saw anything
		return t.do("DELETE FROM member WHERE id = ?", id)
	}
	return t.do("UPDATE member SET to_pos = ? WHERE id = ?", bounded(closes), id)
}

// Room implements store.Rooms.
func (s *Store) Room(ctx context.Context, room string) (store.RoomInfo, error) {
	_, info, err := s.find(ctx, room)
	return info, err
}

// find gives a room and its id; store.ErrNoRoom.
func (s *Store) find(ctx context.Context, room string) (id int64, info store.RoomInfo, err error) {
	err = s.one(ctx, selectRoom, []any{room}, func(scan func(...any) error) error {
		id, info, err = scanRoom(scan)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = store.ErrNoRoom
	}
	return id, info, err
}

const selectRoom = "SELECT id, uri, hub, is_hub, epoch, head, last_ts FROM room WHERE uri = ?"

func scanRoom(scan func(...any) error) (id int64, info store.RoomInfo, err error) {
	var epoch, head, ts int64
	err = scan(&id, &info.Room, &info.Hub, &info.IsHub, &epoch, &head, &ts)
	info.Epoch, info.Head, info.LastTimestamp = uint64(epoch), uint64(head), uint64(ts)
	return id, info, err
}

// Rooms implements store.Rooms.
func (s *Store) Rooms(ctx context.Context, after string, max int) ([]store.RoomInfo, error) {
	var list []store.RoomInfo
	err := s.rows(ctx, "SELECT id, uri, hub, is_hub, epoch, head, last_ts FROM room WHERE uri > ? ORDER BY uri LIMIT ?",
		[]any{after, limit(max)}, func(scan func(...any) error) error {
			_, info, err := scanRoom(scan)
			list = append(list, info)
			return err
		})
	return list, err
}

// RoomState implements store.Rooms. It reads in one transaction, so that state and
// head agree.
func (s *Store) RoomState(ctx context.Context, room string) (map[string][]byte, store.RoomInfo, error) {
	if err := s.usable(); err != nil {
		return nil, store.RoomInfo{}, err
	}
	rtx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, store.RoomInfo{}, s.fault(err)
	}
	defer rtx.Rollback()
	id, info, err := scanRoom(rtx.QueryRowContext(ctx, selectRoom, room).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, store.RoomInfo{}, store.ErrNoRoom
	}
	if err != nil {
		return nil, store.RoomInfo{}, s.fault(err)
	}
	rows, err := rtx.QueryContext(ctx, "SELECT key, value FROM room_state WHERE room_id = ?", id)
	if err != nil {
		return nil, store.RoomInfo{}, s.fault(err)
	}
	state := make(map[string][]byte)
	err = drain(rows, func(scan func(...any) error) error {
		var key string
		var value []byte
		if err := scan(&key, &value); err != nil {
			return err
		}
		state[key] = value
		return nil
	})
	if err != nil {
		return nil, store.RoomInfo{}, s.fault(err)
	}
	return state, info, nil
}

// ReadLog implements store.Rooms.
func (s *Store) ReadLog(ctx context.Context, room string, after uint64, maxEvents, maxBytes int) ([]store.Event, error) {
	id, _, err := s.find(ctx, room)
	if err != nil {
		return nil, err
	}
	var list []store.Event
	size := 0
	err = s.rows(ctx, "SELECT pos, ts, kind, hash, body FROM event WHERE room_id = ? AND pos > ? ORDER BY pos LIMIT ?",
		[]any{id, bounded(after), limit(maxEvents)}, func(scan func(...any) error) error {
			e, err := scanEvent(scan)
			if err != nil {
				return err
			}
			if size += len(e.Body); maxBytes > 0 && size > maxBytes && len(list) > 0 {
				return errEnough
			}
			list = append(list, e)
			return nil
		})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// FindEvent implements store.Rooms.
func (s *Store) FindEvent(ctx context.Context, room string, hash store.Hash) (store.Event, error) {
	id, _, err := s.find(ctx, room)
	if err != nil {
		return store.Event{}, err
	}
	var e store.Event
	err = s.one(ctx, "SELECT pos, ts, kind, hash, body FROM event WHERE room_id = ? AND hash = ?", []any{id, hash[:]},
		func(scan func(...any) error) error {
			e, err = scanEvent(scan)
			return err
		})
	if err != nil {
		return store.Event{}, err
	}
	return e, nil
}

func scanEvent(scan func(...any) error) (e store.Event, err error) {
	var pos, ts int64
	var hash []byte
	err = scan(&pos, &ts, &e.Kind, &hash, &e.Body)
	copy(e.Hash[:], hash)
	e.Position, e.Timestamp = uint64(pos), uint64(ts)
	return e, err
}

// Memberships implements store.Rooms.
func (s *Store) Memberships(ctx context.Context, device string) ([]store.Membership, error) {
	return s.members(ctx, `SELECT r.uri, m.device, m.account, m.from_pos, m.to_pos FROM member AS m JOIN room AS r ON r.id = m.room_id
		WHERE m.device = ? ORDER BY r.uri, m.from_pos`, device)
}

// Members implements store.Rooms.
func (s *Store) Members(ctx context.Context, room string) ([]store.Membership, error) {
	id, _, err := s.find(ctx, room)
	if err != nil {
		return nil, err
	}
	return s.members(ctx, `SELECT r.uri, m.device, m.account, m.from_pos, m.to_pos FROM member AS m JOIN room AS r ON r.id = m.room_id
		WHERE m.room_id = ? AND m.to_pos = 0 ORDER BY m.device`, id)
}

func (s *Store) members(ctx context.Context, query string, arg any) ([]store.Membership, error) {
	var list []store.Membership
	err := s.rows(ctx, query, []any{arg}, func(scan func(...any) error) error {
		var m store.Membership
		var from, to int64
		err := scan(&m.Room, &m.Device, &m.User, &from, &to)
		m.From, m.To = uint64(from), uint64(to)
		list = append(list, m)
		return err
	})
	return list, err
}
