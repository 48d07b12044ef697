package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/alecthomas/kong"

	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/version"
)

type serverCmd struct {
	config.Server
}

// Help is the long help of the command.
func (serverCmd) Help() string {
	return `Nothing needs to be set. The first start makes a data directory with a SQLite database, a CA and an API key, and prints the URL, the
fingerprint of the server's CA and the key, once.

A setting comes from its flag, else from the variable CERTCTL_ and its name, such as CERTCTL_DATA_DIR, else from the file that
--config names. An unknown variable or key stops the start. "certctl config" shows what is in force.

Examples:
  certctl server
  CERTCTL_DATABASE_URL=postgres://... certctl server --public-url https://certctl.example.com`
}

// Run runs the server until it is stopped.
func (c serverCmd) Run(s *session, parsed *kong.Context, server ServerFunc) error {
	settings, err := config.Load(config.CommandLine(parsed, c.Server))
	if err != nil {
		return err
	}
	return server(s.ctx, settings, s.out)
}

type configCmd struct {
	config.Server
}

// Help is the long help of the command.
func (configCmd) Help() string {
	return `It takes the flags of "certctl server" and reads the same variables and file. Secrets are masked. It exits with 2 when the server would
not start, with every mistake that was found.

Examples:
  certctl config --config /etc/certctl/server.yaml
  certctl config -o json`
}

// Run prints the settings.
func (c configCmd) Run(s *session, parsed *kong.Context) error {
	settings, err := config.Load(config.CommandLine(parsed, c.Server))
	if err != nil {
		return err
	}
	switch {
	case s.forPeople():
		return settings.WriteTable(s.out)
	case s.Output == "name":
		for _, v := range settings.Values() {
			fmt.Fprintln(s.out, v.Name)
		}
		return nil
	}
	raw, err := json.Marshal(settings.Values())
	if err != nil {
		return fmt.Errorf("encode the settings: %w", err)
	}
	return s.printRaw(raw)
}

type versionCmd struct{}

// Run prints the version of this program.
func (versionCmd) Run(s *session) error {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if s.forPeople() {
		fmt.Fprintf(s.out, "certctl %s (%s, %s)\n", version.String(), runtime.Version(), platform)
		return nil
	}
	if s.Output == "name" {
		fmt.Fprintln(s.out, version.String())
		return nil
	}
	raw, err := json.Marshal(map[string]string{"version": version.String(), "go": runtime.Version(), "platform": platform})
	if err != nil {
		return fmt.Errorf("encode the version: %w", err)
	}
	return s.printRaw(raw)
}
