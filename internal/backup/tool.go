package backup

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// toolStop is what a tool has to end in once it was told to.
	toolStop       = 5 * time.Second
	connectTimeout = 10 * time.Second
	// toolMessages bounds what is kept of a tool's messages.
	toolMessages = 4 << 10
)

// tool is one of PostgreSQL's programs. Where the database is stands in its
// environment: a password in its arguments would be seen by every user of the
// machine.
type tool struct {
	*exec.Cmd
	ctx      context.Context
	messages *head
}

func (p *postgresStore) tool(ctx context.Context, name string, args ...string) tool {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the PostgreSQL tools, called without a shell
	t := tool{Cmd: cmd, ctx: ctx, messages: &head{}}
	cmd.Env, cmd.Stderr, cmd.WaitDelay = p.environ, t.messages, toolStop
	return t
}

// run runs it to its end.
func (t tool) run() error { return t.explain(t.Run()) }

// explain says why it failed in its own words.
func (t tool) explain(err error) error {
	name := t.Args[0]
	switch {
	case err == nil:
		return nil
	case t.ctx.Err() != nil:
		return t.ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return problem.Invalid("", "the program %s, which works on PostgreSQL databases, is not here", name).
			Hint("install PostgreSQL's client programs (Debian: postgresql-client), of the version of the server or a newer one")
	}
	if said := strings.TrimSpace(string(t.messages.text)); said != "" {
		return fmt.Errorf("%s failed: %s", name, said)
	}
	return fmt.Errorf("%s failed: %w", name, err)
}

// head keeps the beginning of what is written to it.
type head struct{ text []byte }

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), toolMessages-len(h.text))]...)
	return len(p), nil
}

// toolVariables are the parameters of a URL that PostgreSQL's programs read
// from these variables.
var toolVariables = map[string]string{
	"sslmode": "PGSSLMODE", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL",
	"sslsni": "PGSSLSNI", "sslnegotiation": "PGSSLNEGOTIATION", "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
	"ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION", "channel_binding": "PGCHANNELBINDING", "require_auth": "PGREQUIREAUTH",
	"target_session_attrs": "PGTARGETSESSIONATTRS", "krbsrvname": "PGKRBSRVNAME", "connect_timeout": "PGCONNECT_TIMEOUT",
}

// toolEnviron is the environment in which PostgreSQL's programs reach the same
// database as the server does. None of certctl's own variables, among them the
// master key, is in it.
func toolEnviron(parameters map[string]string, config *pgx.ConnConfig) []string {
	environ := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "CERTCTL_") || strings.HasPrefix(entry, "PGSERVICE=")
	})
	hosts, ports := []string{config.Host}, []string{strconv.Itoa(int(config.Port))}
	for _, other := range config.Fallbacks {
		port := strconv.Itoa(int(other.Port))
		if last := len(hosts) - 1; hosts[last] != other.Host || ports[last] != port {
			hosts, ports = append(hosts, other.Host), append(ports, port)
		}
	}
	environ = append(environ,
		"PGHOST="+strings.Join(hosts, ","), "PGPORT="+strings.Join(ports, ","),
		"PGDATABASE="+config.Database, "PGUSER="+config.User, "PGAPPNAME="+applicationName,
		"PGCONNECT_TIMEOUT="+strconv.Itoa(int(connectTimeout.Seconds())),
	)
	if config.Password != "" {
		environ = append(environ, "PGPASSWORD="+config.Password)
	}
	for parameter, variable := range toolVariables {
		if value := parameters[parameter]; value != "" {
			environ = append(environ, variable+"="+value)
		}
	}
	if options := serverOptions(config.RuntimeParams); options != "" {
		environ = append(environ, "PGOPTIONS="+options)
	}
	return environ
}

// parameters reads the query of a database URL, in which PostgreSQL's programs
// and their kin take a plus sign for itself and not for a space.
func parameters(rawQuery string) map[string]string {
	values := map[string]string{}
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, text, _ := strings.Cut(pair, "=")
		if value, err := url.PathUnescape(text); err == nil {
			values[name] = value
		}
	}
	return values
}

// serverOptions writes the settings of a session, such as search_path, as
// options of the server.
func serverOptions(params map[string]string) string {
	escape := strings.NewReplacer(`\`, `\\`, " ", `\ `)
	var options []string
	for name, value := range params {
		switch name {
		case "application_name":
		case "options":
			options = append(options, value)
		default:
			options = append(options, "-c "+name+"="+escape.Replace(value))
		}
	}
	slices.Sort(options)
	return strings.Join(options, " ")
}
