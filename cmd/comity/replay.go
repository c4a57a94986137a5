package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/comity-im/comity/internal/irclog"
	"github.com/comity-im/comity/internal/replay"
)

// maxProviders bounds the processes that one replay starts.
const maxProviders = 16

func newReplay() *cobra.Command {
	var annotations, dir string
	var providers, crashes int
	var seed uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Send a real IRC log through real providers and check what everyone saw",
		Long: `Start providers on this machine, give everyone in an IRC log an account at one
of them, and let them join, talk, answer, act, rename and leave as the log says.
At the end everyone's decrypted history must equal what the log says they should
have seen, in the same order at every provider.

A rename changes neither account nor device; it is sent as a message with the
disposition "profile". With --crashes the providers are killed (SIGKILL) and
restarted at random moments meanwhile, and the histories must be the same.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if providers < 1 || providers > maxProviders {
				return usage(fmt.Errorf("--providers: %d is not between 1 and %d", providers, maxProviders))
			}
			if crashes < 0 {
				return usage(fmt.Errorf("--crashes: %d is negative", crashes))
			}
			plan, log, err := readPlan(args[0], annotations)
			if err != nil {
				return err
			}
			stderr := cmd.ErrOrStderr()
			for _, p := range log.Problems {
				fmt.Fprintf(stderr, "%s:%d: %s\n", filepath.Base(args[0]), p.Line+1, p.What)
			}
			if dir == "" {
				if dir, err = os.MkdirTemp("", "comity-replay-"); err != nil {
					return err
				}
				defer func() {
					if err == nil {
						err = os.RemoveAll(dir)
					} else {
						fmt.Fprintf(stderr, "everything is kept in %s\n", dir)
					}
				}()
			}
			cfg := replay.Config{Plan: plan, Dir: dir, Crashes: crashes, Seed: seed, Log: stderr}
			for i := range providers {
				cfg.Domains = append(cfg.Domains, string(rune('a'+i))+".example")
			}
			bar := newProgress(stderr)
			cfg.Progress = bar.show
			res, err := replay.Run(cmd.Context(), cfg)
			bar.close()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Log      string         `json:"log"`
					Lines    int            `json:"lines"`
					Problems int            `json:"problem_lines"`
					Notes    map[string]int `json:"notes"`
					*replay.Result
				}{filepath.Base(args[0]), log.Lines, len(log.Problems), plan.Notes, res})
			}
			printReplay(cmd.OutOrStdout(), log, plan, res)
			return nil
		},
	}
	cmd.Flags().StringVar(&annotations, "annotations", "", "file that says which line answers which (\"A B -\")")
	cmd.Flags().IntVar(&providers, "providers", 3, "how many providers the people are spread over")
	cmd.Flags().IntVar(&crashes, "crashes", 0, "how many times a provider is killed and restarted meanwhile")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "of the moments of the crashes")
	cmd.Flags().StringVar(&dir, "dir", "", "where to store everything, and keep it (default: a temporary folder)")
	jsonFlag(cmd, &asJSON)
	_ = cmd.MarkFlagFilename("annotations")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

// readPlan reads a log and its annotations.
func readPlan(file, annotations string) (*irclog.Plan, *irclog.Log, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	log, err := irclog.Parse(f)
	if err != nil {
		return nil, nil, err
	}
	if len(log.Events) == 0 {
		return nil, nil, fmt.Errorf("%s holds no event in the form \"[09:03] <nick> text\"", file)
	}
	var answers irclog.Answers
	if annotations != "" {
		a, err := os.Open(annotations)
		if err != nil {
			return nil, nil, err
		}
		defer a.Close()
		var problems []irclog.Problem
		if answers, problems, err = irclog.ParseAnnotations(a); err != nil {
			return nil, nil, err
		}
		if len(problems) > 0 {
			return nil, nil, fmt.Errorf("%s:%d: %s", annotations, problems[0].Line+1, problems[0].What)
		}
	}
	return irclog.NewPlan(log, answers), log, nil
}

func printReplay(w io.Writer, log *irclog.Log, plan *irclog.Plan, r *replay.Result) {
	fmt.Fprintf(w, "%d lines, %d of them reported; %d people at %d providers\n", log.Lines, len(log.Problems), r.People, r.Providers)
	fmt.Fprintf(w, "%d messages (%d of them answers), %d actions, %d renames, %d joins, %d leaves; %d epochs\n",
		r.Messages, r.Answers, r.Actions, r.Renames, r.Joins, r.Leaves, r.Epochs)
	notes := make([]string, 0, len(plan.Notes))
	for note := range plan.Notes {
		notes = append(notes, note)
	}
	slices.Sort(notes)
	for _, note := range notes {
		fmt.Fprintf(w, "  %d %s\n", plan.Notes[note], note)
	}
	if r.Crashes > 0 {
		fmt.Fprintf(w, "%d crashes\n", r.Crashes)
	}
	fmt.Fprintf(w, "everyone saw what the log says: %d messages decrypted and compared, in the same order at every provider\n", r.Read)
	fmt.Fprintf(w, "%.1f s in all: %.1f s to set up, %.1f s to replay (%.0f steps/s, %.0f messages decrypted/s); %.1f MB on the providers' disks\n",
		r.Total.Seconds(), r.Setup.Seconds(), r.Replay.Seconds(), r.PerSec, r.ReadSec, float64(r.ServerBytes)/1e6)
}

// progress shows a bar on a terminal, and nothing elsewhere.
type progress struct {
	w     io.Writer
	on    bool
	stage string
	bar   *progressbar.ProgressBar
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, on: ok && term.IsTerminal(int(f.Fd()))}
}

func (p *progress) show(stage string, done, total int) {
	if !p.on {
		return
	}
	if p.bar == nil || stage != p.stage {
		p.close()
		p.stage = stage
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(stage),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	_ = p.bar.Set(done)
}

func (p *progress) close() {
	if p.bar != nil {
		_ = p.bar.Finish()
		p.bar = nil
	}
}
