// Package irclog reads logs of IRC channels and works out what each person
// present should have seen: the yardstick for a replay through real servers.
//
// It reads the format of the #ubuntu logs in the IRC disentanglement corpus
// (Kummerfeld et al., ACL 2019): one event a line, and annotations that say
// which line answers which. [Parse] gives the events, [Plan] the people, what
// each of them does, and in which order.
package irclog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest line that is read, in octets.
const MaxLine = 64 << 10

// A Kind is what happens in an event.
type Kind uint8

// Kinds of events.
const (
	Message Kind = iota + 1 // Text was said
	Action                  // Text was done: /me
	Join
	Leave
	Rename // Text is the new nick
)

// String returns the name of the kind.
func (k Kind) String() string {
	return [...]string{"none", "message", "action", "join", "leave", "rename"}[k]
}

// An Event is one line of the log that could be parsed.
type Event struct {
	Line int // zero-based
	Kind Kind
	Nick string
	Text string
}

// A Problem is a line that is not, or not wholly, understood. Problems are
// reported and never fatal.
type Problem struct {
	Line int // zero-based
	What string
}

// A Log is a parsed log.
type Log struct {
	Lines    int
	Events   []Event
	Problems []Problem
}

var (
	message = regexp.MustCompile(`^\[\d\d:\d\d\] <([^> ]+)> ?(.*)$`)
	action  = regexp.MustCompile(`^\[\d\d:\d\d\]  ?\* (\S+) ?(.*)$`)
	notice  = regexp.MustCompile(`^=== `)
	joined  = regexp.MustCompile(`^=== (\S+) \[[^\]]*\]\s+has joined `)
	left    = regexp.MustCompile(`^=== (\S+) \[[^\]]*\]\s+has (?:left|quit)\b`)
	renamed = regexp.MustCompile(`^=== (\S+) is now known as (\S+)\s*$`)
	mode    = regexp.MustCompile(`^=== mode/`)
	// Older logs write an action as a notice without a time.
	noticeAction = regexp.MustCompile(`^=== (\S+) +(\S.*)$`)
)

// Parse reads a log. Octets that are not UTF-8 are replaced and reported, and
// so are lines that no rule matches and lines longer than MaxLine, which are
// left out. The error is that of r.
func Parse(r io.Reader) (*Log, error) {
	log := &Log{}
	in := bufio.NewReaderSize(r, MaxLine)
	for {
		raw, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			log.problem("longer than %d octets", MaxLine)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			raw = nil
		} else if len(raw) > 0 {
			log.line(bytes.TrimRight(raw, "\r\n"))
		}
		if len(raw) > 0 || err == nil {
			log.Lines++
		}
		if errors.Is(err, io.EOF) {
			return log, nil
		}
		if err != nil {
			return nil, fmt.Errorf("irclog: reading line %d: %w", log.Lines, err)
		}
	}
}

func (l *Log) problem(format string, args ...any) {
	l.Problems = append(l.Problems, Problem{l.Lines, fmt.Sprintf(format, args...)})
}

func (l *Log) line(raw []byte) {
	if !utf8.Valid(raw) {
		l.problem("octets that are not UTF-8 (replaced by U+FFFD)")
		raw = bytes.ToValidUTF8(raw, []byte("\ufffd"))
	}
	s := string(raw)
	event := func(kind Kind, m []string) {
		e := Event{Line: l.Lines, Kind: kind, Nick: m[1]}
		if len(m) > 2 {
			e.Text = m[2]
		}
		l.Events = append(l.Events, e)
	}
	switch {
	case strings.TrimSpace(s) == "":
	case message.MatchString(s):
		event(Message, message.FindStringSubmatch(s))
	case action.MatchString(s):
		event(Action, action.FindStringSubmatch(s))
	case joined.MatchString(s):
		event(Join, joined.FindStringSubmatch(s))
	case left.MatchString(s):
		event(Leave, left.FindStringSubmatch(s))
	case renamed.MatchString(s):
		event(Rename, renamed.FindStringSubmatch(s))
	case mode.MatchString(s):
		l.problem("channel modes have no counterpart (left out)")
	case notice.MatchString(s) && noticeAction.MatchString(s):
		event(Action, noticeAction.FindStringSubmatch(s))
	default:
		l.problem("not understood (left out)")
	}
}

// Answers maps a line to the lines that it answers, in the order of the
// annotation file.
type Answers map[int][]int

// ParseAnnotations reads lines of the form "A B -": line B answers line A. A
// line that answers itself starts a conversation and is left out.
func ParseAnnotations(r io.Reader) (Answers, []Problem, error) {
	answers := Answers{}
	var problems []Problem
	in := bufio.NewScanner(r)
	for n := 0; in.Scan(); n++ {
		f := strings.Fields(in.Text())
		if len(f) == 0 {
			continue
		}
		if len(f) < 2 {
			problems = append(problems, Problem{n, "not of the form \"A B -\""})
			continue
		}
		a, errA := strconv.Atoi(f[0])
		b, errB := strconv.Atoi(f[1])
		if errA != nil || errB != nil || a < 0 || b < 0 {
			problems = append(problems, Problem{n, "not of the form \"A B -\""})
			continue
		}
		if a != b {
			answers[max(a, b)] = append(answers[max(a, b)], min(a, b))
		}
	}
	if err := in.Err(); err != nil {
		return nil, nil, fmt.Errorf("irclog: reading annotations: %w", err)
	}
	return answers, problems, nil
}
