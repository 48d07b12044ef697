// Package file is the target kind for everything that reads a certificate from
// files: PEM files, separate or combined, and a PKCS #12 file. It can be told
// how to check and reload what uses them, and where to look for proof.
package file

import (
	"encoding/json"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/settings"
)

type form struct {
	settings.PEMFiles
	PKCS12 *pkcs12File `json:"pkcs12" title:"PKCS #12" help:"Key and chain in one encrypted file, as Java and Windows programs read it."`
	settings.Ownership
	Validate settings.Command `json:"validate" title:"Validate" help:"Program and arguments that check the new files before they are used; it fails when they are bad." example:"[\"postfix\", \"check\"]"`
	Reload   settings.Command `json:"reload" title:"Reload" help:"Program and arguments that make the server use the new files." example:"[\"systemctl\", \"reload\", \"postfix\"]"`
	Probe    *settings.Probe  `json:"probe" title:"Proof" help:"Where to see that the new certificate is served. Without it a deployment ends when the files are written and the reload has succeeded."`
}

type pkcs12File struct {
	Path     settings.Path `json:"path" required:"true" title:"File" help:"File for the key and the chain." example:"/etc/myapp/tls/keystore.p12"`
	Password string        `json:"password" required:"true" secret:"true" title:"Password" help:"Protects the file, and is needed to read it."`
}

// Kind implements targets.Kind.
type Kind struct{}

// Name implements targets.Kind.
func (Kind) Name() string { return "file" }

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
	paths := f.Named()
	if f.PKCS12 != nil {
		paths = append(paths, settings.NamedPath{Setting: "pkcs12.path", Path: f.PKCS12.Path})
	}
	var keyless *problem.Error
	if f.Key == "" && f.Combined == "" && f.PKCS12 == nil {
		keyless = problem.Invalid("settings.key", "the private key would be written nowhere").
			Hint("name a file for it with key, combined or pkcs12: each version has a key of its own")
	}
	return f, problem.Join(settings.Distinct(paths...), keyless)
}

// Plan implements targets.Kind.
func (Kind) Plan(raw json.RawMessage, b pki.Bundle) (targets.Plan, error) {
	f, err := read(raw)
	if err != nil {
		return targets.Plan{}, err
	}
	plan := targets.Plan{
		Validate: targets.Command(f.Validate),
		Reload:   targets.Command(f.Reload),
		Probe:    f.Probe.Plan(b),
	}
	if plan.Files, err = f.PEMFiles.Plan(b, f.Ownership); err != nil {
		return targets.Plan{}, err
	}
	if f.PKCS12 != nil {
		data, err := encodePKCS12(b, f.PKCS12.Password)
		if err != nil {
			return targets.Plan{}, err
		}
		plan.Files = append(plan.Files, f.File(f.PKCS12.Path, data, true))
		plan.Redact = append(plan.Redact, secret.New(f.PKCS12.Password))
	}
	return plan, nil
}
