package cli

import (
	"fmt"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

type targetsCmd struct {
	List   listTargets     `cmd:"" default:"withargs" help:"List targets."`
	Create targetCreateCmd `cmd:"" help:"Make a target."`
	Update targetUpdateCmd `cmd:"" help:"Change a target."`
	Delete targetDeleteCmd `cmd:"" help:"Forget a target; what is deployed there stays."`
}

type targetCreateCmd struct {
	Name        string `arg:"" help:"Name of the target."`
	Agent       string `required:"" placeholder:"AGENT" complete:"agent" help:"The agent that deploys there."`
	Kind        string `required:"" placeholder:"KIND" complete:"target-kind" help:"What it is: file, nginx, haproxy, exec or kubernetes."`
	Certificate string `placeholder:"NAME" complete:"certificate" help:"The certificate that goes there."`
	settings
}

// Help is the long help of the command.
func (targetCreateCmd) Help() string {
	return `A target that has a certificate gets it at once.

Examples:
  certctl targets create web-1-nginx --agent web-1 --kind nginx --certificate www.example.com \
      --set certificate=/etc/nginx/tls/www.crt --set key=/etc/nginx/tls/www.key --set probe.address=127.0.0.1:443
  certctl targets create mail --agent mail-1 --kind exec --settings-file mail.yaml`
}

// Run makes the target.
func (c targetCreateCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	values, err := c.values(s)
	if err != nil {
		return err
	}
	target, err := api.CreateTarget(s.ctx, client.TargetSpec{
		Name: c.Name, Agent: c.Agent, Kind: c.Kind, Settings: values, Certificate: c.Certificate,
	})
	if err != nil {
		return err
	}
	return targets().report(s, target, "target %s is made%s", target.Name, served(target))
}

// served says what happens with a target from now on.
func served(t client.Target) string {
	if t.Certificate == "" {
		return "; no certificate goes there yet"
	}
	return "; certificate " + t.Certificate + " goes there"
}

type targetUpdateCmd struct {
	Target        string   `arg:"" complete:"target" help:"Name or id of the target."`
	Rename        string   `placeholder:"NAME" help:"Give it this name."`
	Certificate   string   `placeholder:"NAME" complete:"certificate" xor:"certificate" help:"The certificate that goes there from now on."`
	NoCertificate bool     `xor:"certificate" help:"Let no certificate go there any more."`
	Unset         []string `placeholder:"KEY" help:"Remove this setting; may be given several times."`
	settings
}

// Help is the long help of the command.
func (targetUpdateCmd) Help() string {
	return `Settings that are not named stay as they are; with --settings-file the file's replace all. Other settings have the certificate
deployed again.

Examples:
  certctl targets update web-1-nginx --certificate www.example.com
  certctl targets update web-1-nginx --set probe.address=127.0.0.1:8443 --unset reload`
}

// Run changes the target.
func (c targetUpdateCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	target, err := api.Target(s.ctx, c.Target)
	if err != nil {
		return err
	}
	patch, err := c.patch(s, target)
	if err != nil {
		return err
	}
	if target, err = api.UpdateTarget(s.ctx, target.ID, target.Revision, patch); err != nil {
		return err
	}
	return targets().report(s, target, "target %s is changed%s", target.Name, served(target))
}

// patch is what changes. Secret settings come masked from the server, which
// takes the mask for the secret that it has.
func (c targetUpdateCmd) patch(s *session, target client.Target) (client.Patch, error) {
	patch := client.Patch{}
	if c.Rename != "" {
		patch["name"] = c.Rename
	}
	if c.Certificate != "" || c.NoCertificate {
		patch["certificate"] = c.Certificate
	}
	values, err := c.values(s)
	if err != nil {
		return nil, err
	}
	if len(values) > 0 || len(c.Unset) > 0 {
		wanted := map[string]any{}
		if c.SettingsFile == "" && target.Settings != nil {
			wanted = target.Settings
		}
		merge(wanted, values)
		for _, key := range c.Unset {
			if !drop(wanted, key) {
				return nil, problem.Invalid("unset", "target %s has no setting %q", target.Name, key)
			}
		}
		patch["settings"] = wanted
	}
	if len(patch) == 0 {
		return nil, problem.Invalid("", "there is nothing to change").Hint("give --certificate, --no-certificate, --set, --unset, --settings-file or --rename")
	}
	return patch, nil
}

type targetDeleteCmd struct {
	Target string `arg:"" complete:"target" help:"Name or id of the target."`
	Yes    bool   `short:"y" help:"Do not ask."`
}

// Run asks and deletes.
func (c targetDeleteCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	target, err := api.Target(s.ctx, c.Target)
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := s.confirm(fmt.Sprintf("Delete target %s? [yes/no]", target.Name), "yes"); err != nil {
			return err
		}
	}
	if err := api.DeleteTarget(s.ctx, target.ID); err != nil {
		return err
	}
	return s.reportDone(target.Name, "target %s is deleted", target.Name)
}
