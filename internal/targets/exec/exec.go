// Package exec is the target kind for programs that certctl does not know:
// files are written as for the kind file, and commands of the operator's own
// check them and put them to use. Commands are argument lists; no shell reads
// them.
//
// A command learns where the files are in two ways, as suits it: from the
// environment (CERTCTL_CERTIFICATE, CERTCTL_KEY, CERTCTL_CHAIN,
// CERTCTL_FULLCHAIN, CERTCTL_COMBINED) and by placeholders in its arguments
// ({certificate}, {key}, {chain}, {fullchain}, {combined}). The reload command
// also runs on the way back from a failed deployment, with the old files in
// place.
package exec

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/settings"
)

type form struct {
	settings.PEMFiles
	settings.Ownership
	Validate  settings.Command   `json:"validate" title:"Validate" help:"Program and arguments that check the new files before they are used; it fails when they are bad." example:"[\"/usr/local/bin/check-tls\", \"{fullchain}\"]"`
	Reload    settings.Command   `json:"reload" required:"true" title:"Reload" help:"Program and arguments that put the files in place to use." example:"[\"/usr/local/bin/use-tls\", \"{fullchain}\", \"{key}\"]"`
	Timeout   settings.Duration  `json:"timeout" title:"Time limit" help:"How long each command may take." default:"30s"`
	Env       settings.Variables `json:"env" title:"Environment" help:"Variables for the commands, which get only these, PATH and the paths of the files."`
	SecretEnv settings.Variables `json:"secret_env" secret:"true" title:"Secret environment" help:"Variables for the commands whose values are secret."`
	Probe     *settings.Probe    `json:"probe" title:"Proof" help:"Where to see that the new certificate is served. Without it a deployment ends when the reload command has succeeded."`
}

// Kind implements targets.Kind.
type Kind struct{}

// Name implements targets.Kind.
func (Kind) Name() string { return "exec" }

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
	problems := []*problem.Error{settings.Distinct(f.Named()...)}
	if f.Key == "" && f.Combined == "" {
		problems = append(problems, problem.Invalid("settings.key", "the private key would be written nowhere").
			Hint("name a file for it with key or combined: each version has a key of its own"))
	}
	for _, name := range slices.Sorted(maps.Keys(f.SecretEnv)) {
		if _, taken := f.Env[name]; taken {
			problems = append(problems, problem.Invalid("settings.secret_env."+name, "is set in env too").Hint("set it once"))
		}
	}
	problems = append(problems, f.checkPlaceholders("validate", f.Validate), f.checkPlaceholders("reload", f.Reload))
	return f, problem.Join(problems...)
}

func (f form) checkPlaceholders(setting string, command settings.Command) *problem.Error {
	for i, word := range command {
		for _, file := range f.Named() {
			if file.Path == "" && strings.Contains(word, placeholder(file)) {
				return problem.Invalid("settings."+setting+"["+strconv.Itoa(i)+"]", "%s stands for a file that is not written", placeholder(file)).
					Hint("set %s, or use the placeholder of another file", file.Setting)
			}
		}
	}
	return nil
}

// Plan implements targets.Kind.
func (Kind) Plan(raw json.RawMessage, b pki.Bundle) (targets.Plan, error) {
	f, err := read(raw)
	if err != nil {
		return targets.Plan{}, err
	}
	files, err := f.PEMFiles.Plan(b, f.Ownership)
	if err != nil {
		return targets.Plan{}, err
	}
	plan := targets.Plan{
		Files:    files,
		Validate: f.fill(f.Validate),
		Reload:   f.fill(f.Reload),
		Probe:    f.Probe.Plan(b),
		Env:      f.environment(),
		Timeout:  f.Timeout.Duration(),
	}
	for _, name := range slices.Sorted(maps.Keys(f.SecretEnv)) {
		plan.Redact = append(plan.Redact, secret.New(f.SecretEnv[name]))
	}
	return plan, nil
}

// fill puts the paths of the files into a command.
func (f form) fill(command settings.Command) targets.Command {
	var pairs []string
	for _, file := range f.Named() {
		pairs = append(pairs, placeholder(file), string(file.Path))
	}
	replacer := strings.NewReplacer(pairs...)
	var filled targets.Command
	for _, word := range command {
		filled = append(filled, replacer.Replace(word))
	}
	return filled
}

func placeholder(file settings.NamedPath) string { return "{" + file.Setting + "}" }

func (f form) environment() []string {
	var env []string
	for _, file := range f.Named() {
		if file.Path != "" {
			env = append(env, "CERTCTL_"+strings.ToUpper(file.Setting)+"="+string(file.Path))
		}
	}
	for _, variables := range []settings.Variables{f.Env, f.SecretEnv} {
		for _, name := range slices.Sorted(maps.Keys(variables)) {
			env = append(env, name+"="+variables[name])
		}
	}
	return env
}
