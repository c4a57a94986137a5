package irclog

import (
	"reflect"
	"strings"
	"testing"
)

const sample = `=== ann [i=ann@host]  has joined #x
[09:03] <bob> hello
[09:03] <ann> hi > there
[09:04]  * ann waves
=== bob is now known as rob
[09:05] <rob> I was bob
=== ann [i=ann@host]  has left #x ["bye"]
=== mode/#x [+o rob]  by ChanServ
what is this?
[09:06] <rob> ` + "caf\xe9" + `
=== rob dances alone
=== ann [i=ann@host]  has joined #x
=== ann [i=ann@host]  has joined #x
[09:07] <ann> again
`

func TestParse(t *testing.T) {
	log, err := Parse(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := []Event{
		{0, Join, "ann", ""},
		{1, Message, "bob", "hello"},
		{2, Message, "ann", "hi > there"},
		{3, Action, "ann", "waves"},
		{4, Rename, "bob", "rob"},
		{5, Message, "rob", "I was bob"},
		{6, Leave, "ann", ""},
		{9, Message, "rob", "caf\ufffd"},
		{10, Action, "rob", "dances alone"},
		{11, Join, "ann", ""},
		{12, Join, "ann", ""},
		{13, Message, "ann", "again"},
	}
	if !reflect.DeepEqual(log.Events, want) {
		t.Errorf("events:\n got %v\nwant %v", log.Events, want)
	}
	var lines []int
	for _, p := range log.Problems {
		lines = append(lines, p.Line)
	}
	if !reflect.DeepEqual(lines, []int{7, 8, 9}) {
		t.Errorf("problems on lines %v, want 7, 8 and 9: %v", lines, log.Problems)
	}
	if log.Lines != 14 {
		t.Errorf("%d lines, want 14", log.Lines)
	}
}

func TestParseLongLine(t *testing.T) {
	log, err := Parse(strings.NewReader("[09:03] <a> one\n" + strings.Repeat("x", 3*MaxLine) + "\n[09:03] <a> two"))
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Events) != 2 || log.Events[1].Line != 2 || log.Events[1].Text != "two" || len(log.Problems) != 1 || log.Lines != 3 {
		t.Errorf("got %+v", log)
	}
}

func TestPlan(t *testing.T) {
	log, err := Parse(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	answers, problems, err := ParseAnnotations(strings.NewReader("1 2 -\n0 5 -\n5 5 -\n1 9 -\n5 9 -\nbad\n"))
	if err != nil || len(problems) != 1 {
		t.Fatalf("annotations: %v, %v", problems, err)
	}
	p := NewPlan(log, answers)
	if want := []Person{{"ann", false}, {"bob", true}}; !reflect.DeepEqual(p.People, want) {
		t.Fatalf("people %v, want %v", p.People, want)
	}
	want := []Step{
		{0, 0, Join, "", -1},
		{1, 1, Message, "hello", -1},
		{2, 0, Message, "hi > there", 1},
		{3, 0, Action, "waves", -1},
		{4, 1, Rename, "rob", -1},
		{5, 1, Message, "I was bob", -1},
		{6, 0, Leave, "", -1},
		{9, 1, Message, "caf\ufffd", 5},
		{10, 1, Action, "dances alone", -1},
		{11, 0, Join, "", -1},
		{13, 0, Message, "again", -1},
	}
	if !reflect.DeepEqual(p.Steps, want) {
		t.Errorf("steps:\n got %v\nwant %v", p.Steps, want)
	}
	if got, want := p.Seen(), [][]int{{0, 1, 2, 3, 4, 5, 6, 9, 10}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}; !reflect.DeepEqual(got, want) {
		t.Errorf("seen %v, want %v", got, want)
	}
	for note, n := range map[string]int{NotePresent: 1, NoteRejoin: 1, NoteManyTo: 1, NoteNotToText: 1} {
		if p.Notes[note] != n {
			t.Errorf("%q: %d, want %d", note, p.Notes[note], n)
		}
	}
}

func TestPlanNickPassesOn(t *testing.T) {
	log, err := Parse(strings.NewReader(`[01:00] <a> one
=== a is now known as b
=== a [x]  has joined #x
[01:01] <a> I am someone else
[01:01] <b> I was a
`))
	if err != nil {
		t.Fatal(err)
	}
	p := NewPlan(log, nil)
	if want := []Person{{"a", true}, {"a.2", false}}; !reflect.DeepEqual(p.People, want) {
		t.Fatalf("people %v, want %v", p.People, want)
	}
	if p.Steps[3].Person != 1 || p.Steps[4].Person != 0 {
		t.Errorf("steps %v", p.Steps)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("=== x is now known as y\n=== y is now known as x\n=== x [a]  has left #x []\n[00:00] <x> hm\n")
	f.Fuzz(func(t *testing.T, s string) {
		log, err := Parse(strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		p := NewPlan(log, nil)
		present := map[int]bool{}
		for i, person := range p.People {
			present[i] = person.Initial
		}
		for _, s := range p.Steps {
			if present[s.Person] == (s.Kind == Join) {
				t.Fatalf("person %d does %v in the wrong state", s.Person, s.Kind)
			}
			present[s.Person] = s.Kind != Leave
		}
	})
}
