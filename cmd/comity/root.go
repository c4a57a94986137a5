package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// errUsage marks errors of the command line or the configuration: exit code 2.
var errUsage = errors.New("usage")

func usage(err error) error { return usageError{err} }

// usageError adds errUsage to an error without a word.
type usageError struct{ error }

func (e usageError) Unwrap() []error { return []error{e.error, errUsage} }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "comity",
		Short: "Messaging between providers, encrypted end to end",
		Long: `Comity lets the users of one messaging provider talk, end-to-end encrypted,
with the users of another. It implements MIMI on MLS.

Start with "comity demo": three providers on this machine, talking.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w (see \"%s --help\")", err, cmd.CommandPath()))
	})
	root.AddCommand(
		newDemo(), newReplay(), newBench(),
		newServe(), newUser(), newRoom(),
		newEnrol(), newChat(),
		newDev(),
		newVersion(),
	)
	// Wrong arguments are usage errors whichever command they are for.
	var wrap func(*cobra.Command)
	wrap = func(cmd *cobra.Command) {
		if cmd.HasSubCommands() && !cmd.Runnable() {
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
		// cobra looks for required flags too late to say so.
		cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
			if err := cmd.ValidateRequiredFlags(); err != nil {
				return usage(fmt.Errorf("%w (see \"%s --help\")", err, cmd.CommandPath()))
			}
			return nil
		}
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return usage(fmt.Errorf("%w (see \"%s --help\")", err, cmd.CommandPath()))
				}
				return nil
			}
		}
		for _, sub := range cmd.Commands() {
			wrap(sub)
		}
	}
	wrap(root)
	return root
}

// version is set by the linker for releases.
var version = "dev"

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and the drafts it implements",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Version string   `json:"version"`
				Go      string   `json:"go"`
				Commit  string   `json:"commit,omitempty"`
				Drafts  []string `json:"drafts"`
			}{Version: version, Go: runtime.Version(), Drafts: drafts}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v.Commit = s.Value
					}
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "comity %s (%s)\n", v.Version, v.Go)
			for _, d := range v.Drafts {
				fmt.Fprintln(cmd.OutOrStdout(), " ", d)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// drafts are the specifications that this version implements.
var drafts = []string{
	"RFC 9420 (MLS)",
	"draft-ietf-mls-extensions-10",
	"draft-ietf-mimi-protocol-06",
	"draft-ietf-mimi-content-09",
	"draft-ietf-mimi-room-policy-04",
	"draft-mahy-mls-ratchet-tree-options-03",
	"draft-mahy-mimi-identity-05",
	"draft-mahy-mimi-message-status-01",
}

func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
