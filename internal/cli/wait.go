package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// What is waited for often takes well under a second, so the first looks
	// come quickly after each other.
	firstLook = 50 * time.Millisecond
	slowest   = time.Second
)

type waitCmd struct {
	object
	For string `placeholder:"STATE" help:"What to wait for: active for a certificate, done for an order or a deployment, online for an agent."`
}

// Help is the long help of the command.
func (waitCmd) Help() string {
	return `It ends with exit code 0 when that is so, 7 when it cannot become so any more, and 8 when the time is up (5m, or --timeout).

Examples:
  certctl wait certificate www.example.com --timeout 2m
  certctl wait agent web-1
  certctl renew www.example.com -o name | xargs -n1 certctl wait order`
}

// Run waits for the object.
func (c waitCmd) Run(s *session) error {
	k, ref, err := c.find()
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	waits := map[string]struct {
		state string // that can be asked for
		said  string // when it is reached
		wait  func(*client.Client, string) error
	}{
		"certificate": {"active", "served", func(api *client.Client, ref string) error { return s.waitForCertificate(api, ref, s.now()) }},
		"order":       {"done", "done", func(api *client.Client, ref string) error { return s.waitForOrders(api, "", []string{ref}, s.now()) }},
		"deployment": {"done", "done", func(api *client.Client, ref string) error {
			return s.waitForDeployments(api, "", []string{ref}, s.now())
		}},
		"agent": {"online", "online", s.waitForAgent},
	}
	w, ok := waits[k.name]
	if !ok {
		return problem.Invalid("", "there is nothing to wait for with %s", article(k.name)).
			Hint("wait for a certificate, an order, a deployment or an agent")
	}
	if c.For != "" && c.For != w.state {
		return problem.Invalid("for", "%q cannot be waited for", c.For).Hint("%s is waited for until it is %s", article(k.name), w.state)
	}
	if err := w.wait(api, ref); err != nil {
		return err
	}
	return s.reportDone(ref, "%s %s is %s", k.name, ref, w.said)
}

// look asks the server how far something is. It returns done when there is
// nothing more to wait for, else a word on what is still missing.
type look func(ctx context.Context) (done bool, missing string, err error)

// waitUntil looks again and again until it is done, fails, or the time is up.
// A server that is away for a while is waited for, too.
func (s *session) waitUntil(look look, progress *progress) error {
	ctx := s.ctx
	if s.Timeout == 0 {
		limited, cancel := context.WithTimeout(ctx, defaultWait)
		defer cancel()
		ctx = limited
	}
	missing := "the server has not answered"
	for pause := firstLook; ; pause = min(pause*3/2, slowest) {
		done, now, err := look(ctx)
		if now != "" {
			missing = now
		}
		if ctx.Err() == nil {
			progress.show(ctx)
		}
		switch {
		case done && err == nil:
			return nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return &timeoutError{"the time is up: " + missing, "give more time with --timeout"}
		case err != nil && problem.KindOf(err) != problem.KindTemporary:
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// waitForCertificate waits until a certificate is served everywhere. Progress
// is told from the time started on.
func (s *session) waitForCertificate(api *client.Client, ref string, started time.Time) error {
	return s.waitUntil(func(ctx context.Context) (bool, string, error) {
		c, err := api.Certificate(ctx, ref)
		if err != nil {
			return false, "", err
		}
		switch c.Status {
		case "active", "expiring":
			return true, "", nil
		case "pending":
			return false, c.StatusReason, nil
		case "unassigned", "archived":
		default:
			// A new version may be on its way that makes up for what is wrong.
			if open, err := s.openOrder(ctx, api, c); err != nil || open != "" {
				return false, open, err
			}
		}
		switch c.Status {
		case "failing":
			return false, "", s.whyFailing(ctx, api, c)
		default:
			return false, "", &failedError{
				message: fmt.Sprintf("certificate %s is %s: %s", c.Name, c.Status, c.StatusReason),
				remedy:  "certctl describe certificate " + c.Name,
			}
		}
	}, s.progressOf(api, ref, started))
}

// openOrder says what the newest order of a certificate waits for, and nothing
// when it waits for nothing.
func (s *session) openOrder(ctx context.Context, api *client.Client, c client.Certificate) (string, error) {
	newest, err := take(api.Orders(ctx, client.OrderFilter{Certificate: c.ID}), 1)
	if err != nil || len(newest) == 0 {
		return "", err
	}
	switch newest[0].State {
	case "pending", "signing", "issued":
		return s.missingOf(ctx, api, newest[0])
	default:
		return "", nil
	}
}

// whyFailing finds the order that made a certificate fail.
func (s *session) whyFailing(ctx context.Context, api *client.Client, c client.Certificate) error {
	failed, err := take(api.Orders(ctx, client.OrderFilter{Certificate: c.ID, State: "failed"}), 1)
	if err != nil {
		return err
	}
	if len(failed) == 1 {
		return s.failedOrder(ctx, api, failed[0])
	}
	return &failedError{
		message: fmt.Sprintf("certificate %s is failing: %s", c.Name, c.StatusReason),
		remedy:  "certctl describe certificate " + c.Name,
	}
}

// waitForOrders waits until all orders of a certificate are done; an empty
// certificate is found through the first order.
func (s *session) waitForOrders(api *client.Client, certificate string, ids []string, started time.Time) error {
	if certificate == "" {
		first, err := api.Order(s.ctx, ids[0])
		if err != nil {
			return err
		}
		certificate = first.Certificate
	}
	open := slices.Clone(ids)
	return s.waitUntil(func(ctx context.Context) (bool, string, error) {
		for len(open) > 0 {
			o, err := api.Order(ctx, open[0])
			if err != nil {
				return false, "", err
			}
			switch o.State {
			case "done":
				open = open[1:]
			case "failed", "cancelled":
				return false, "", s.failedOrder(ctx, api, o)
			default:
				missing, err := s.missingOf(ctx, api, o)
				return false, missing, err
			}
		}
		return true, "", nil
	}, s.progressOf(api, certificate, started))
}

// missingOf says what an order waits for: once it is issued, for deployments,
// which tell why they are tried again.
func (s *session) missingOf(ctx context.Context, api *client.Client, o client.Order) (string, error) {
	missing := fmt.Sprintf("order %s is %s", o.ID, o.State)
	switch {
	case o.StateReason != "":
		missing += ": " + o.StateReason
	case o.State == "pending":
		missing += ": agent " + o.Agent + " has not sent its certificate request"
	}
	if o.State != "issued" {
		return missing, nil
	}
	deployed, err := take(api.Deployments(ctx, client.DeploymentFilter{Order: o.ID}), 100)
	if err != nil {
		return missing, err
	}
	for _, d := range deployed {
		if d.State != "done" && d.StateReason != "" {
			return fmt.Sprintf("deployment to %s is %s: %s", d.Target, d.State, d.StateReason), nil
		}
	}
	return missing, nil
}

// failedOrder tells why an order did not end well, with the output of the step
// that failed.
func (s *session) failedOrder(ctx context.Context, api *client.Client, o client.Order) error {
	message := fmt.Sprintf("order %s of %s on %s is %s", o.ID, o.Certificate, o.Agent, o.State)
	if o.StateReason != "" {
		message += ": " + o.StateReason
	}
	failed, err := take(api.Deployments(ctx, client.DeploymentFilter{Order: o.ID, State: "failed"}), 1)
	if err == nil && len(failed) == 1 {
		message += failedSteps(failed[0])
	}
	remedy := "certctl describe order " + o.ID
	if o.State == "failed" {
		remedy += "; when it is mended: certctl orders retry " + o.ID
	}
	return &failedError{message, remedy}
}

// failedSteps gives the output of the steps that failed, as further lines of a
// message.
func failedSteps(d client.Deployment) string {
	if d.Report == nil {
		return ""
	}
	var b strings.Builder
	for _, step := range d.Report.Steps {
		if step.OK {
			continue
		}
		for line := range strings.Lines(strings.TrimSpace(step.Output)) {
			fmt.Fprintf(&b, "\n  %s: %s", step.Name, printable(strings.TrimRight(line, "\n")))
		}
	}
	return b.String()
}

// waitForDeployments waits until all deployments of a certificate are done; an
// empty certificate is found through the first deployment.
func (s *session) waitForDeployments(api *client.Client, certificate string, ids []string, started time.Time) error {
	if certificate == "" {
		first, err := api.Deployment(s.ctx, ids[0])
		if err != nil {
			return err
		}
		certificate = first.Certificate
	}
	open := slices.Clone(ids)
	return s.waitUntil(func(ctx context.Context) (bool, string, error) {
		for len(open) > 0 {
			d, err := api.Deployment(ctx, open[0])
			if err != nil {
				return false, "", err
			}
			switch d.State {
			case "done":
				open = open[1:]
			case "failed", "cancelled":
				message := fmt.Sprintf("deployment %s to %s is %s: %s", d.ID, d.Target, d.State, d.StateReason)
				return false, "", &failedError{message + failedSteps(d), "certctl describe deployment " + d.ID}
			default:
				missing := fmt.Sprintf("deployment %s to %s is %s", d.ID, d.Target, d.State)
				if d.StateReason != "" {
					missing += ": " + d.StateReason
				}
				return false, missing, nil
			}
		}
		return true, "", nil
	}, s.progressOf(api, certificate, started))
}

// waitForAgent waits until an agent has joined and is there.
func (s *session) waitForAgent(api *client.Client, ref string) error {
	return s.waitUntil(func(ctx context.Context) (bool, string, error) {
		a, err := api.Agent(ctx, ref)
		switch {
		case problem.KindOf(err) == problem.KindNotFound:
			return false, fmt.Sprintf("agent %s has not joined", ref), nil
		case err != nil:
			return false, "", err
		case a.Status == "revoked":
			return false, "", &failedError{fmt.Sprintf("agent %s is revoked", a.Name), "enrol the host anew"}
		default:
			return a.Status == "online", fmt.Sprintf("agent %s is %s", a.Name, spaced(a.Status)), nil
		}
	}, nil)
}

// progress tells a person what happens to a certificate while a command waits.
type progress struct {
	s           *session
	api         *client.Client
	certificate string
	started     time.Time
	seen        map[string]bool
}

// progressOf gives nil, which tells nothing, where nobody looks on.
func (s *session) progressOf(api *client.Client, certificate string, started time.Time) *progress {
	if !s.err.tty || !s.forPeople() {
		return nil
	}
	return &progress{s: s, api: api, certificate: certificate, started: started, seen: map[string]bool{}}
}

// show prints the events since the command started that it has not printed yet.
// It is a courtesy: when the server does not answer, the wait itself finds out.
func (p *progress) show(ctx context.Context) {
	if p == nil {
		return
	}
	var fresh []client.Event
	for e, err := range p.api.Events(ctx, p.certificate) {
		if err != nil || e.At.Before(p.started) {
			break
		}
		if !p.seen[e.ID] {
			p.seen[e.ID] = true
			fresh = append(fresh, e)
		}
	}
	for _, e := range slices.Backward(fresh) {
		after := fmt.Sprintf("%8s", took(e.At.Sub(p.started)))
		fmt.Fprintf(p.s.err, "%s  %s\n", p.s.err.paint(after, faint), p.s.err.paint(printable(e.Message), eventTone(e.Kind)))
	}
}
