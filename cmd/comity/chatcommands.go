package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/room"
)

// chatHelp lists the commands of a conversation.
const chatHelp = `/create NAME [open]   make a room; "open": anyone may join
/add USER…            add users: mimi://b.example/u/bob or bob@b.example
/remove USER          remove a user
/join ROOM            join an open room, or come into one of yours with this device
/leave                leave the room
/rooms                list your rooms
/room ROOM            go to a room, by its URI or its name
/members              list who is in the room
/reply N TEXT         answer the message with the number N
/me TEXT              tell what you do
/quit                 end
//TEXT                say something that begins with a slash`

// isQuit reports whether a line ends the conversation.
func (v *conversation) isQuit(line string) bool { return strings.TrimSpace(line) == "/quit" }

// obey carries out a line of input and reports why it can't.
func (v *conversation) obey(ctx context.Context, line string) {
	err := v.line(ctx, line)
	if err != nil && ctx.Err() == nil {
		v.note("%v", explainChat(err))
		if !v.opts.interactive {
			v.fail()
		}
	}
}

func (v *conversation) line(ctx context.Context, line string) error {
	line = strings.TrimSuffix(line, "\r")
	if rest, ok := strings.CutPrefix(line, "//"); ok {
		return v.say(ctx, "/"+rest)
	}
	if strings.TrimSpace(line) == "" {
		return nil
	}
	if !strings.HasPrefix(line, "/") || strings.HasPrefix(line, mePrefix) {
		return v.say(ctx, line)
	}
	command, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	return v.command(ctx, command, strings.TrimSpace(rest))
}

func (v *conversation) command(ctx context.Context, command, rest string) error {
	args := strings.Fields(rest)
	need := func(ok bool, form string) error {
		if ok {
			return nil
		}
		return fmt.Errorf("write %s", strings.TrimSpace(command+" "+form))
	}
	switch command {
	case "/create":
		if err := need(len(args) > 0, "NAME [open]"); err != nil {
			return err
		}
		return v.create(ctx, rest)
	case "/add":
		if err := need(len(args) > 0, "USER…"); err != nil {
			return err
		}
		return v.add(ctx, args)
	case "/remove":
		if err := need(len(args) == 1, "USER"); err != nil {
			return err
		}
		return v.remove(ctx, args[0])
	case "/join":
		if err := need(len(args) == 1, "ROOM"); err != nil {
			return err
		}
		return v.join(ctx, args[0])
	case "/leave":
		if err := need(len(args) == 0, ""); err != nil {
			return err
		}
		return v.leave(ctx)
	case "/rooms":
		v.listRooms()
		return nil
	case "/room":
		if err := need(len(args) > 0, "ROOM"); err != nil {
			return err
		}
		return v.enter(ctx, rest)
	case "/members":
		return v.members(ctx)
	case "/reply":
		number, text, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseUint(number, 10, 64)
		if err := need(err == nil && strings.TrimSpace(text) != "", "N TEXT"); err != nil {
			return err
		}
		return v.reply(ctx, n, strings.TrimSpace(text))
	case "/help":
		for line := range strings.SplitSeq(chatHelp, "\n") {
			v.note("%s", line)
		}
		return nil
	case "/quit":
		return nil
	}
	return fmt.Errorf("there is no command %s; /help lists them, and // begins a text with a slash", command)
}

var errNoRoom = errors.New("no room is chosen: make one with /create, join one with /join, or choose one with /room")

// here returns the present room once the device is a member of it. Somebody
// who types is told at once that it is not; in a pipe the invitation may
// still be on its way.
func (v *conversation) here(ctx context.Context) (mimi.URI, error) {
	var uri mimi.URI
	var why error
	ready := func() bool {
		uri = v.room
		if uri.IsZero() {
			why = errNoRoom
			return false
		}
		r, err := v.c.Room(uri)
		switch {
		case err != nil:
			why = fmt.Errorf("you are not in %v: %w", uri, err)
			return false
		case r.Status == client.RoomJoining:
			why = fmt.Errorf("%v is still being joined", uri)
			return false
		}
		why = nil
		return true
	}
	v.mu.Lock()
	known, impatient := ready(), v.impatient
	v.mu.Unlock()
	if known || v.opts.interactive || impatient {
		return uri, why
	}
	deadline, cancel := context.WithTimeout(ctx, v.opts.timeout)
	defer cancel()
	if err := v.until(deadline, ready); err != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.impatient = true // the lines that follow need not wait as well
		return uri, why
	}
	return uri, nil
}

func (v *conversation) say(ctx context.Context, text string, opts ...content.Option) error {
	uri, err := v.here(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.spoken[uri] = true
	v.mu.Unlock()
	_, err = v.c.SendText(ctx, uri, text, opts...)
	return err
}

func (v *conversation) reply(ctx context.Context, seq uint64, text string) error {
	uri, err := v.here(ctx)
	if err != nil {
		return err
	}
	if seq == 0 {
		return errors.New("entries are numbered from 1")
	}
	entries, err := v.c.History(ctx, uri, seq-1, 1)
	if err != nil {
		return err
	}
	if len(entries) == 0 || entries[0].Kind != client.EntryMessage {
		return fmt.Errorf("number %d is not a message", seq)
	}
	return v.say(ctx, text, content.ReplyTo(entries[0].ID))
}

func (v *conversation) create(ctx context.Context, rest string) error {
	n := client.NewRoom{Name: rest, Template: room.TemplateGroup}
	if name, last, ok := cutLast(rest, " "); ok && last == "open" {
		n.Name, n.Template = strings.TrimSpace(name), room.TemplateOpen
	}
	var err error
	if n.URI, err = newRoomURI(v.c.User().Domain(), n.Name); err != nil {
		return err
	}
	if err := v.c.CreateRoom(ctx, n); err != nil {
		return err
	}
	v.note("The room is %v", n.URI)
	return v.goTo(ctx, n.URI)
}

func (v *conversation) add(ctx context.Context, args []string) error {
	uri, err := v.here(ctx)
	if err != nil {
		return err
	}
	var users []mimi.URI
	for _, arg := range args {
		u, err := parseUser(arg)
		if err != nil {
			return err
		}
		users = append(users, u)
	}
	return v.c.AddUsers(ctx, uri, users...)
}

func (v *conversation) remove(ctx context.Context, arg string) error {
	uri, err := v.here(ctx)
	if err != nil {
		return err
	}
	user, err := parseUser(arg)
	if err != nil {
		return err
	}
	return v.c.RemoveUser(ctx, uri, user)
}

func (v *conversation) join(ctx context.Context, arg string) error {
	uri, err := parseRoom(arg)
	if err != nil {
		return err
	}
	// The room's policy tells whether the user comes in anew or with a
	// further device; the client finds out.
	if err := v.c.JoinOpen(ctx, uri); err != nil && !errors.Is(err, client.ErrMember) {
		return err
	}
	return v.goTo(ctx, uri)
}

func (v *conversation) leave(ctx context.Context) error {
	uri, err := v.here(ctx)
	if err != nil {
		return err
	}
	if err := v.c.Leave(ctx, uri); err != nil {
		return err
	}
	v.note("You have asked to leave; the others' devices carry it out.")
	return nil
}

// enter goes to a room that is known, by its URI or by a name that no other
// room has.
func (v *conversation) enter(ctx context.Context, arg string) error {
	var found []mimi.URI
	uri, parseErr := parseRoom(arg)
	for r := range v.rooms() {
		if parseErr == nil && r.URI == uri || parseErr != nil && strings.EqualFold(r.Name, arg) {
			found = append(found, r.URI)
		}
	}
	switch {
	case len(found) == 1:
		return v.goTo(ctx, found[0])
	case len(found) > 1:
		return fmt.Errorf("%d rooms have the name %q; use the URI", len(found), arg)
	}
	return fmt.Errorf("you are in no room %q; /rooms lists yours", arg)
}

// goTo makes a room the present one and shows what is new in it.
func (v *conversation) goTo(ctx context.Context, uri mimi.URI) error {
	r, err := v.c.Room(uri)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.room = uri
	v.mu.Unlock()
	v.note("In %q, %v: %s. Others are added with /add.", r.Name, uri, count(r.Users, "user"))
	v.show(ctx)
	return nil
}

func (v *conversation) listRooms() {
	none := true
	for r := range v.rooms() {
		none = false
		v.note("%q %v: %v, %s, %s", r.Name, r.URI, r.Status, count(r.Users, "user"), count(r.Members, "device"))
		if r.Frozen != nil {
			v.note("    frozen: %s: %s", r.Frozen.Code, r.Frozen.Text)
		}
	}
	if none {
		v.note("You are in no room.")
	}
}

func (v *conversation) members(ctx context.Context) error {
	uri, err := v.here(ctx)
	if err != nil {
		return err
	}
	members, err := v.c.Members(ctx, uri)
	if err != nil {
		return err
	}
	for _, m := range members {
		v.note("%s  %s  %s", who(m.User), m.RoleName, count(len(m.Devices), "device"))
	}
	return nil
}

// explainChat says what to do about errors that people meet.
func explainChat(err error) error {
	switch {
	case errors.Is(err, client.ErrFrozen):
		return fmt.Errorf("%w; /join ROOM comes back in, after you have made sure that nothing is wrong", err)
	case errors.Is(err, client.ErrUnreachable):
		return fmt.Errorf("%w; try again later", err)
	}
	return err
}
