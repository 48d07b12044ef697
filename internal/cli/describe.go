package cli

import (
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certctl-io/certctl/internal/client"
)

const (
	recentEvents      = 30 // of a timeline
	recentDeployments = 10
)

func describeCertificate(s *session, ref string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	c, err := api.Certificate(s.ctx, ref)
	if err != nil {
		return err
	}
	deployed, err := take(api.Deployments(s.ctx, client.DeploymentFilter{Certificate: c.ID}), 100)
	if err != nil {
		return err
	}
	placed, err := take(api.Targets(s.ctx, client.TargetFilter{Certificate: c.ID}), 100)
	if err != nil {
		return err
	}
	issued, err := take(api.Versions(s.ctx, c.ID), 10)
	if err != nil {
		return err
	}
	happened, err := take(api.Events(s.ctx, c.ID), recentEvents)
	if err != nil {
		return err
	}
	now := s.now()
	s.headline("certificate", c.Name, c.Status, c.StatusReason)
	writeFields(s.out, [][2]string{
		{"names", few(c.Names, 20)},
		{"common name", c.CommonName},
		{"profile", c.Profile},
		{"issuer", c.Issuer},
		{"key", c.KeyType},
		{"lifetime", c.Lifetime},
		{"expires", stampOf(c.NotAfter, now)},
		{"renews", renewsInFull(c, now)},
		{"owner", c.Owner},
		{"tags", pairs(c.Tags)},
		{"id", c.ID},
	})
	s.section("Targets")
	writeTargets(s, placed, deployed)
	if len(issued) > 0 {
		s.section("Versions")
		versions().table(s, issued)
	}
	s.section("Timeline")
	s.timeline(happened, failures(deployed))
	if len(happened) == recentEvents {
		fmt.Fprintf(s.out, "earlier: certctl list events %s --all\n", c.Name)
	}
	return nil
}

// writeTargets lists where a certificate goes and how its last deployment
// there went.
func writeTargets(s *session, placed []client.Target, deployed []client.Deployment) {
	if len(placed) == 0 {
		fmt.Fprintln(s.out, "none: the certificate is issued when it has a target")
		return
	}
	last := map[string]client.Deployment{} // by target
	for _, d := range deployed {
		if _, ok := last[d.Target]; !ok {
			last[d.Target] = d
		}
	}
	var rows [][]string
	for _, t := range placed {
		d, ok := last[t.Name]
		row := []string{t.Name, t.Agent, t.Kind, "", "", ""}
		if ok {
			row[3], row[4], row[5] = d.State, relative(d.UpdatedAt, s.now()), d.StateReason
		}
		rows = append(rows, row)
	}
	writeTable(s.out, []string{"NAME", "AGENT", "KIND", "STATE", "SINCE", "REASON"}, rows)
}

func renewsInFull(c client.Certificate, now time.Time) string {
	if !c.Renewal.Auto {
		return "by hand: certctl renew " + c.Name
	}
	return stampOf(c.RenewAt, now)
}

func describeOrder(s *session, ref string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	o, err := api.Order(s.ctx, ref)
	if err != nil {
		return err
	}
	deployed, err := take(api.Deployments(s.ctx, client.DeploymentFilter{Order: o.ID}), 100)
	if err != nil {
		return err
	}
	happened, err := s.orderEvents(api, o)
	if err != nil {
		return err
	}
	s.headline("order", o.ID, o.State, o.StateReason)
	writeFields(s.out, [][2]string{
		{"certificate", o.Certificate},
		{"agent", o.Agent},
		{"why", spaced(o.Reason)},
		{"attempts", strconv.Itoa(o.Attempts)},
		{"started", stampOf(&o.CreatedAt, s.now())},
		{"finished", stampOf(o.FinishedAt, s.now())},
		{"took", elapsed(o.CreatedAt, o.FinishedAt)},
		{"next try", stampOf(o.NextTryAt, s.now())},
		{"version", o.VersionID},
	})
	if len(deployed) > 0 {
		s.section("Deployments")
		deployments().table(s, deployed)
	}
	s.section("Timeline")
	s.timeline(happened, failures(deployed))
	return nil
}

// orderEvents picks an order's events from the timeline of its certificate.
func (s *session) orderEvents(api *client.Client, o client.Order) ([]client.Event, error) {
	var mine []client.Event
	for e, err := range api.Events(s.ctx, o.Certificate) {
		if err != nil {
			return nil, err
		}
		if e.At.Before(o.CreatedAt) {
			break
		}
		if e.OrderID == o.ID {
			mine = append(mine, e)
		}
	}
	return mine, nil
}

func describeDeployment(s *session, ref string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	d, err := api.Deployment(s.ctx, ref)
	if err != nil {
		return err
	}
	s.headline("deployment", d.ID, d.State, d.StateReason)
	outcome := ""
	if d.Report != nil {
		outcome = d.Report.Outcome
	}
	writeFields(s.out, [][2]string{
		{"certificate", d.Certificate},
		{"target", d.Target},
		{"agent", d.Agent},
		{"why", spaced(d.Reason)},
		{"outcome", spaced(outcome)},
		{"attempts", strconv.Itoa(d.Attempts)},
		{"started", stampOf(&d.CreatedAt, s.now())},
		{"finished", stampOf(d.FinishedAt, s.now())},
		{"took", elapsed(d.CreatedAt, d.FinishedAt)},
		{"next try", stampOf(d.NextTryAt, s.now())},
		{"version", d.VersionID},
		{"order", d.OrderID},
	})
	if d.Report != nil && len(d.Report.Steps) > 0 {
		s.section("Steps")
		s.steps(d.Report.Steps, true, "")
	}
	return nil
}

func describeTarget(s *session, ref string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	t, err := api.Target(s.ctx, ref)
	if err != nil {
		return err
	}
	deployed, err := take(api.Deployments(s.ctx, client.DeploymentFilter{Target: t.ID}), recentDeployments)
	if err != nil {
		return err
	}
	s.headline("target", t.Name, "", "")
	writeFields(s.out, [][2]string{
		{"agent", t.Agent},
		{"kind", t.Kind},
		{"certificate", t.Certificate},
		{"created", stampOf(&t.CreatedAt, s.now())},
		{"changed", stampOf(&t.UpdatedAt, s.now())},
		{"id", t.ID},
	})
	s.section("Settings")
	raw, err := json.Marshal(t.Settings)
	if err != nil {
		return fmt.Errorf("encode the settings: %w", err)
	}
	settings, err := yamlOf(raw)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s", settings)
	if len(deployed) > 0 {
		s.section("Deployments")
		deployments().table(s, deployed)
	}
	return nil
}

func describeAgent(s *session, ref string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	a, err := api.Agent(s.ctx, ref)
	if err != nil {
		return err
	}
	placed, err := take(api.Targets(s.ctx, client.TargetFilter{Agent: a.ID}), 100)
	if err != nil {
		return err
	}
	recent, err := take(api.Orders(s.ctx, client.OrderFilter{Agent: a.ID}), recentDeployments)
	if err != nil {
		return err
	}
	s.headline("agent", a.Name, a.Status, "")
	writeFields(s.out, [][2]string{
		{"labels", pairs(a.Labels)},
		{"version", a.Version},
		{"system", a.OS},
		{"joined", stampOf(&a.CreatedAt, s.now())},
		{"seen", stampOf(a.LastSeenAt, s.now())},
		{"revoked", stampOf(a.RevokedAt, s.now())},
		{"id", a.ID},
	})
	if len(placed) > 0 {
		s.section("Targets")
		targets().table(s, placed)
	}
	if len(recent) > 0 {
		s.section("Orders")
		orders().table(s, recent)
	}
	return nil
}

// headline says what is described and how it stands.
func (s *session) headline(kind, name, state, reason string) {
	line := kind + " " + name
	if state != "" {
		line += ": " + s.out.paint(state, toneOf(state))
	}
	switch first, _ := utf8.DecodeRuneInString(reason); {
	case reason == "":
	case unicode.IsUpper(first): // a sentence of its own
		line += ". " + printable(reason)
	default:
		line += ", " + printable(reason)
	}
	fmt.Fprintln(s.out, line)
}

func (s *session) section(title string) { fmt.Fprintf(s.out, "\n%s\n", title) }

// take reads the first objects of a list.
func take[T any](all iter.Seq2[T, error], n int) ([]T, error) {
	var out []T
	for item, err := range all {
		if err != nil {
			return nil, err
		}
		if out = append(out, item); len(out) == n {
			break
		}
	}
	return out, nil
}

// failures gives the deployments that failed by their id: the ones whose steps
// are worth showing in a timeline.
func failures(all []client.Deployment) map[string]client.Deployment {
	failed := map[string]client.Deployment{}
	for _, d := range all {
		if d.State == "failed" && d.Report != nil {
			failed[d.ID] = d
		}
	}
	return failed
}
