package cli

import (
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/problem"
)

// listCmd lists objects; each resource has its own filters.
type listCmd struct {
	Certificates listCertificates `cmd:"" aliases:"certificate,certs,cert" help:"Certificates and how they stand."`
	Versions     listVersions     `cmd:"" aliases:"version" help:"What was issued for a certificate."`
	Events       listEvents       `cmd:"" aliases:"event" help:"The timeline of a certificate, newest first."`
	Orders       listOrders       `cmd:"" aliases:"order" help:"Attempts to get a version."`
	Deployments  listDeployments  `cmd:"" aliases:"deployment" help:"Versions being put on targets."`
	Targets      listTargets      `cmd:"" aliases:"target" help:"Places certificates go."`
	Agents       listAgents       `cmd:"" aliases:"agent" help:"Agents and when they were last seen."`
	Profiles     listProfiles     `cmd:"" aliases:"profile" help:"What may be issued."`
	Issuers      listIssuers      `cmd:"" aliases:"issuer" help:"Configured CAs."`
	Jobs         listJobs         `cmd:"" aliases:"job" help:"Background work of the server."`
	Tokens       listTokens       `cmd:"" aliases:"token" help:"Enrolment tokens."`
	APIKeys      listAPIKeys      `cmd:"" name:"api-keys" aliases:"api-key,keys" help:"API keys."`
	Audit        listAudit        `cmd:"" help:"Who changed what, newest first."`
}

// Help is the long help of the command.
func (listCmd) Help() string {
	return `Examples:
  certctl list certificates --status failing
  certctl list certificates --tag team:web --sort not_after
  certctl list orders --certificate www.example.com -o wide
  certctl list certificates -o name | xargs -n1 certctl renew
  certctl list audit --all -o json`
}

type listCertificates struct {
	listing
	Status        string   `placeholder:"STATUS" help:"Only with this status: active, expiring, expired, failing, pending, revoked, unassigned or archived."`
	Name          string   `placeholder:"TEXT" help:"Only with this text in their name or one of their names."`
	Tag           []string `placeholder:"KEY:VALUE" help:"Only with this tag; several must all hold."`
	Owner         string   `placeholder:"OWNER" help:"Only of this owner."`
	Issuer        string   `placeholder:"ISSUER" complete:"issuer" help:"Only from this issuer."`
	Profile       string   `placeholder:"PROFILE" complete:"profile" help:"Only of this profile."`
	ExpiresWithin string   `placeholder:"DURATION" help:"Only with an end within this time, such as 30d or 12h."`
}

// Run lists certificates.
func (c listCertificates) Run(s *session) error {
	f := client.CertificateFilter{
		Status: c.Status, Name: c.Name, Tags: c.Tag, Owner: c.Owner, Issuer: c.Issuer, Profile: c.Profile,
	}
	if c.ExpiresWithin != "" {
		within, err := duration.Parse(c.ExpiresWithin)
		if wrong, ok := problem.As(err); ok {
			wrong.Field = "expires-within"
			return wrong
		}
		f.ExpiresBefore = s.now().Add(within.Std())
	}
	return certificates().list(s, c.listing, "/certificates", f.Query())
}

type listVersions struct {
	listing
	Certificate string `arg:"" complete:"certificate" help:"The certificate."`
}

// Run lists the versions of a certificate.
func (c listVersions) Run(s *session) error {
	return versions().list(s, c.listing, client.Path("certificates", c.Certificate, "versions"), nil)
}

type listEvents struct {
	listing
	Certificate string `arg:"" complete:"certificate" help:"The certificate."`
}

// Run lists the events of a certificate.
func (c listEvents) Run(s *session) error {
	return events().list(s, c.listing, client.Path("certificates", c.Certificate, "events"), nil)
}

type listOrders struct {
	listing
	Certificate string `placeholder:"NAME" complete:"certificate" help:"Only for this certificate."`
	Agent       string `placeholder:"NAME" complete:"agent" help:"Only for this agent."`
	State       string `placeholder:"STATE" help:"Only in this state: pending, signing, issued, done, failed or cancelled."`
}

// Run lists orders.
func (c listOrders) Run(s *session) error {
	f := client.OrderFilter{Certificate: c.Certificate, Agent: c.Agent, State: c.State}
	return orders().list(s, c.listing, "/orders", f.Query())
}

type listDeployments struct {
	listing
	Certificate string `placeholder:"NAME" complete:"certificate" help:"Only of this certificate."`
	Target      string `placeholder:"NAME" complete:"target" help:"Only to this target."`
	Agent       string `placeholder:"NAME" complete:"agent" help:"Only by this agent."`
	Order       string `placeholder:"ID" help:"Only of this order."`
	State       string `placeholder:"STATE" help:"Only in this state: pending, running, done, failed or cancelled."`
}

// Run lists deployments.
func (c listDeployments) Run(s *session) error {
	f := client.DeploymentFilter{Certificate: c.Certificate, Target: c.Target, Agent: c.Agent, Order: c.Order, State: c.State}
	return deployments().list(s, c.listing, "/deployments", f.Query())
}

type listTargets struct {
	listing
	Agent       string `placeholder:"NAME" complete:"agent" help:"Only on this agent."`
	Kind        string `placeholder:"KIND" help:"Only of this kind: file, nginx, haproxy, exec or kubernetes."`
	Certificate string `placeholder:"NAME" complete:"certificate" help:"Only for this certificate."`
}

// Run lists targets.
func (c listTargets) Run(s *session) error {
	f := client.TargetFilter{Agent: c.Agent, Kind: c.Kind, Certificate: c.Certificate}
	return targets().list(s, c.listing, "/targets", f.Query())
}

type listAgents struct{ listing }

// Run lists agents.
func (c listAgents) Run(s *session) error { return agents().list(s, c.listing, "/agents", nil) }

type listProfiles struct{ listing }

// Run lists profiles.
func (c listProfiles) Run(s *session) error { return profiles().list(s, c.listing, "/profiles", nil) }

type listIssuers struct{ listing }

// Run lists issuers.
func (c listIssuers) Run(s *session) error { return issuers().list(s, c.listing, "/issuers", nil) }

type listJobs struct {
	listing
	Kind      string   `placeholder:"KIND" help:"Only of this kind."`
	State     []string `placeholder:"STATE" help:"Only in this state; may be given several times. By default in any but completed."`
	Completed bool     `help:"Completed ones, too."`
}

// notCompleted are the states of jobs that somebody may want to see: a server
// completes some every few seconds.
var notCompleted = []string{"available", "cancelled", "discarded", "pending", "retryable", "running", "scheduled"}

// Run lists jobs.
func (c listJobs) Run(s *session) error {
	states := c.State
	if len(states) == 0 && !c.Completed {
		states = notCompleted
	}
	return jobs().list(s, c.listing, "/jobs", client.JobFilter{Kind: c.Kind, States: states}.Query())
}

type listTokens struct{ listing }

// Run lists enrolment tokens.
func (c listTokens) Run(s *session) error {
	return tokens().list(s, c.listing, "/enrolment-tokens", nil)
}

type listAPIKeys struct{ listing }

// Run lists API keys.
func (c listAPIKeys) Run(s *session) error { return apiKeys().list(s, c.listing, "/api-keys", nil) }

type listAudit struct {
	listing
	Actor  string `placeholder:"ID" help:"Only by this user or agent."`
	Action string `placeholder:"ACTION" help:"Only this action, such as certificate.create."`
	Object string `placeholder:"ID" help:"Only about this object."`
}

// Run lists audit events.
func (c listAudit) Run(s *session) error {
	f := client.AuditFilter{Actor: c.Actor, Action: c.Action, ObjectID: c.Object}
	return auditEvents().list(s, c.listing, "/audit-events", f.Query())
}
