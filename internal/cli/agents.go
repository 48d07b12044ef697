package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

type agentsCmd struct {
	List   listAgents     `cmd:"" default:"withargs" help:"List agents and when they were last seen."`
	Label  agentLabelCmd  `cmd:"" help:"Set and remove labels of an agent."`
	Rename agentRenameCmd `cmd:"" help:"Give an agent another name."`
	Revoke agentRevokeCmd `cmd:"" help:"Refuse an agent from now on."`
}

type agentLabelCmd struct {
	Agent  string   `arg:"" complete:"agent" help:"Name or id of the agent."`
	Labels []string `arg:"" help:"KEY=VALUE sets a label, KEY- removes it."`
}

// Help is the long help of the command.
func (agentLabelCmd) Help() string {
	return `Examples:
  certctl agents label web-1 site=berlin old-label-`
}

// Run changes the labels.
func (c agentLabelCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	agent, err := api.Agent(s.ctx, c.Agent)
	if err != nil {
		return err
	}
	labels := map[string]string{}
	for key, value := range agent.Labels {
		labels[key] = value
	}
	for _, text := range c.Labels {
		key, value, set := strings.Cut(text, "=")
		old, removed := strings.CutSuffix(text, "-")
		switch {
		case set && key != "":
			labels[key] = value
		case removed && old != "":
			delete(labels, old)
		default:
			return problem.Invalid("labels", "%q is neither KEY=VALUE nor KEY-", text)
		}
	}
	if agent, err = api.UpdateAgent(s.ctx, agent.ID, agent.Revision, client.Patch{"labels": labels}); err != nil {
		return err
	}
	shown := pairs(agent.Labels)
	if shown == "" {
		shown = "none"
	}
	return agents().report(s, agent, "labels of %s: %s", agent.Name, shown)
}

type agentRenameCmd struct {
	Agent string `arg:"" complete:"agent" help:"Name or id of the agent."`
	Name  string `arg:"" help:"The new name."`
}

// Run renames the agent.
func (c agentRenameCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	agent, err := api.UpdateAgent(s.ctx, c.Agent, 0, client.Patch{"name": c.Name})
	if err != nil {
		return err
	}
	return agents().report(s, agent, "agent %s is now %s", c.Agent, agent.Name)
}

type agentRevokeCmd struct {
	Agent string `arg:"" complete:"agent" help:"Name or id of the agent."`
	Yes   bool   `short:"y" help:"Do not ask."`
}

// Help is the long help of the command.
func (agentRevokeCmd) Help() string {
	return `It is refused at once and its open work is ended. What it has deployed stays and is served; it is not renewed any more. To make its
certificates invalid, revoke them. The host can only come back as a new agent.`
}

// Run asks and revokes.
func (c agentRevokeCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	agent, err := api.Agent(s.ctx, c.Agent)
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := s.confirm(fmt.Sprintf("Type %s to revoke the agent for good:", agent.Name), agent.Name); err != nil {
			return err
		}
	}
	if agent, err = api.RevokeAgent(s.ctx, agent.ID); err != nil {
		return err
	}
	placed, err := take(api.Targets(s.ctx, client.TargetFilter{Agent: agent.ID}), 100)
	if err != nil {
		return err
	}
	return agents().report(s, agent, "agent %s is revoked%s", agent.Name, leftBehind(placed))
}

// leftBehind names the certificates that a revoked agent does not keep up any
// more.
func leftBehind(placed []client.Target) string {
	var names []string
	for _, t := range placed {
		if t.Certificate != "" && !slices.Contains(names, t.Certificate) {
			names = append(names, t.Certificate)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; not renewed there any more: " + few(names, 5)
}

type tokensCmd struct {
	List   listTokens     `cmd:"" default:"withargs" help:"List enrolment tokens."`
	Create tokenCreateCmd `cmd:"" help:"Make an enrolment token and print the command that uses it."`
	Revoke tokenRevokeCmd `cmd:"" help:"End an enrolment token; agents that joined with it stay."`
}

type tokenCreateCmd struct {
	Description string            `short:"d" placeholder:"TEXT" help:"What it is for."`
	MaxUses     int               `default:"1" placeholder:"N" help:"How many agents may join with it; 0 for any number."`
	Lifetime    string            `default:"24h" placeholder:"DURATION" help:"How long it works, such as 1h or 30d; 0 for no end."`
	Label       map[string]string `placeholder:"KEY=VALUE" help:"Label that agents get which join with it; may be given several times."`
}

// Help is the long help of the command.
func (tokenCreateCmd) Help() string {
	return `The token is shown only now. With it comes the command that makes a host an agent of this server.

Examples:
  certctl tokens create --label site=berlin
  certctl tokens create --max-uses 0 --lifetime 30d -d "golden image" -o json`
}

// madeToken is a new token as scripts get it: with the token, which its type
// otherwise hides, and with the command that uses it.
type madeToken struct {
	client.EnrolmentToken
	Token   string `json:"token"`
	Command string `json:"command"`
}

// Run makes the token.
func (c tokenCreateCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	spec := client.EnrolmentTokenSpec{Description: c.Description, Labels: c.Label, MaxUses: c.MaxUses, Lifetime: c.Lifetime}
	if spec.Lifetime == "0" {
		spec.Lifetime = ""
	}
	fingerprint, err := api.CAFingerprint(s.ctx)
	if err != nil {
		return err
	}
	token, err := api.CreateEnrolmentToken(s.ctx, spec)
	if err != nil {
		return err
	}
	info, err := api.Info(s.ctx)
	if err != nil {
		return err
	}
	command := enrolCommand(reachable(api.URL(), info.PublicURL), token.Token.Reveal(), fingerprint)
	if s.forPeople() {
		fmt.Fprintf(s.out, "Enrolment token %s %s. It is shown only now.\n\nOn the host, run:\n\n  %s\n  certctl-agent run\n",
			token.ID, tokenTerms(token, s), command)
		return nil
	}
	raw, err := json.Marshal(madeToken{token, token.Token.Reveal(), command})
	if err != nil {
		return fmt.Errorf("encode the token: %w", err)
	}
	return tokens().printOne(s, raw)
}

// reachable gives the URL for another host: that of the login, unless it is one
// for this machine only.
func reachable(login, public string) string {
	u, err := url.Parse(login)
	if err != nil || public == "" {
		return login
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return public
	}
	return login
}

func enrolCommand(server, token, fingerprint string) string {
	// Others see the arguments of a process, but not its environment.
	command := "CERTCTL_AGENT_TOKEN=" + token + " certctl-agent enroll --server " + server
	if fingerprint != "" {
		command += " --ca-sha256 " + fingerprint
	}
	return command
}

func tokenTerms(t client.EnrolmentToken, s *session) string {
	uses := "for any number of agents"
	switch {
	case t.MaxUses == 1:
		uses = "for one agent"
	case t.MaxUses > 1:
		uses = fmt.Sprintf("for %d agents", t.MaxUses)
	}
	if t.ExpiresAt == nil {
		return uses + ", without an end"
	}
	return uses + ", good until " + stampOf(t.ExpiresAt, s.now())
}

type tokenRevokeCmd struct {
	ID string `arg:"" help:"Id of the enrolment token."`
}

// Run ends the token.
func (c tokenRevokeCmd) Run(s *session) error {
	return s.revokeByID("enrolment token", c.ID, (*client.Client).RevokeEnrolmentToken)
}

// revokeByID ends a credential of which only its id is known.
func (s *session) revokeByID(what, id string, revoke func(*client.Client, context.Context, string) error) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := revoke(api, s.ctx, id); err != nil {
		return err
	}
	return s.reportDone(id, "%s %s is revoked", what, id)
}
