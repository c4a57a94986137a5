package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/irclog"
)

// corpus returns the folder of the real chat logs, or "" if it is not there.
func corpus(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("COMITY_CORPUS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "corpus")
	}
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

// replayed is what `comity replay --json` prints.
type replayed struct {
	Lines    int `json:"lines"`
	Problems int `json:"problem_lines"`
	People   int `json:"people"`
	Messages int `json:"messages"`
	Actions  int `json:"actions"`
	Answers  int `json:"answers"`
	Joins    int `json:"joins"`
	Leaves   int `json:"leaves"`
	Renames  int `json:"renames"`
	Crashes  int `json:"crashes"`
	Read     int `json:"read"`
}

// TestReplay sends chat logs through three real providers. That everyone saw
// the right thing is checked by the command; that it checked all of it, here.
func TestReplay(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real processes")
	}
	type run struct {
		name, log, answers string
		crashes            int
	}
	runs := []run{
		{"small", "testdata/channel.log", "testdata/channel.answers", 0},
		{"small, crashes", "testdata/channel.log", "testdata/channel.answers", 6},
	}
	if dir := corpus(t); dir != "" {
		for _, day := range []string{"2007-06-04", "2008-04-27"} {
			log := filepath.Join(dir, day+".train-a.raw.txt")
			answers := filepath.Join(dir, day+".train-a.annotation.txt")
			// The crashes come with the day on which people join and leave.
			crashes := 0
			if day == "2007-06-04" {
				crashes = 21
			}
			runs = append(runs, run{day, log, answers, crashes})
		}
	} else {
		t.Log("MISSING CORPUS: the real chat logs are not replayed; put them into ../shared/corpus or name their folder in COMITY_CORPUS")
	}
	bin := binary(t)
	for _, r := range runs {
		t.Run(r.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), bin, "replay", r.log, "--annotations", r.answers,
				"--providers", "3", "--json", "--crashes", fmt.Sprint(r.crashes), "--seed", "7", "--dir", t.TempDir())
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			var got replayed
			if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
				t.Fatalf("%v in %s", err, stdout.String())
			}
			want := expected(t, r.log, r.answers)
			want.Crashes = r.crashes
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if n := strings.Count(stderr.String(), "killed "); n != r.crashes {
				t.Errorf("%d servers were killed, want %d", n, r.crashes)
			}
			t.Logf("%s", stdout.String())
		})
	}
}

// expected counts what the log holds.
func expected(t *testing.T, file, answersFile string) replayed {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log, err := irclog.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	a, err := os.Open(answersFile)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	answers, _, err := irclog.ParseAnnotations(a)
	if err != nil {
		t.Fatal(err)
	}
	plan := irclog.NewPlan(log, answers)
	want := replayed{Lines: log.Lines, Problems: len(log.Problems), People: len(plan.People)}
	message := map[int]bool{}
	for n, s := range plan.Steps {
		switch s.Kind {
		case irclog.Message:
			want.Messages++
		case irclog.Action:
			want.Actions++
		case irclog.Join:
			want.Joins++
		case irclog.Leave:
			want.Leaves++
		case irclog.Rename:
			want.Renames++
		}
		if s.Answer >= 0 {
			want.Answers++
		}
		message[n] = s.Kind != irclog.Join && s.Kind != irclog.Leave
	}
	for _, seen := range plan.Seen() {
		for _, n := range seen {
			if message[n] {
				want.Read++
			}
		}
	}
	return want
}
