package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

type loginCmd struct {
	Server string `arg:"" optional:"" name:"url" help:"The server, such as https://certctl.example.com:8443."`
	As     string `placeholder:"NAME" default:"default" help:"Name of the login, when there are several servers."`
}

// Help is the long help of the command.
func (loginCmd) Help() string {
	return `The API key is asked for, or read from standard input when that is not a terminal. It is kept with the URL and the CA of the
server in ~/.config/certctl/config.yaml, which only you can read.

The fingerprint of a CA that this machine does not trust is shown and asked about, as ssh does it: compare it with what the
server printed when it started. Without a terminal it must be given with --ca-sha256.

Examples:
  certctl login https://certctl.example.com:8443
  certctl login https://certctl.example.com:8443 --ca-sha256 3F:1C:... < key.txt
  certctl login https://staging.example.com:8443 --as staging`
}

// Run verifies what was given and keeps it.
func (c loginCmd) Run(s *session) error {
	to, err := s.given()
	if err != nil {
		return err
	}
	if c.Server != "" {
		to.URL = normalURL(c.Server)
	}
	if to.URL == "" {
		return problem.Invalid("", "the URL of the server is missing").Hint("certctl login https://certctl.example.com:8443")
	}
	if err := s.establishTrust(&to); err != nil {
		return err
	}
	if to.APIKey == "" {
		if to.APIKey, err = s.askKey(); err != nil {
			return err
		}
	}
	api, err := dial(to)
	if err != nil {
		return err
	}
	info, err := api.Info(s.ctx)
	if err != nil {
		return err
	}
	file, err := readContexts()
	if err != nil {
		return err
	}
	if err := file.with(c.As, to).write(); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "logged in to %s as %s (%s); the server is certctl %s\n", to.URL, info.Caller.Name, info.Caller.Role, info.Version)
	return nil
}

// establishTrust asks a person about a CA that this machine does not know.
func (s *session) establishTrust(to *connection) error {
	if to.CASHA256 != "" || to.CAFile != "" {
		return nil
	}
	ca, err := client.ShowCA(s.ctx, to.URL)
	if err != nil || ca.Trusted {
		return err
	}
	if !isTerminal(s.in) {
		return problem.Unauthenticated("the CA of %s is not known here", to.URL).
			Hint("give its fingerprint with --ca-sha256; the server prints it when it starts")
	}
	fmt.Fprintf(s.err, "The CA of %s is not known here:\n  %s\n  SHA-256 %s\n", to.URL, ca.Subject, ca.SHA256)
	if err := s.confirm("Did the server print this fingerprint when it started? [yes/no]", "yes"); err != nil {
		return err
	}
	to.CASHA256 = ca.SHA256
	return nil
}

// askKey reads the API key without showing it.
func (s *session) askKey() (string, error) {
	var data []byte
	var err error
	if isTerminal(s.in) {
		fmt.Fprint(s.err, "API key: ")
		data, err = term.ReadPassword(int(s.in.(*os.File).Fd()))
		fmt.Fprintln(s.err)
	} else {
		data, err = io.ReadAll(io.LimitReader(s.in, 1<<16))
	}
	if err != nil {
		return "", fmt.Errorf("read the API key: %w", err)
	}
	key := strings.TrimSpace(string(data))
	if key == "" {
		return "", problem.Invalid("", "the API key is missing").Hint("certctl login URL < FILE, or set CERTCTL_API_KEY")
	}
	if strings.ContainsAny(key, " \t\r\n") {
		return "", problem.Invalid("", "what was read is not one API key").Hint("give the key and nothing else")
	}
	return key, nil
}

type logoutCmd struct {
	Name string `arg:"" optional:"" complete:"context" help:"The login to forget; by default the current one."`
}

// Help is the long help of the command.
func (logoutCmd) Help() string {
	return `The API key is removed from this machine and stays good on the server; "certctl keys revoke" ends it.`
}

// Run forgets a login.
func (c logoutCmd) Run(s *session) error {
	file, err := readContexts()
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = file.Current
	}
	forgotten, err := file.find(name)
	if err != nil {
		return err
	}
	if err := file.without(name).write(); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "forgot the API key for %s, which stays good until it is revoked\n", forgotten.URL)
	return nil
}

type contextsCmd struct {
	List contextsListCmd `cmd:"" default:"1" help:"List the logins."`
	Use  contextsUseCmd  `cmd:"" help:"Make a login the current one."`
}

type contextsListCmd struct{}

// login is a context as it may be shown: without its key.
type login struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Current bool   `json:"current"`
}

// Run lists the logins.
func (contextsListCmd) Run(s *session) error {
	file, err := readContexts()
	if err != nil {
		return err
	}
	r := resource[login]{
		name: "login", path: "logins",
		ref:    func(l login) string { return l.Name },
		titles: []string{"NAME", "URL", "CURRENT"},
		row:    func(l login, _ time.Time) []string { return []string{l.Name, l.URL, mark(l.Current)} },
	}
	var logins []login
	for _, name := range file.names() {
		logins = append(logins, login{Name: name, URL: file.Contexts[name].URL, Current: name == file.Current})
	}
	return r.show(s, logins)
}

type contextsUseCmd struct {
	Name string `arg:"" complete:"context" help:"The login."`
}

// Run makes a login the current one.
func (c contextsUseCmd) Run(s *session) error {
	file, err := readContexts()
	if err != nil {
		return err
	}
	chosen, err := file.find(c.Name)
	if err != nil {
		return err
	}
	file.Current = c.Name
	if err := file.write(); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "commands now go to %s\n", chosen.URL)
	return nil
}
