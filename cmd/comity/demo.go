package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Three providers on this machine, talking",
		Long: `Demo runs three providers as processes of their own on this machine, with
throwaway certificates, lets their users talk across them, shows what the
providers have stored, and checks that every device saw the same. It fails if
one did not. Everything it made is deleted at the end.

With --keep the providers go on running, and the demo prints the commands with
which you talk by hand in other terminals.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			// If nobody reads on, the demo still clears away what it made.
			signal.Ignore(syscall.SIGPIPE)
			// A socket's path has to be short, so the folder is not nested deep.
			dir, err := os.MkdirTemp("", "comity-demo-")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			s := newStage(dir, cmd.OutOrStdout())
			defer func() {
				err = errors.Join(err, s.close())
				if ctx.Err() != nil && !keep {
					err = errors.New("interrupted")
				}
			}()
			began := time.Now()
			if err := s.play(ctx); err != nil {
				return err
			}
			s.title("Done in %.1f s: three providers, %d devices, %d messages, one truth.",
				time.Since(began).Seconds(), len(s.actors), len(s.said))
			if keep {
				return s.keep(ctx)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the providers running until interrupted, to talk by hand")
	return cmd
}

// keep hands the devices over to whoever is there.
func (s *stage) keep(ctx context.Context) error {
	if err := s.dismiss(); err != nil {
		return err
	}
	s.title("The providers go on. Talk by hand, each in a terminal of its own:")
	for _, a := range s.actors {
		if !a.plays.IsZero() {
			s.line("%s chat --home %s %s", quote(s.program()), quote(a.dir), a.plays)
		}
	}
	s.line("")
	s.line("logs and data: %s", s.dir)
	s.line("Ctrl-C here ends it all and deletes it.")
	<-ctx.Done()
	s.line("")
	s.line("stopping")
	return nil
}

// program returns how this program is called in a shell.
func (s *stage) program() string {
	exe, err := os.Executable()
	if err != nil {
		return "comity"
	}
	if found, err := exec.LookPath(filepath.Base(exe)); err == nil && found == exe {
		return filepath.Base(exe)
	}
	return exe
}

// quote quotes a word for a shell if it must be.
func quote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// errDiffers is why the demo fails when its checks do.
var errDiffers = errors.New("the demo's checks failed")

func differs(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDiffers, fmt.Sprintf(format, args...))
}
