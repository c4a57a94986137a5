package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/comity-im/comity/internal/admin"
	"github.com/comity-im/comity/internal/provider"
)

// configFlag adds the flag that names the provider's configuration.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "", "the provider's configuration file")
	_ = cmd.MarkFlagRequired("config")
	_ = cmd.MarkFlagFilename("config", "toml")
}

// loadConfig reads a configuration; a bad one is a usage error.
func loadConfig(path string) (*provider.Config, error) {
	cfg, err := provider.LoadConfig(path)
	if err != nil && errors.Is(err, provider.ErrConfig) {
		return nil, usage(err)
	}
	return cfg, err
}

func newUser() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Manage the users of a running provider"}
	cmd.AddCommand(newUserAdd(), newUserList())
	return cmd
}

func newUserAdd() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Create a user, or let one add a device, and print an enrolment code",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(config)
			if err != nil {
				return err
			}
			c := admin.NewClient(cfg.DataDir)
			defer c.Close()
			code, err := c.AddUser(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), code)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n", code.User, code.Code)
			fmt.Fprintf(cmd.ErrOrStderr(), "The code enrols one device, until %s.\n", code.Expires.Format("2006-01-02 15:04"))
			return nil
		},
	}
	configFlag(cmd, &config)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newUserList() *cobra.Command {
	return newList("List users and their devices",
		func(ctx context.Context, c *admin.Client, after *admin.User) ([]admin.User, error) {
			if after == nil {
				return c.Users(ctx, "")
			}
			return c.Users(ctx, after.User)
		},
		func(w io.Writer, u *admin.User) {
			fmt.Fprintln(w, u.User)
			for _, d := range u.Devices {
				fmt.Fprintln(w, " ", d)
			}
		})
}

func newRoom() *cobra.Command {
	cmd := &cobra.Command{Use: "room", Short: "Look at the rooms that a running provider holds"}
	cmd.AddCommand(newList("List rooms with their hub, epoch and number of events",
		func(ctx context.Context, c *admin.Client, after *admin.Room) ([]admin.Room, error) {
			if after == nil {
				return c.Rooms(ctx, "")
			}
			return c.Rooms(ctx, after.Room)
		},
		func(w io.Writer, r *admin.Room) {
			fmt.Fprintf(w, "%s  hub %s  epoch %d  events %d\n", r.Room, r.Hub, r.Epoch, r.Head)
		}))
	return cmd
}

// newList returns a command that prints all of what page gives, page by page.
func newList[T any](short string, page func(ctx context.Context, c *admin.Client, after *T) ([]T, error), row func(w io.Writer, item *T)) *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config)
			if err != nil {
				return err
			}
			c := admin.NewClient(cfg.DataDir)
			defer c.Close()
			items := []T{}
			for {
				var last *T
				if len(items) > 0 {
					last = &items[len(items)-1]
				}
				more, err := page(cmd.Context(), c, last)
				if err != nil {
					return err
				}
				if len(more) == 0 {
					break
				}
				items = append(items, more...)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), items)
			}
			for i := range items {
				row(cmd.OutOrStdout(), &items[i])
			}
			return nil
		},
	}
	configFlag(cmd, &config)
	jsonFlag(cmd, &asJSON)
	return cmd
}
