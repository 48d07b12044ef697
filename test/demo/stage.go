package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/test/lab"
)

const (
	site       = "www.example.test"
	goal       = time.Second // from request to live
	stepLimit  = 30 * time.Second
	loadBefore = 200 // requests before and after the renewal
)

// stage is what the demo has set up.
type stage struct {
	bin, dir string
	server   *lab.Server
	agent    *lab.Agent
	nginx    *lab.Nginx
	api      *client.Client
	roots    *x509.CertPool
	served   string // fingerprint of the leaf that nginx should show now
	mendConf func() error
}

func (s *stage) clear() {
	if s.agent != nil {
		_ = s.agent.Stop() // its directory goes, and the demo has said what it had to say
	}
	if s.server != nil {
		_ = s.server.Stop()
	}
	if s.nginx != nil {
		_ = s.nginx.Stop()
	}
}

func title(format string, args ...any) { fmt.Printf("\n== "+format+"\n", args...) }
func say(format string, args ...any)   { fmt.Printf("   "+format+"\n", args...) }

// setUp starts everything.
func (s *stage) setUp(ctx context.Context) (err error) {
	title("A server, an agent, an nginx")
	if s.server, err = lab.StartServer(ctx, filepath.Join(s.bin, "certctl"), s.dir); err != nil {
		return err
	}
	say("certctl server is ready at %s after %d ms, with an empty SQLite database and a CA made just now", s.server.URL, s.server.Started.Milliseconds())
	if s.api, err = s.server.Client(); err != nil {
		return err
	}
	if s.agent, err = lab.StartAgent(ctx, filepath.Join(s.bin, "certctl-agent"), s.dir, s.server, "web-1"); err != nil {
		return err
	}
	say("certctl-agent joined as web-1 with a single-use token, the server's CA pinned by its fingerprint")
	if s.nginx, err = lab.StartNginx(ctx, s.dir, site); err != nil {
		return err
	}
	leaf, err := s.nginx.Served(ctx)
	if err != nil {
		return err
	}
	say("nginx serves %s at %s with a certificate %q", site, s.nginx.Address, leaf.Subject.CommonName)
	chain, err := s.api.IssuerChain(ctx, "local")
	if err != nil {
		return err
	}
	s.roots, err = rootOf(chain)
	return err
}

// rootOf gives a pool of the last certificate of a chain, as an operator would
// put the root of the CA into the trust store of a client.
func rootOf(chain string) (*x509.CertPool, error) {
	parsed, err := pki.ParseChain([]byte(chain))
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(parsed[len(parsed)-1])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool, nil
}

// request asks for a certificate and measures until it is served.
func (s *stage) request(ctx context.Context) error {
	title("One request, and the certificate is live")
	_, err := s.api.CreateTarget(ctx, client.TargetSpec{Name: "web-1-nginx", Agent: "web-1", Kind: "nginx", Settings: s.nginx.Settings()})
	if err != nil {
		return err
	}
	began := time.Now()
	_, err = s.api.CreateCertificate(ctx, client.CertificateSpec{Name: "www", Names: []string{site}, Targets: []string{"web-1-nginx"}})
	if err != nil {
		return err
	}
	err = lab.Await(ctx, stepLimit, "nginx to serve a certificate that the CA's root verifies", func(ctx context.Context) error {
		s.served, err = s.nginx.Verified(ctx, s.roots)
		return err
	})
	if err != nil {
		return s.explain(ctx, err)
	}
	took := time.Since(began)
	verdict := "under"
	if took > goal {
		verdict = "over"
	}
	say("from the API call to a verified handshake: %d ms (%s the goal of one second)", took.Milliseconds(), verdict)
	say("certctl itself calls it done a little later: when every new connection has shown it for 150 ms")
	if err := s.settled(ctx, "active"); err != nil {
		return err
	}
	out, err := s.server.CLI(ctx, "describe", "certificate", "www")
	if err != nil {
		return err
	}
	quote(out)
	return nil
}

// renew forces a renewal while clients ask for pages all the time.
func (s *stage) renew(ctx context.Context) error {
	title("A renewal under load")
	load := lab.StartLoad(ctx, s.nginx, s.roots)
	requests := 0
	enough := func(context.Context) error {
		if now, _ := load.Count(); now < requests+loadBefore {
			return fmt.Errorf("%d requests so far", now)
		}
		return nil
	}
	err := lab.Await(ctx, stepLimit, "the load to run", enough)
	if err == nil {
		_, err = s.api.Renew(ctx, "www")
	}
	before := s.served
	if err == nil {
		err = lab.Await(ctx, stepLimit, "nginx to serve the renewed certificate", func(ctx context.Context) error {
			s.served, err = s.nginx.Verified(ctx, s.roots)
			if err == nil && s.served == before {
				return errors.New("it still serves the one before")
			}
			return err
		})
	}
	if err == nil {
		requests, _ = load.Count()
		err = lab.Await(ctx, stepLimit, "the load to go on after the renewal", enough)
	}
	_, certificates := load.Count()
	total, failures := load.Stop()
	if err != nil {
		return s.explain(ctx, err)
	}
	say("%d HTTPS requests while it was renewed, answered under %d certificates; %d failed", total, certificates, len(failures))
	if len(failures) > 0 {
		return fmt.Errorf("%d requests failed during the renewal, the first with: %w", len(failures), failures[0])
	}
	return s.settled(ctx, "active")
}

// fail breaks the configuration of nginx and renews once more.
func (s *stage) fail(ctx context.Context) (err error) {
	title("A broken nginx configuration: rolled back")
	if s.mendConf, err = s.nginx.Break(); err != nil {
		return err
	}
	say("a directive that nginx does not know now stands in its configuration")
	if _, err := s.api.Renew(ctx, "www"); err != nil {
		return err
	}
	if err := s.settled(ctx, "failing"); err != nil {
		return err
	}
	failed, err := s.lastDeployment(ctx)
	if err != nil {
		return err
	}
	say("deployment %s, outcome %q: %s", failed.State, failed.Report.Outcome, failed.Report.Reason)
	for _, step := range failed.Report.Steps {
		mark := "ok  "
		if !step.OK {
			mark = "FAIL"
		}
		say("  %s %-20s %5d ms  %s", mark, step.Name, step.DurationMS, firstLine(step.Output))
	}
	served, err := s.nginx.Verified(ctx, s.roots)
	if err != nil {
		return err
	}
	if served != s.served {
		return errors.New("after the rollback nginx does not serve the certificate from before")
	}
	say("nginx still serves the certificate from before, and its files are the ones from before")
	return nil
}

// mend repairs the configuration and tries the failed order again.
func (s *stage) mend(ctx context.Context) error {
	title("Mended, and tried again")
	if err := s.mendConf(); err != nil {
		return err
	}
	failed, err := s.lastDeployment(ctx)
	if err != nil {
		return err
	}
	out, err := s.server.CLI(ctx, "orders", "retry", failed.OrderID)
	if err != nil {
		return err
	}
	quote(out)
	before := s.served
	err = lab.Await(ctx, stepLimit, "nginx to serve the new certificate", func(ctx context.Context) error {
		s.served, err = s.nginx.Verified(ctx, s.roots)
		if err == nil && s.served == before {
			return errors.New("it still serves the one before")
		}
		return err
	})
	if err != nil {
		return s.explain(ctx, err)
	}
	say("the same order went on where it had failed: no second certificate was issued for it")
	return s.settled(ctx, "active")
}

// tell shows where everything stands.
func (s *stage) tell(ctx context.Context) error {
	title("Where everything stands")
	for _, args := range [][]string{{"list", "certificates"}, {"list", "versions", "www"}, {"list", "agents"}} {
		out, err := s.server.CLI(ctx, args...)
		if err != nil {
			return err
		}
		fmt.Printf("   $ certctl %s\n", strings.Join(args, " "))
		quote(out)
	}
	return nil
}

func (s *stage) linger() {
	title("All of it keeps running until Ctrl-C. To look around, in another terminal:")
	say("export CERTCTL_URL=%s CERTCTL_CA_SHA256=%s CERTCTL_API_KEY=%s", s.server.URL, s.server.CASHA256, s.server.APIKey.Reveal())
	say("%s describe certificate www", filepath.Join(s.bin, "certctl"))
	say("The API is described at %s/api/v1/docs", s.server.URL)
}

// settled waits until the certificate has a status and nothing is under way.
func (s *stage) settled(ctx context.Context, status string) error {
	err := lab.Await(ctx, stepLimit, "the certificate to be "+status, func(ctx context.Context) error {
		c, err := s.api.Certificate(ctx, "www")
		if err != nil {
			return err
		}
		for order, err := range s.api.Orders(ctx, client.OrderFilter{Certificate: "www"}) {
			if err != nil {
				return err
			}
			if slices.Contains([]string{"pending", "signing", "issued"}, order.State) {
				return fmt.Errorf("an order is %s", order.State)
			}
			break
		}
		if c.Status != status {
			return fmt.Errorf("it is %s: %s", c.Status, c.StatusReason)
		}
		return nil
	})
	if err != nil {
		return s.explain(ctx, err)
	}
	return nil
}

// lastDeployment is the newest one.
func (s *stage) lastDeployment(ctx context.Context) (client.Deployment, error) {
	for d, err := range s.api.Deployments(ctx, client.DeploymentFilter{Certificate: "www"}) {
		if err != nil {
			return client.Deployment{}, err
		}
		return s.api.Deployment(ctx, d.ID)
	}
	return client.Deployment{}, errors.New("there is no deployment")
}

// explain adds the story of the certificate to an error.
func (s *stage) explain(ctx context.Context, err error) error {
	out, describeErr := s.server.CLI(ctx, "describe", "certificate", "www")
	if describeErr != nil {
		out = describeErr.Error()
	}
	return fmt.Errorf("%w\n%s", err, out)
}

func quote(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		say("| %s", strings.TrimRight(line, "\n"))
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
