package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/client"
)

// lately is how many of the newest orders and deployments of a certificate can
// be open at once: more than a certificate has targets.
const lately = 200

type applyCmd struct {
	Filename     []string `short:"f" required:"" sep:"none" placeholder:"FILE" help:"YAML file, directory of .yaml and .yml files, or - for standard input; may be given several times."`
	Yes          bool     `short:"y" help:"Do not ask."`
	DryRun       bool     `help:"Only show the plan."`
	WriteSecrets bool     `help:"Write secret settings again. The server does not show them, so that a change of them is not noticed."`
	Wait         bool     `short:"w" help:"Wait until all certificates in the files are served."`
}

// Help is the long help of the command.
func (applyCmd) Help() string {
	return `Files describe profiles, certificates and targets, any number in one file, separated by ---. A plan is shown before anything is
changed, and a second apply changes nothing. What a file leaves out keeps its value; what is in no file is left alone. Profiles are
made first, then certificates, then targets. A target names its certificate, not the other way round.

  kind: Certificate
  name: www.example.com
  spec:
    names: [www.example.com, example.com]
    lifetime: 90d
  ---
  kind: Target
  name: web-1-nginx
  spec:
    agent: web-1
    kind: nginx
    certificate: www.example.com
    settings:
      certificate: /etc/nginx/tls/www.crt
      key: /etc/nginx/tls/www.key
      probe: {address: "127.0.0.1:443"}

Examples:
  certctl apply -f certificates.yaml --dry-run
  certctl apply -f deploy/ --yes --wait`
}

// Run shows the plan, asks, and makes it so.
func (c applyCmd) Run(s *session) error {
	documents, err := s.readDocuments(c.Filename)
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	started := s.now()
	p := planner{api, c.WriteSecrets}
	steps, err := p.plan(s.ctx, documents)
	if err != nil {
		return err
	}
	if s.forPeople() {
		s.printPlan(steps)
	}
	todo := slices.DeleteFunc(slices.Clone(steps), func(one step) bool { return one.Action == keeps })
	if !c.DryRun {
		if err := c.carryOut(s, p, todo); err != nil {
			return err
		}
	}
	if c.Wait && !c.DryRun {
		if err := s.waitForDocuments(api, documents, started); err != nil {
			return err
		}
	}
	return s.reportPlan(steps, todo)
}

func (c applyCmd) carryOut(s *session, p planner, todo []step) error {
	if len(todo) == 0 {
		return nil
	}
	if !c.Yes {
		if err := s.confirm("Apply it? [yes/no]", "yes"); err != nil {
			return err
		}
	}
	for i, one := range todo {
		if err := p.do(s.ctx, one); err != nil {
			if i > 0 {
				fmt.Fprintf(s.err, "stopped after %d of %d steps; what was done stays, and applying again continues\n", i, len(todo))
			}
			return err
		}
		if s.forPeople() {
			fmt.Fprintf(s.out, "%s %sd\n", one.document, one.Action)
		}
	}
	return nil
}

// reportPlan gives scripts the plan.
func (s *session) reportPlan(steps, todo []step) error {
	switch {
	case s.forPeople():
		return nil
	case s.Output == "name":
		for _, one := range todo {
			fmt.Fprintln(s.out, one.document.name)
		}
		return nil
	}
	raw, err := json.Marshal(steps)
	if err != nil {
		return fmt.Errorf("encode the plan: %w", err)
	}
	return s.printRaw(raw)
}

// waitForDocuments waits for the certificates of the files, and for those that
// their targets name, as far as they go anywhere.
func (s *session) waitForDocuments(api *client.Client, documents []document, started time.Time) error {
	var names []string
	for _, d := range documents {
		name := asText(d.fields["certificate"])
		if d.kind.name == "Certificate" {
			name = d.name
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		certificate, err := api.Certificate(s.ctx, name)
		if err != nil {
			return err
		}
		if len(certificate.Targets) == 0 {
			continue
		}
		if err := s.waitUntilSettled(api, certificate, started); err != nil {
			return err
		}
		if s.forPeople() {
			fmt.Fprintf(s.out, "certificate %s is served on %s\n", certificate.Name, few(certificate.Targets, 5))
		}
	}
	return nil
}

// waitUntilSettled waits until a certificate is served and nothing is under way
// for it any more: one that was served before is so all the time.
func (s *session) waitUntilSettled(api *client.Client, c client.Certificate, started time.Time) error {
	if err := s.waitForCertificate(api, c.ID, started); err != nil {
		return err
	}
	placed, err := take(api.Orders(s.ctx, client.OrderFilter{Certificate: c.ID}), lately)
	if err != nil {
		return err
	}
	var open []string
	for _, o := range placed {
		if o.State == "pending" || o.State == "signing" || o.State == "issued" {
			open = append(open, o.ID)
		}
	}
	if err := s.waitForOrders(api, c.ID, open, started); err != nil {
		return err
	}
	deployed, err := take(api.Deployments(s.ctx, client.DeploymentFilter{Certificate: c.ID}), lately)
	if err != nil {
		return err
	}
	open = nil
	for _, d := range deployed {
		if d.State == "pending" || d.State == "running" {
			open = append(open, d.ID)
		}
	}
	return s.waitForDeployments(api, c.ID, open, started)
}
