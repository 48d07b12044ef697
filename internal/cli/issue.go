package cli

import (
	"cmp"
	"strings"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

type issueCmd struct {
	Names       []string          `arg:"" help:"DNS names, IP addresses, URIs or mail addresses. The first one also names the certificate in certctl."`
	Target      []string          `short:"t" placeholder:"TARGET" complete:"target" help:"Where it goes; may be given several times."`
	As          string            `placeholder:"NAME" help:"Name of the certificate in certctl."`
	CommonName  string            `placeholder:"TEXT" help:"Common name of the subject."`
	Profile     string            `placeholder:"PROFILE" complete:"profile" help:"Profile that says what may be issued."`
	Issuer      string            `placeholder:"ISSUER" complete:"issuer" help:"CA that issues it."`
	KeyType     string            `placeholder:"TYPE" help:"ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096 or ed25519."`
	Lifetime    string            `placeholder:"DURATION" help:"How long a version is valid, such as 90d or 12h."`
	RenewBefore string            `placeholder:"DURATION" help:"How long before its end a version is renewed; by default a third of its lifetime."`
	NoRenew     bool              `help:"Do not renew it automatically."`
	Owner       string            `placeholder:"OWNER" help:"Who answers for it."`
	Tag         map[string]string `placeholder:"KEY=VALUE" help:"Tag; may be given several times."`
	Wait        bool              `short:"w" help:"Wait until it is served."`

	newTarget `group:"target"`
}

// newTarget describes a target that is made together with its certificate.
type newTarget struct {
	Agent string `placeholder:"AGENT" complete:"agent" help:"Make a target for it on this agent."`
	Kind  string `placeholder:"KIND" help:"Kind of that target: file, nginx, haproxy, exec or kubernetes."`
	settings
}

// Help is the long help of the command.
func (issueCmd) Help() string {
	return `What is left open comes from the profile. The key is made on the host that serves the certificate and never leaves it.

Examples:
  certctl issue www.example.com example.com --target web-1 --wait
  certctl issue 10.0.0.7 --as printer --target printer-file --lifetime 30d --owner it@example.com
  certctl issue www.example.com --agent web-1 --kind nginx --set certificate=/etc/nginx/tls/www.crt \
      --set key=/etc/nginx/tls/www.key --set probe.address=127.0.0.1:443 --wait`
}

// Run makes the certificate, and the target when one is described.
func (c issueCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	spec := client.CertificateSpec{
		Name: c.As, CommonName: c.CommonName, Names: c.Names, KeyType: c.KeyType, Lifetime: c.Lifetime,
		Profile: c.Profile, Issuer: c.Issuer, Owner: c.Owner, Tags: c.Tag, Targets: c.Target,
	}
	if c.NoRenew || c.RenewBefore != "" {
		spec.Renewal = &client.Renewal{Auto: !c.NoRenew, Before: c.RenewBefore}
	}
	undo := func() {}
	if c.Agent != "" || c.Kind != "" {
		made, err := c.newTarget.create(s, api, cmp.Or(c.As, c.Names[0]))
		if err != nil {
			return err
		}
		spec.Targets = append(spec.Targets, made.Name)
		// Best effort: the error that is reported is the certificate's.
		undo = func() { _ = api.DeleteTarget(s.ctx, made.ID) }
	}
	started := s.now()
	certificate, err := api.CreateCertificate(s.ctx, spec)
	if err != nil {
		undo()
		return err
	}
	if c.Wait {
		if err := s.waitForCertificate(api, certificate.ID, started); err != nil {
			return err
		}
		if certificate, err = api.Certificate(s.ctx, certificate.ID); err != nil {
			return err
		}
	}
	return certificates().report(s, certificate, "%s", issuedSentence(certificate))
}

func issuedSentence(c client.Certificate) string {
	switch {
	case len(c.Targets) == 0:
		return "certificate " + c.Name + " is made and waits for a target: certctl targets create"
	case c.Status == "active":
		return "certificate " + c.Name + " is served on " + few(c.Targets, 5)
	default:
		return "certificate " + c.Name + " is on its way to " + few(c.Targets, 5) + ": certctl wait certificate " + c.Name
	}
}

func (t newTarget) create(s *session, api *client.Client, certificate string) (client.Target, error) {
	if t.Agent == "" || t.Kind == "" {
		return client.Target{}, problem.Invalid("", "a new target needs an agent and a kind").Hint("give --agent and --kind")
	}
	values, err := t.values(s)
	if err != nil {
		return client.Target{}, err
	}
	return api.CreateTarget(s.ctx, client.TargetSpec{
		Name: targetName(certificate, t.Agent), Agent: t.Agent, Kind: t.Kind, Settings: values,
	})
}

// targetName makes a name of what a certificate is for: "*.example.com" on web-1
// gives "example.com-web-1".
func targetName(certificate, agent string) string {
	usable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(certificate))
	return strings.Trim(usable, ".-") + "-" + agent
}
