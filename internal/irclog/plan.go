package irclog

import "fmt"

// A Person is one account of the replay. A nick is only a name that a person
// has for a while: a rename keeps the person.
type Person struct {
	Name    string // the first nick
	Initial bool   // is present before the first event
}

// A Step is one thing that a person does.
type Step struct {
	Line   int // of the log, zero-based
	Person int // index into Plan.People
	Kind   Kind
	Text   string
	Answer int // index of the step that this one answers, or -1
}

// A Plan is what to replay, and thereby what everyone should see.
type Plan struct {
	People []Person
	Steps  []Step
	// Notes count what the log leaves open and how it was read.
	Notes map[string]int
}

// How the holes of a log are read; each is a key of Plan.Notes.
const (
	NotePresent   = "people who were there before the log begins (they act without having joined)"
	NoteRejoin    = "joins of people who are there already (the log has no quits; nothing changes)"
	NoteAbsent    = "leaves of people who are not there (nothing changes)"
	NoteTaken     = "renames to a nick that someone else had (the nick passes on, both people stay)"
	NoteManyTo    = "answers to several lines (MIMI has one inReplyTo; the latest line is taken)"
	NoteNotToText = "answers to a line that is not a message (sent without inReplyTo)"
)

// NewPlan works out the people and steps of a log. Whoever acts without
// having joined was there from the start. A nick that joins again after it
// left, or after its owner took another nick, is the person who had it first.
func NewPlan(log *Log, answers Answers) *Plan {
	p := &Plan{Notes: map[string]int{}}
	current := map[string]int{} // nick → person who has it
	first := map[string]int{}   // nick → person whose first nick it was
	present := map[int]bool{}
	stepAt := map[int]int{} // line → step

	person := func(nick string, initial bool) int {
		name := nick
		if _, taken := first[name]; taken {
			// The nick's first owner has another nick now; this is someone new.
			for n := 2; taken; n++ {
				name = fmt.Sprintf("%s.%d", nick, n)
				_, taken = first[name]
			}
		}
		p.People = append(p.People, Person{Name: name, Initial: initial})
		i := len(p.People) - 1
		first[name] = i
		current[nick] = i
		present[i] = true
		if initial {
			p.Notes[NotePresent]++
		}
		return i
	}
	// who returns the person with the nick, who is present afterwards, unless
	// the person left before: then ok is false.
	who := func(nick string) (i int, ok bool) {
		i, known := current[nick]
		if !known {
			return person(nick, true), true
		}
		return i, present[i]
	}
	step := func(e Event, i int, text string) {
		s := Step{Line: e.Line, Person: i, Kind: e.Kind, Text: text, Answer: -1}
		if e.Kind == Message || e.Kind == Action {
			s.Answer = p.answer(answers[e.Line], stepAt)
			stepAt[e.Line] = len(p.Steps)
		}
		p.Steps = append(p.Steps, s)
	}

	for _, e := range log.Events {
		switch e.Kind {
		case Join:
			i, known := current[e.Nick]
			switch {
			case !known:
				i = person(e.Nick, false)
			case present[i]:
				p.Notes[NoteRejoin]++
				continue
			}
			present[i] = true
			step(e, i, "")
		case Leave:
			i, ok := who(e.Nick)
			if !ok {
				p.Notes[NoteAbsent]++
				continue
			}
			delete(present, i)
			step(e, i, "")
		case Rename:
			i, ok := who(e.Nick)
			if !ok {
				i = p.back(e, i, present)
			}
			if other, taken := current[e.Text]; taken && other != i && present[other] {
				p.Notes[NoteTaken]++
			}
			delete(current, e.Nick)
			current[e.Text] = i
			step(e, i, e.Text)
		case Message, Action:
			i, ok := who(e.Nick)
			if !ok {
				i = p.back(e, i, present)
			}
			step(e, i, e.Text)
		}
	}
	return p
}

// back lets a person who left and now acts again join first: the log has lost
// the join.
func (p *Plan) back(e Event, i int, present map[int]bool) int {
	present[i] = true
	p.Steps = append(p.Steps, Step{Line: e.Line, Person: i, Kind: Join, Answer: -1})
	return i
}

func (p *Plan) answer(lines []int, stepAt map[int]int) int {
	best, found := -1, -1
	for _, line := range lines {
		if s, ok := stepAt[line]; ok && line > found {
			best, found = s, line
		}
	}
	if len(lines) > 1 {
		p.Notes[NoteManyTo]++
	}
	if len(lines) > 0 && best < 0 {
		p.Notes[NoteNotToText]++
	}
	return best
}

// Seen returns, for each person, the indexes of the steps that the person
// should have seen, own ones included: all from each join up to and including
// the leave that follows it. A join is seen by the one who joins.
func (p *Plan) Seen() [][]int {
	seen := make([][]int, len(p.People))
	present := make([]bool, len(p.People))
	for i, person := range p.People {
		present[i] = person.Initial
	}
	for n, s := range p.Steps {
		if s.Kind == Join {
			present[s.Person] = true
		}
		for i := range present {
			if present[i] {
				seen[i] = append(seen[i], n)
			}
		}
		if s.Kind == Leave {
			present[s.Person] = false
		}
	}
	return seen
}
