// Package nginx is the target kind for nginx: the full chain and the key in two
// files, checked by nginx itself, loaded by a graceful reload that drops no
// connection, and proven by a handshake.
package nginx

import (
	"cmp"
	"encoding/json"
	"syscall"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/settings"
)

type form struct {
	Certificate settings.Path `json:"certificate" required:"true" title:"Certificate" help:"File for the chain, leaf first, as in the directive ssl_certificate." example:"/etc/nginx/tls/example.com.pem"`
	Key         settings.Path `json:"key" required:"true" title:"Private key" help:"File for the private key, as in the directive ssl_certificate_key." example:"/etc/nginx/tls/example.com.key"`
	settings.Ownership
	Binary  settings.Program     `json:"binary" title:"Program" help:"nginx itself, by name or absolute path." default:"nginx"`
	Config  settings.Path        `json:"config" title:"Configuration" help:"Configuration file, when it is not the one built in (nginx -c)." example:"/etc/nginx/nginx.conf"`
	Prefix  settings.Dir         `json:"prefix" title:"Prefix" help:"Directory of relative paths in the configuration, when it is not the one built in (nginx -p)." example:"/srv/nginx"`
	Reload  settings.Command     `json:"reload" title:"Reload" help:"Program and arguments to reload with, instead of nginx -s reload." example:"[\"systemctl\", \"reload\", \"nginx\"]"`
	PIDFile settings.Path        `json:"pid_file" title:"PID file" help:"File with the number of the master process. When it is set, the agent reloads by sending SIGHUP to it instead." example:"/run/nginx.pid"`
	Probe   settings.ServerProbe `json:"probe" title:"Proof" help:"Where to see that the new certificate is served."`
}

// Kind implements targets.Kind.
type Kind struct{}

// Name implements targets.Kind.
func (Kind) Name() string { return "nginx" }

// Schema implements targets.Kind.
func (Kind) Schema() json.RawMessage { return settings.Schema[form]() }

// Secrets implements targets.Kind.
func (Kind) Secrets() []string { return settings.Secrets[form]() }

// Check implements targets.Kind.
func (Kind) Check(raw json.RawMessage) error {
	_, err := read(raw)
	return err
}

func read(raw json.RawMessage) (form, error) {
	f, err := settings.Decode[form](raw)
	if err != nil {
		return f, err
	}
	var twice *problem.Error
	if f.Reload != nil && f.PIDFile != "" {
		twice = problem.Invalid("settings.pid_file", "there is a reload command too").Hint("set pid_file or reload, not both")
	}
	return f, problem.Join(twice, settings.Distinct(
		settings.NamedPath{Setting: "certificate", Path: f.Certificate},
		settings.NamedPath{Setting: "key", Path: f.Key},
		settings.NamedPath{Setting: "config", Path: f.Config},
		settings.NamedPath{Setting: "pid_file", Path: f.PIDFile},
	))
}

// Plan implements targets.Kind.
func (Kind) Plan(raw json.RawMessage, b pki.Bundle) (targets.Plan, error) {
	f, err := read(raw)
	if err != nil {
		return targets.Plan{}, err
	}
	files, err := settings.PEMFiles{FullChain: f.Certificate, Key: f.Key}.Plan(b, f.Ownership)
	if err != nil {
		return targets.Plan{}, err
	}
	plan := targets.Plan{Files: files, Validate: f.command("-t"), Probe: f.Probe.Plan(b)}
	switch {
	case f.PIDFile != "":
		plan.Signal = &targets.Signal{PIDFile: string(f.PIDFile), Signal: syscall.SIGHUP, Process: "nginx"}
	case f.Reload != nil:
		plan.Reload = targets.Command(f.Reload)
	default:
		plan.Reload = f.command("-s", "reload")
	}
	return plan, nil
}

// command calls nginx with the configuration that the settings name.
func (f form) command(args ...string) targets.Command {
	command := targets.Command{cmp.Or(string(f.Binary), "nginx")}
	if f.Config != "" {
		command = append(command, "-c", string(f.Config))
	}
	if f.Prefix != "" {
		command = append(command, "-p", string(f.Prefix))
	}
	return append(command, args...)
}
