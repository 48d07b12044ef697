package agentcmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/version"
)

// maxTokenFile is more than any enrolment token has.
const maxTokenFile = 4096

// joinFlags say which server to join, and as what.
type joinFlags struct {
	stateFlag
	Server     string            `env:"CERTCTL_AGENT_SERVER" placeholder:"URL" help:"URL of the server, such as https://certctl.example.com:8443."`
	CASHA256   string            `name:"ca-sha256" env:"CERTCTL_AGENT_CA_SHA256" placeholder:"FINGERPRINT" xor:"trust" help:"SHA-256 fingerprint of the server's CA, as the server prints it at its start. The server is trusted by nothing else then."`
	CAFile     string            `name:"ca-file" env:"CERTCTL_AGENT_CA_FILE" placeholder:"FILE" xor:"trust" help:"PEM file of CAs to trust instead of the system's; of several, separated by commas, the first that is there and not empty. While the agent runs, it is read again before each request."`
	Token      secret.String     `env:"CERTCTL_AGENT_TOKEN" placeholder:"TOKEN" xor:"token" help:"Enrolment token. As a flag every user of this host can read it: use the variable or --token-file."`
	TokenFile  string            `env:"CERTCTL_AGENT_TOKEN_FILE" placeholder:"FILE" xor:"token" help:"File that holds the enrolment token; - for the standard input."`
	Kubernetes string            `name:"kubernetes-token" env:"CERTCTL_AGENT_KUBERNETES_TOKEN_FILE" placeholder:"FILE" help:"File with a token of the ServiceAccount that this pod runs as, made for the server's audience. An agent that has lost its state comes in again by it, as the same agent."`
	Name       string            `env:"CERTCTL_AGENT_NAME" placeholder:"NAME" help:"Name of the agent on the server. Default: the host's name."`
	Label      map[string]string `env:"CERTCTL_AGENT_LABELS" mapsep:"," placeholder:"KEY=VALUE" help:"Label of the agent; may be repeated. Those of the enrolment token win."`
}

// enrollCmd joins a server.
type enrollCmd struct {
	joinFlags
	Force bool `help:"Leave behind the agent that the state directory holds, and join as a new one."`
}

// Help is the long help of the command.
func (enrollCmd) Help() string {
	return `The agent makes a key that is its identity, checks that the server is the one that is meant, and joins with an enrolment token, which
"certctl tokens create" makes. Repeating the command is safe: whoever has joined stays the same agent.

Examples:
  CERTCTL_AGENT_TOKEN=cet_... certctl-agent enroll --server https://certctl.example.com:8443 --ca-sha256 5f3c...
  certctl-agent enroll --server certctl.example.com:8443 --token-file /run/secrets/token --name web-1 --label env=prod`
}

// Run joins the server.
func (c enrollCmd) Run(s *session) error {
	before, _ := agent.ReadIdentity(c.State)
	enrolment, err := c.enrolment(s.in)
	if err != nil {
		return err
	}
	enrolment.Force = c.Force
	identity, err := agent.Enroll(s.ctx, enrolment)
	if err != nil {
		return err
	}
	if identity.AgentID == before.AgentID {
		_, err = fmt.Fprintf(s.out, "Enrolled already as %s (%s) with %s.\n", identity.Name, identity.AgentID, identity.Server)
		return err
	}
	_, err = fmt.Fprintf(s.out, "Enrolled as %s (%s) with %s.\n", identity.Name, identity.AgentID, identity.Server)
	return err
}

// enrolment reads the flags, and the files that they name.
func (f joinFlags) enrolment(stdin io.Reader) (agent.Enrolment, error) {
	e := agent.Enrolment{
		StateDir: f.State, Server: f.Server, Token: f.Token, CASHA256: f.CASHA256, CAFile: f.CAFile, Name: f.Name, Labels: f.Label,
		KubernetesTokenFile: f.Kubernetes, Version: version.String(), Now: time.Now,
	}
	if err := f.checkState(); err != nil {
		return e, err
	}
	if f.TokenFile == "" {
		return e, nil
	}
	var err error
	e.Token, err = readToken(f.TokenFile, stdin)
	return e, err
}

func (f stateFlag) checkState() error {
	if f.State != "" {
		return nil
	}
	return problem.Invalid("state", "there is no default, because this user has no home directory").
		Hint("name a directory that survives restarts, with --state or CERTCTL_AGENT_STATE")
}

func readToken(path string, stdin io.Reader) (secret.String, error) {
	source := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return secret.String{}, problem.Invalid("token-file", "it cannot be read: %v", err)
		}
		defer func() { _ = file.Close() }()
		source = file
	}
	text, err := io.ReadAll(io.LimitReader(source, maxTokenFile))
	if err != nil {
		return secret.String{}, problem.Invalid("token-file", "it cannot be read: %v", err)
	}
	return secret.New(strings.TrimSpace(string(text))), nil
}

// retryEvery is how long to wait for a server that is not there yet.
const retryEvery = 3 * time.Second

// join enrols, and waits for a server that is away: agents often start before
// their server.
func join(ctx context.Context, e agent.Enrolment, report func(err error, again time.Duration)) error {
	for {
		_, err := agent.Enroll(ctx, e)
		if problem.KindOf(err) != problem.KindTemporary || ctx.Err() != nil {
			return err
		}
		report(err, retryEvery)
		timer := time.NewTimer(retryEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
