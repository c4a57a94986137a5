package main

import (
	"errors"
	"fmt"

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
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List users and their devices",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config)
			if err != nil {
				return err
			}
			c := admin.NewClient(cfg.DataDir)
			defer c.Close()
			users, err := all(func(after *admin.User) ([]admin.User, error) {
				if after == nil {
					return c.Users(cmd.Context(), "")
				}
				return c.Users(cmd.Context(), after.User)
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), users)
			}
			for _, u := range users {
				fmt.Fprintln(cmd.OutOrStdout(), u.User)
				for _, d := range u.Devices {
					fmt.Fprintln(cmd.OutOrStdout(), " ", d)
				}
			}
			return nil
		},
	}
	configFlag(cmd, &config)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// all reads a listing page by page.
func all[T any](page func(after *T) ([]T, error)) ([]T, error) {
	out := []T{}
	for {
		var last *T
		if len(out) > 0 {
			last = &out[len(out)-1]
		}
		rows, err := page(last)
		if err != nil || len(rows) == 0 {
			return out, err
		}
		out = append(out, rows...)
	}
}

func newRoom() *cobra.Command {
	cmd := &cobra.Command{Use: "room", Short: "Look at the rooms that a running provider holds"}
	var config string
	var asJSON bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List rooms with their hub, epoch and number of events",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config)
			if err != nil {
				return err
			}
			c := admin.NewClient(cfg.DataDir)
			defer c.Close()
			rooms, err := all(func(after *admin.Room) ([]admin.Room, error) {
				if after == nil {
					return c.Rooms(cmd.Context(), "")
				}
				return c.Rooms(cmd.Context(), after.Room)
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), rooms)
			}
			for _, r := range rooms {
				fmt.Fprintf(cmd.OutOrStdout(), "%s  hub %s  epoch %d  events %d\n", r.Room, r.Hub, r.Epoch, r.Head)
			}
			return nil
		},
	}
	configFlag(list, &config)
	jsonFlag(list, &asJSON)
	cmd.AddCommand(list)
	return cmd
}
