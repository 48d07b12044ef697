package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// Enrolment says which server an agent is to join, and as what.
type Enrolment struct {
	StateDir string
	Server   string            // URL
	Token    secret.String     // enrolment token
	CASHA256 string            // fingerprint of the server's CA to pin; empty to verify by CAs
	CAs      string            // PEM of the CAs to trust; empty for the system's
	CAFile   string            // file to read them from, see netx.ReadCAFile
	Name     string            // of the agent; empty for the host's name
	Labels   map[string]string // of the agent
	Force    bool              // leave behind the agent that the state directory holds
	Version  string
	Now      func() time.Time

	// KubernetesTokenFile holds a token of the ServiceAccount that this pod runs
	// as. An agent that has lost its state comes in again by it.
	KubernetesTokenFile string

	Transport http.RoundTripper // nil for connections that trust the server as said above
}

// Enroll joins a server and stores who the agent is from then on. Repeating it
// is safe: after a crash it ends in the same agent, and an agent that has joined
// this server is given back as it is, with the trust that is asked for now.
func Enroll(ctx context.Context, e Enrolment) (Identity, error) {
	wanted, err := e.identity()
	if err != nil {
		return Identity{}, err
	}
	release, err := lockState(e.StateDir)
	if err != nil {
		return Identity{}, err
	}
	defer release()

	identity, err := e.resume(wanted)
	if err != nil || identity.Enrolled() {
		return identity, err
	}
	if identity, err = e.prepare(identity); err != nil {
		return Identity{}, err
	}
	return e.join(ctx, identity)
}

// identity is what can be said of the agent before it has joined.
func (e Enrolment) identity() (Identity, error) {
	server, err := parseServer(e.Server)
	if err != nil {
		return Identity{}, err
	}
	wanted := Identity{Server: server.String(), CAs: e.CAs}
	if e.CAFile != "" {
		text, err := netx.ReadCAFile(e.CAFile)
		if err != nil {
			return Identity{}, problem.Invalid("ca-file", "it cannot be read: %v", err)
		}
		wanted.CAs = string(text)
	}
	if e.CASHA256 != "" {
		if wanted.CASHA256, err = netx.ParseFingerprint(e.CASHA256); err != nil {
			return Identity{}, err
		}
	}
	return wanted, nil
}

// resume finds out how far an enrolment has come: it gives the agent that has
// joined this server already, or one that is about to.
func (e Enrolment) resume(wanted Identity) (Identity, error) {
	stored, err := ReadIdentity(e.StateDir)
	var absent *NotEnrolledError
	switch {
	case errors.As(err, &absent):
	case e.Force: // whatever there is
	case err != nil:
		return Identity{}, err
	case stored.Enrolled() && stored.Server == wanted.Server:
		return e.trust(stored, wanted)
	case stored.Enrolled():
		return Identity{}, problem.Conflict("the agent %s in %s belongs to the server %s already", stored.Name, e.StateDir, stored.Server).
			Hint("use another state directory, or --force to leave that server for good")
	case stored.Server == wanted.Server:
		wanted.key = stored.key // it may be known to the server without our knowing
	}
	return wanted, nil
}

// trust takes over another CA for the server, when one is asked for.
func (e Enrolment) trust(stored, wanted Identity) (Identity, error) {
	if wanted.CASHA256 == "" && wanted.CAs == "" || wanted.CASHA256 == stored.CASHA256 && wanted.CAs == stored.CAs {
		return stored, nil
	}
	stored.CASHA256, stored.CAs = wanted.CASHA256, wanted.CAs
	return stored, stored.write(e.StateDir)
}

// prepare makes the agent's key. It is on disk before the server hears of it.
func (e Enrolment) prepare(identity Identity) (Identity, error) {
	if e.Token.Empty() && e.KubernetesTokenFile == "" {
		return Identity{}, problem.Invalid("token", "there is no enrolment token").
			Hint("make one on the server with \"certctl tokens create\", and give it in CERTCTL_AGENT_TOKEN or with --token-file")
	}
	if identity.key == nil {
		var err error
		if _, identity.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return Identity{}, fmt.Errorf("make the agent's key: %w", err)
		}
	}
	return identity, identity.write(e.StateDir)
}

// join asks the server to let the agent in, and stores what it answers.
func (e Enrolment) join(ctx context.Context, identity Identity) (Identity, error) {
	client, err := newClient(identity, e.Version, e.Now, e.Transport)
	if err != nil {
		return Identity{}, err
	}
	name, err := e.name()
	if err != nil {
		return Identity{}, err
	}
	request := agentapi.MakeEnrollRequest(identity.key, e.Token.Reveal(), name, e.Now())
	if request.KubernetesToken, err = e.kubernetesToken(); err != nil {
		return Identity{}, err
	}
	request.Labels, request.Version, request.OS = e.Labels, e.Version, runtime.GOOS+"/"+runtime.GOARCH
	answer, err := client.enroll(ctx, request)
	if err != nil {
		return Identity{}, err
	}
	now := e.Now().UTC()
	identity.AgentID, identity.Name, identity.ServerID, identity.EnrolledAt = answer.AgentID, answer.Name, answer.ServerID, &now
	return identity, identity.write(e.StateDir)
}

// maxKubernetesToken is more than any ServiceAccount token has.
const maxKubernetesToken = 16 << 10

// kubernetesToken reads the token as it is now: Kubernetes replaces it while it
// is in date.
func (e Enrolment) kubernetesToken() (string, error) {
	if e.KubernetesTokenFile == "" {
		return "", nil
	}
	file, err := os.Open(e.KubernetesTokenFile)
	if err != nil {
		return "", problem.Invalid("kubernetes-token", "it cannot be read: %v", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxKubernetesToken))
	if err != nil {
		return "", problem.Invalid("kubernetes-token", "it cannot be read: %v", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func (e Enrolment) name() (string, error) {
	if e.Name != "" {
		return e.Name, nil
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "", problem.Invalid("name", "this host has no name").Hint("give the agent one with --name")
	}
	return name, nil
}
