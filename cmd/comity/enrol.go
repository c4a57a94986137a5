package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/comity-im/comity/client"
)

// An enrolment is what makes a device.
type enrolment struct {
	profile
	rootsFile string
	code      string
	device    string
}

func newEnrol() *cobra.Command {
	var e enrolment
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "enrol --provider https://a.example --code CODE --device NAME",
		Short: "Make this machine a device of a user",
		Long: `Enrol makes keys for a new device and has the user's provider certify them.
The code comes from the provider ("comity user add") and works once.

Keys and history are sealed in the home folder: with the passphrase in
COMITY_PASSPHRASE, or else with a key file beside them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := homeDir(dir)
			if err != nil {
				return err
			}
			c, h, err := e.enrol(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer h.Close()
			defer c.Close()
			if err := c.PublishKeyPackages(cmd.Context()); err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "Nobody can add the device to a room until the first \"comity chat\": %v\n", err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"user": c.User().String(), "device": c.Device().String(), "home": dir})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n", c.User(), c.Device())
			fmt.Fprintf(cmd.ErrOrStderr(), "Enrolled; its keys are in %s. Now: comity chat\n", dir)
			return nil
		},
	}
	homeFlag(cmd, &dir)
	jsonFlag(cmd, &asJSON)
	cmd.Flags().StringVar(&e.Provider, "provider", "", "root of the provider's client API, for example https://a.example")
	cmd.Flags().StringVar(&e.Address, "address", "", "host:port to connect to in place of the provider's host")
	cmd.Flags().StringVar(&e.rootsFile, "roots", "", "PEM file of the authorities that vouch for providers (default: the system's)")
	cmd.Flags().StringVar(&e.code, "code", "", "enrolment code")
	cmd.Flags().StringVar(&e.device, "device", "", "name of the device: letters, digits, '-', '_', '.'")
	for _, name := range []string{"provider", "code", "device"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

// enrol makes a device in a folder. After a failure it can be called again
// with the same code.
func (e *enrolment) enrol(ctx context.Context, dir string) (_ *client.Client, _ *home, err error) {
	if _, err := client.NewHTTPTransport(client.HTTPConfig{URL: e.Provider, Address: e.Address}); err != nil {
		return nil, nil, usage(err)
	}
	var roots []byte
	if e.rootsFile != "" {
		if _, err := loadRoots(e.rootsFile); err != nil {
			return nil, nil, usage(fmt.Errorf("--roots: %w", err))
		}
		if roots, err = os.ReadFile(e.rootsFile); err != nil {
			return nil, nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	// A device that is there keeps its profile.
	if old, err := openHome(ctx, dir); err == nil {
		c, err := client.Open(ctx, old.config())
		if err == nil {
			user := c.User()
			_ = c.Close()
			_ = old.Close()
			return nil, nil, fmt.Errorf("%s holds a device of %v already; name another folder with --home", dir, user)
		}
		if err := errors.Join(ignore(err, client.ErrNotEnrolled), old.Close()); err != nil {
			return nil, nil, err
		}
	} else if !errors.Is(err, errNoHome) {
		return nil, nil, err
	}
	e.Roots = roots != nil
	if e.Roots {
		if err := os.WriteFile(filepath.Join(dir, rootsFile), roots, 0o600); err != nil {
			return nil, nil, err
		}
	}
	text, err := json.MarshalIndent(e.profile, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, profileFile), append(text, '\n'), 0o600); err != nil {
		return nil, nil, err
	}
	h, err := e.open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	c, err := client.Enrol(ctx, h.config(), e.code, e.device)
	if err != nil {
		_ = h.Close()
		return nil, nil, explainEnrol(err)
	}
	return c, h, nil
}

// explainEnrol says what to do about a failed enrolment.
func explainEnrol(err error) error {
	var se *client.StatusError
	switch {
	case errors.Is(err, client.ErrUnreachable):
		return fmt.Errorf("%w (nothing is lost: try again with the same code)", err)
	case errors.As(err, &se) && (se.Status == http.StatusForbidden || se.Status == http.StatusUnauthorized || se.Status == http.StatusNotFound):
		return fmt.Errorf("%w (codes work once; ask the provider for another)", err)
	}
	return err
}

// ignore returns err unless it matches target.
func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}
