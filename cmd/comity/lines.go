package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
)

// mePrefix begins a message that tells what its sender does.
const mePrefix = "/me "

// A lineWriter shows history entries as lines. No content can imitate a line
// of its own: only first lines begin with a number, the lines that follow are
// marked, and what the room reports is marked differently from what people
// say.
type lineWriter struct {
	colour palette
	// find returns the number of the entry of a message.
	find func(content.MessageID) (seq uint64, ok bool)
	zone *time.Location
}

// Marks after number and time.
const (
	markChange  = "--" // the room has changed
	markProblem = "!!" // something did not verify
	markMe      = "*"  // what somebody does
)

// lines returns an entry as one or more lines, each with its line feed.
func (w *lineWriter) lines(e *client.Entry) string {
	head := fmt.Sprintf("%5d %s ", e.Seq, e.Time.In(w.zone).Format("15:04"))
	switch e.Kind {
	case client.EntryChange:
		var b strings.Builder
		for _, s := range describe(e) {
			b.WriteString(head + w.colour.paint(dim, markChange+" "+s) + "\n")
		}
		return b.String()
	case client.EntryProblem:
		text := "something that did not verify was refused"
		if e.Problem != nil {
			text = fmt.Sprintf("refused (%s): %s", content.SanitizeLine(string(e.Problem.Code)), content.SanitizeLine(e.Problem.Text))
		}
		return head + w.colour.paint(red, markProblem+" "+text) + "\n"
	case client.EntryMessage:
		return head + w.message(e)
	}
	return head + markProblem + " " + e.Kind.String() + "\n"
}

func (w *lineWriter) message(e *client.Entry) string {
	m, err := e.Message()
	if err != nil {
		return fmt.Sprintf("%s: [%s]\n", w.colour.name(who(e.User)), content.SanitizeLine(e.MediaType))
	}
	text := strings.TrimRight(m.Text(), "\n")
	notes := ""
	if e.Replaces != nil {
		verb := "edits"
		if text == "" {
			verb = "deletes"
		}
		notes = fmt.Sprintf(" (%s %s)", verb, w.number(*e.Replaces))
	} else if e.InReplyTo != nil {
		verb := "to"
		if m.Body.Disposition == content.Reaction {
			verb = "reacts to"
		}
		notes = fmt.Sprintf(" (%s %s)", verb, w.number(*e.InReplyTo))
	}
	// What follows the name is parenthesised or comes after a colon; a name
	// has no space, so it can't contain either.
	if doing, ok := strings.CutPrefix(text, mePrefix); ok && notes == "" {
		return markMe + " " + w.colour.name(who(e.User)) + " " + indent(doing) + "\n"
	}
	return w.colour.name(who(e.User)) + notes + ": " + indent(text) + "\n"
}

// indent marks all lines but the first.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n            | ") }

func (w *lineWriter) number(id content.MessageID) string {
	if w.find != nil {
		if seq, ok := w.find(id); ok {
			return fmt.Sprint(seq)
		}
	}
	return "an earlier one"
}

// describe says in words what a change entry tells, one sentence each.
func describe(e *client.Entry) []string {
	c := e.Change
	if c == nil {
		return []string{"the room changed"}
	}
	by := who(e.User)
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if c.Created {
		say("%s created the room", by)
	}
	for _, u := range c.Joined {
		say("%s joined", who(u))
	}
	if len(c.Added) > 0 {
		say("%s added %s", by, names(c.Added))
	}
	for _, u := range c.Left {
		say("%s left", who(u))
	}
	if len(c.Removed) > 0 {
		say("%s removed %s", by, names(c.Removed))
	}
	if len(c.Banned) > 0 {
		say("%s banned %s", by, names(c.Banned))
	}
	for _, r := range c.Roles {
		say("%s made %s %s", by, who(r.User), content.SanitizeLine(r.Name))
	}
	if len(c.NewDevices) > 0 {
		say("new device: %s", names(c.NewDevices))
	}
	if len(c.LostDevices) > 0 {
		say("device gone: %s", names(c.LostDevices))
	}
	if c.Name != nil {
		say("the room's name is now %q", content.SanitizeLine(*c.Name))
	}
	if c.Subject != nil {
		say("the subject is now %q", content.SanitizeLine(*c.Subject))
	}
	if c.Policy {
		say("%s changed the room's policy", by)
	}
	if c.Self && len(out) == 0 {
		say("this device came into the room, or went")
	}
	return out
}

func names(us []mimi.URI) string {
	out := make([]string, len(us))
	for i, u := range us {
		out[i] = who(u)
	}
	return strings.Join(out, ", ")
}

// jsonEntry is an entry as one line of JSON.
type jsonEntry struct {
	Room mimi.URI `json:"room"`
	*client.Entry
	Kind string `json:"kind"`
	Text string `json:"text,omitempty"`
}

func jsonLine(room mimi.URI, e *client.Entry) ([]byte, error) {
	b, err := json.Marshal(jsonEntry{Room: room, Entry: e, Kind: e.Kind.String(), Text: e.Text()})
	return append(b, '\n'), err
}
