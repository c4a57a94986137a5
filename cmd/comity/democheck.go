package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/internal/admin"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// history returns all that a device has seen in a room.
func history(ctx context.Context, a *actor, uri mimi.URI) ([]client.Entry, error) {
	var out []client.Entry
	for {
		const page = 500
		var after uint64
		if len(out) > 0 {
			after = out[len(out)-1].Seq
		}
		entries, err := a.c.History(ctx, uri, after, page)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.label, err)
		}
		out = append(out, entries...)
		if len(entries) < page {
			return out, nil
		}
	}
}

// stored shows what the providers keep of a room, and checks that the
// replicas have what the hub has, in its order.
func (s *stage) stored(ctx context.Context, uri mimi.URI) error {
	s.title("What the providers stored of the clubhouse")
	var hub []admin.Event
	at := map[string]map[string]uint64{} // positions by domain and hash
	for _, p := range s.fleet.Providers {
		events, err := p.Admin().Events(ctx, uri.String(), 0)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Config.Domain, err)
		}
		at[p.Config.Domain] = map[string]uint64{}
		for _, e := range events {
			at[p.Config.Domain][string(e.Hash)] = e.Position
		}
		if p.Config.Domain == uri.Domain() {
			hub = events
			continue
		}
		if err := contained(hub, events); err != nil {
			return differs("%s and its hub, %s: %v", p.Config.Domain, uri.Domain(), err)
		}
	}
	const rows, tail = 14, 4
	s.line("%s", s.colour.paint(dim, fmt.Sprintf("%6s  %-10s %6s  %-36s position at a, b, c", "", "what", "octets", "its first octets")))
	for i, e := range hub {
		if len(hub) > rows && i == rows-tail {
			s.line("%6s  and %d more", "…", len(hub)-rows)
		}
		if len(hub) > rows && i >= rows-tail && i < len(hub)-tail {
			continue
		}
		what, first, err := peek(e.Body)
		if err != nil {
			return err
		}
		var positions []string
		for _, p := range s.fleet.Providers {
			pos, ok := at[p.Config.Domain][string(e.Hash)]
			text := fmt.Sprintf("%4d", pos)
			if !ok {
				text = "   -"
			}
			positions = append(positions, text)
		}
		s.line("%6d  %-10s %6d  %-36s %s", e.Position, what, len(e.Body), hex.EncodeToString(first), strings.Join(positions, " "))
	}
	s.line("%s is the hub; a provider without users in the room (-) gets nothing", uri.Domain())
	return nil
}

// contained checks that a replica has a part of the hub's log without gaps.
func contained(hub, replica []admin.Event) error {
	if len(replica) == 0 {
		return fmt.Errorf("the replica has no event")
	}
	begin := slices.IndexFunc(hub, func(e admin.Event) bool { return bytes.Equal(e.Hash, replica[0].Hash) })
	if begin < 0 {
		return fmt.Errorf("the hub does not have the replica's event %d", replica[0].Position)
	}
	for i, e := range replica {
		if begin+i >= len(hub) {
			return fmt.Errorf("the replica has %d events more than the hub", len(replica)-i)
		}
		h := hub[begin+i]
		if !bytes.Equal(h.Hash, e.Hash) || h.Timestamp != e.Timestamp {
			return fmt.Errorf("event %d of the hub is not event %d of the replica", h.Position, e.Position)
		}
	}
	return nil
}

// peek says what an event is, and returns the first octets of its ciphertext,
// or of the event if it is not encrypted.
func peek(body []byte) (what string, first []byte, err error) {
	const octets = 18
	m, err := mimi.ParseFanout(body)
	if err != nil || len(m) == 0 {
		return "", nil, fmt.Errorf("a stored event can't be read: %w", err)
	}
	first = body
	switch msg := &m[0].Message; {
	case msg.PrivateMessage != nil:
		what, first = "message", msg.PrivateMessage.Ciphertext
	case msg.PublicMessage != nil && msg.PublicMessage.Content.ContentType == mls.ContentCommit:
		what = "commit"
	case msg.PublicMessage != nil:
		what = "proposal"
	default:
		what = fmt.Sprint(msg.WireFormat)
	}
	return what, first[:min(octets, len(first))], nil
}

// plaintexts searches everything on the providers' disks, and in the devices'
// sealed stores, for what was said.
func (s *stage) plaintexts() error {
	s.title("Is anything of that readable on a disk?")
	var needles [][]byte
	for _, m := range s.said {
		needles = append(needles, pieces(m.text)...)
	}
	var control []byte // is there, and must be found
	for _, a := range s.actors {
		if !a.plays.IsZero() {
			control = []byte(a.plays.String())
		}
	}
	for _, place := range []struct{ name, dir string }{{"providers", "providers"}, {"devices", "homes"}} {
		var size int64
		files, controls := 0, 0
		err := filepath.WalkDir(filepath.Join(s.dir, place.dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			size += int64(len(b))
			files++
			for _, n := range needles {
				if bytes.Contains(b, n) {
					return differs("%s holds the plaintext %q", path, n)
				}
			}
			controls += bytes.Count(b, control)
			return nil
		})
		if err != nil {
			return err
		}
		if place.dir == "providers" && controls == 0 {
			return differs("the search did not find %q either, which has to be there", control)
		}
		s.row(place.name, "%d pieces of %d messages searched in %d files, %d octets: none there", len(needles), len(s.said), files, size)
	}
	s.line("(a room's address and who is in it can be read there: providers route by them)")
	return nil
}

// pieces cuts a text so that a database page that splits it does not hide it.
func pieces(text string) [][]byte {
	const octets = 14
	b := []byte(text)
	var out [][]byte
	for len(b) >= octets {
		out = append(out, b[:octets])
		b = b[octets:]
	}
	return out
}

// compare checks that every device has seen what it should have, in the same
// order, and nothing else.
func (s *stage) compare(ctx context.Context, rooms ...mimi.URI) error {
	s.title("Did every device see the same, in the same order?")
	for _, uri := range rooms {
		var now *client.Room         // as the first member sees it
		var reference []client.Entry // history of the device that was there first
		for _, a := range s.actors {
			view, err := a.c.Room(uri)
			if err != nil {
				continue // never was there; it has no history either
			}
			var want []string
			for _, m := range s.said {
				if m.room == uri && slices.Contains(m.to, a) {
					want = append(want, fmt.Sprintf("%s %s: %s", m.id, who(m.by.c.User()), m.text))
				}
			}
			entries, err := history(ctx, a, uri)
			if err != nil {
				return err
			}
			var got []string
			for i := range entries {
				switch e := &entries[i]; e.Kind {
				case client.EntryMessage:
					got = append(got, fmt.Sprintf("%s %s: %s", e.ID, who(e.User), e.Text()))
				case client.EntryProblem:
					return differs("%s refused something: %v", a.label, e.Problem)
				}
			}
			if d := diff(want, got); d != "" {
				fmt.Fprintf(s.out, "\n%s in %v (- expected, + seen):\n%s", a.label, uri, d)
				return differs("%s did not see what was said", a.label)
			}
			if reference == nil {
				reference = entries
			}
			if d := diff(changes(reference, entries), changes(entries, entries)); d != "" {
				fmt.Fprintf(s.out, "\n%s in %v (- expected, + seen):\n%s", a.label, uri, d)
				return differs("%s saw other changes of the room", a.label)
			}
			state := view.Status.String()
			if view.Status == client.RoomActive {
				state = fmt.Sprintf("epoch %d", view.Epoch)
				if now == nil {
					now = &view
				}
				if view.Epoch != now.Epoch || view.Members != now.Members || view.Users != now.Users {
					return differs("%s is in epoch %d with %d devices, another one in %d with %d", a.label, view.Epoch, view.Members, now.Epoch, now.Members)
				}
			}
			s.row(a.label, "%-10s %2d of %2d messages, in order  %s", view.Name, len(got), len(want), s.colour.paint(dim, state))
		}
	}
	return nil
}

// changes words the changes in one history that another one has to tell as
// well. What changed the other device's own membership is worded differently
// there, and is left out.
func changes(of, seenBy []client.Entry) []string {
	if len(seenBy) == 0 {
		return nil
	}
	own := map[uint64]bool{}
	for i := range seenBy {
		if c := seenBy[i].Change; c != nil && c.Self {
			own[seenBy[i].Position] = true
		}
	}
	var out []string
	for i := range of {
		e := &of[i]
		if e.Kind == client.EntryChange && !own[e.Position] && e.Position >= seenBy[0].Position && e.Position <= seenBy[len(seenBy)-1].Position {
			out = append(out, fmt.Sprintf("%d %s", e.Position, strings.Join(describe(e), "; ")))
		}
	}
	return out
}

// diff returns the differences of two lists, or "".
func diff(want, got []string) string {
	if slices.Equal(want, got) {
		return ""
	}
	// common[i][j] is the length of the longest common subsequence of
	// want[i:] and got[j:].
	common := make([][]int, len(want)+1)
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var b strings.Builder
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			fmt.Fprintf(&b, "  %s\n", want[i])
			i, j = i+1, j+1
		case j == len(got) || i < len(want) && common[i+1][j] >= common[i][j+1]:
			fmt.Fprintf(&b, "- %s\n", want[i])
			i++
		default:
			fmt.Fprintf(&b, "+ %s\n", got[j])
			j++
		}
	}
	return b.String()
}
