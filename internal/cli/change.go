package cli

import (
	"encoding/json"
	"fmt"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

// certificateArg is the argument of commands about one certificate.
type certificateArg struct {
	Certificate string `arg:"" complete:"certificate" help:"Name or id of the certificate."`
}

type renewCmd struct {
	certificateArg
	Agent []string `placeholder:"AGENT" complete:"agent" help:"Only for this agent; by default for all that hold a key of it."`
	Wait  bool     `short:"w" help:"Wait until the new version is served."`
}

// Help is the long help of the command.
func (renewCmd) Help() string {
	return `A new key is made and a new version issued and deployed; the old one is served until the new one is proven.

Examples:
  certctl renew www.example.com --wait
  certctl list certificates --tag team:web -o name | xargs -n1 certctl renew`
}

// Run starts the orders and waits for them when asked to.
func (c renewCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	started := s.now()
	ids, err := api.Renew(s.ctx, c.Certificate, c.Agent...)
	if err != nil {
		return err
	}
	if !c.Wait {
		return s.reportIDs(ids, "order", "renewal of %s has started: certctl describe certificate %[1]s", c.Certificate)
	}
	if err := s.waitForOrders(api, c.Certificate, ids, started); err != nil {
		return err
	}
	return s.reportIDs(ids, "order", "%s is renewed", c.Certificate)
}

type deployCmd struct {
	certificateArg
	Wait bool `short:"w" help:"Wait until it is proven to be served."`
}

// Help is the long help of the command.
func (deployCmd) Help() string {
	return `The active version is written again where its files changed, and proven again to be served.`
}

// Run starts the deployments and waits for them when asked to.
func (c deployCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	started := s.now()
	ids, err := api.Deploy(s.ctx, c.Certificate)
	if err != nil {
		return err
	}
	if !c.Wait {
		return s.reportIDs(ids, "deployment", "deployment of %s has started: certctl describe certificate %[1]s", c.Certificate)
	}
	if err := s.waitForDeployments(api, c.Certificate, ids, started); err != nil {
		return err
	}
	return s.reportIDs(ids, "deployment", "%s is deployed", c.Certificate)
}

type revokeCmd struct {
	certificateArg
	Reason  string `default:"unspecified" placeholder:"REASON" enum:"unspecified,keyCompromise,affiliationChanged,superseded,cessationOfOperation,privilegeWithdrawn" help:"Reason by RFC 5280: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn."`
	Version string `placeholder:"ID" help:"Only this version; by default all that are still valid."`
	Reissue bool   `help:"Get a new version with a new key at once."`
	Wait    bool   `short:"w" help:"With --reissue: wait until the new version is served."`
	Yes     bool   `short:"y" help:"Do not ask."`
}

// Help is the long help of the command.
func (revokeCmd) Help() string {
	return `Revocation cannot be undone, so that the name of the certificate must be typed to confirm it. Without a terminal, give --yes.

Examples:
  certctl revoke www.example.com --reason keyCompromise --reissue --wait
  certctl revoke www.example.com --reason superseded --yes`
}

// Run asks and revokes.
func (c revokeCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if c.Wait && !c.Reissue {
		return problem.Invalid("wait", "there is nothing to wait for without a new version").Hint("give --reissue, or leave out --wait")
	}
	certificate, err := api.Certificate(s.ctx, c.Certificate)
	if err != nil {
		return err
	}
	if !c.Yes {
		question := fmt.Sprintf("Type %s to revoke it for good:", certificate.Name)
		if err := s.confirm(question, certificate.Name); err != nil {
			return err
		}
	}
	if c.Version != "" {
		if c.Reissue {
			return problem.Invalid("reissue", "one version cannot be reissued by itself").Hint("certctl renew %s", certificate.Name)
		}
		version, err := api.RevokeVersion(s.ctx, c.Version, c.Reason)
		if err != nil {
			return err
		}
		return versions().report(s, version, "version %s of %s is revoked", version.ID, certificate.Name)
	}
	started := s.now()
	if certificate, err = api.Revoke(s.ctx, certificate.ID, c.Reason, c.Reissue); err != nil {
		return err
	}
	switch {
	case !c.Reissue:
		return certificates().report(s, certificate, "certificate %s is revoked", certificate.Name)
	case !c.Wait:
		return certificates().report(s, certificate, "certificate %s is revoked, and a new version is on its way: certctl wait certificate %[1]s", certificate.Name)
	}
	if err := s.waitForCertificate(api, certificate.ID, started); err != nil {
		return err
	}
	if certificate, err = api.Certificate(s.ctx, certificate.ID); err != nil {
		return err
	}
	return certificates().report(s, certificate, "certificate %s is revoked, and a new version is served", certificate.Name)
}

type archiveCmd struct {
	certificateArg
	Yes bool `short:"y" help:"Do not ask."`
}

// Help is the long help of the command.
func (archiveCmd) Help() string {
	return `Its targets are released. What is deployed stays and is served until it expires; to make it invalid, revoke it. "certctl unarchive"
takes it back.`
}

// Run asks and archives.
func (c archiveCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := s.confirm(fmt.Sprintf("Archive %s? [yes/no]", c.Certificate), "yes"); err != nil {
			return err
		}
	}
	if err := api.ArchiveCertificate(s.ctx, c.Certificate); err != nil {
		return err
	}
	return s.reportDone(c.Certificate, "certificate %s is archived", c.Certificate)
}

type unarchiveCmd struct{ certificateArg }

// Help is the long help of the command.
func (unarchiveCmd) Help() string {
	return `Archiving released its targets, so that it is issued anew when it is given one.

Examples:
  certctl unarchive www.example.com
  certctl targets update web-1-nginx --certificate www.example.com`
}

// Run takes the certificate back.
func (c unarchiveCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	certificate, err := api.UpdateCertificate(s.ctx, c.Certificate, 0, client.Patch{"archived": false})
	if err != nil {
		return err
	}
	return certificates().report(s, certificate,
		"certificate %s is taken back and waits for a target: certctl targets update TARGET --certificate %[1]s", certificate.Name)
}

type chainCmd struct {
	Issuer string `arg:"" optional:"" default:"local" complete:"issuer" help:"Name or id of the issuer."`
}

// Help is the long help of the command.
func (chainCmd) Help() string {
	return `The certificates are printed as PEM, the one that signs first.

Examples:
  certctl chain > ca.pem
  curl --cacert <(certctl chain) https://www.example.com`
}

// Run prints the chain.
func (c chainCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	pem, err := api.IssuerChain(s.ctx, c.Issuer)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(s.out, pem)
	return err
}

// reportDone says that something is done of which no object is left to show.
// Scripts get its name with -o name, and nothing else.
func (s *session) reportDone(name, sentence string, args ...any) error {
	switch {
	case s.forPeople():
		fmt.Fprintf(s.out, sentence+"\n", args...)
	case s.Output == "name":
		fmt.Fprintln(s.out, name)
	}
	return nil
}

// reportIDs prints the ids of what was started for scripts, and a sentence for
// people.
func (s *session) reportIDs(ids []string, kind, sentence string, args ...any) error {
	switch {
	case s.forPeople():
		fmt.Fprintf(s.out, sentence+"\n", args...)
		return nil
	case s.Output == "name":
		for _, id := range ids {
			fmt.Fprintln(s.out, id)
		}
		return nil
	}
	raw, err := json.Marshal(map[string][]string{kind + "s": ids})
	if err != nil {
		return fmt.Errorf("encode the ids: %w", err)
	}
	return s.printRaw(raw)
}
