// Package haproxy is the target kind for HAProxy: key and chain in the one PEM
// file that its crt directive names, checked by haproxy -c, loaded by the
// service manager or by a signal to the master process, and proven by a
// handshake. HAProxy must run in master-worker mode to be reloaded by a signal.
package haproxy

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
	PEM settings.Path `json:"pem" required:"true" title:"PEM file" help:"File for the private key and the chain, as in the directive crt." example:"/etc/haproxy/certs/example.com.pem"`
	settings.Ownership
	Binary  settings.Program     `json:"binary" title:"Program" help:"haproxy itself, by name or absolute path." default:"haproxy"`
	Config  settings.Paths       `json:"config" title:"Configuration" help:"Configuration files or directories, in the order of haproxy -f." default:"[\"/etc/haproxy/haproxy.cfg\"]"`
	Reload  settings.Command     `json:"reload" title:"Reload" help:"Program and arguments to reload with." default:"[\"systemctl\", \"reload\", \"haproxy\"]"`
	PIDFile settings.Path        `json:"pid_file" title:"PID file" help:"File with the number of the master process. When it is set, the agent reloads by sending SIGUSR2 to it." example:"/run/haproxy.pid"`
	Probe   settings.ServerProbe `json:"probe" title:"Proof" help:"Where to see that the new certificate is served."`
}

// Kind implements targets.Kind.
type Kind struct{}

// Name implements targets.Kind.
func (Kind) Name() string { return "haproxy" }

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
	same := settings.Distinct(settings.NamedPath{Setting: "pem", Path: f.PEM}, settings.NamedPath{Setting: "pid_file", Path: f.PIDFile})
	return f, problem.Join(twice, same)
}

// Plan implements targets.Kind.
func (Kind) Plan(raw json.RawMessage, b pki.Bundle) (targets.Plan, error) {
	f, err := read(raw)
	if err != nil {
		return targets.Plan{}, err
	}
	files, err := settings.PEMFiles{Combined: f.PEM}.Plan(b, f.Ownership)
	if err != nil {
		return targets.Plan{}, err
	}
	plan := targets.Plan{Files: files, Validate: f.validate(), Probe: f.Probe.Plan(b)}
	switch {
	case f.PIDFile != "":
		plan.Signal = &targets.Signal{PIDFile: string(f.PIDFile), Signal: syscall.SIGUSR2, Process: "haproxy"}
	case f.Reload != nil:
		plan.Reload = targets.Command(f.Reload)
	default:
		plan.Reload = targets.Command{"systemctl", "reload", "haproxy"}
	}
	return plan, nil
}

func (f form) validate() targets.Command {
	command := targets.Command{cmp.Or(string(f.Binary), "haproxy"), "-c"}
	if len(f.Config) == 0 {
		return append(command, "-f", "/etc/haproxy/haproxy.cfg")
	}
	for _, path := range f.Config {
		command = append(command, "-f", string(path))
	}
	return command
}
