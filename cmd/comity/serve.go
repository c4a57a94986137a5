package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/comity-im/comity/internal/provider"
)

func newServe() *cobra.Command {
	var config string
	var check bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a provider",
		Long: `Run a messaging provider: federation with other providers, the API for its own
clients, and an embedded database. SIGTERM or Ctrl-C stops it in good order.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config)
			if err != nil {
				return err
			}
			if check {
				if err := provider.Check(cmd.Context(), cfg); err != nil {
					return configError(err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the configuration is good")
				return nil
			}
			return configError(provider.Serve(cmd.Context(), cfg, version, newLogger(cmd, cfg), nil))
		},
	}
	configFlag(cmd, &config)
	cmd.Flags().BoolVar(&check, "check-config", false, "check the configuration, the certificates and the database, then exit")
	return cmd
}

// configError marks errors that the configuration has to be changed for.
func configError(err error) error {
	if errors.Is(err, provider.ErrConfig) {
		return usage(err)
	}
	return err
}

func newLogger(cmd *cobra.Command, cfg *provider.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // LoadConfig has checked it
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), opts))
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), opts))
}
