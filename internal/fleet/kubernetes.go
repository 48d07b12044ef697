package fleet

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/kube"
	"github.com/certctl-io/certctl/internal/problem"
)

// Kubernetes finds out which pod a ServiceAccount token belongs to.
type Kubernetes interface {
	Review(ctx context.Context, token string) (kube.Pod, error)
}

// binding is what the name of an agent was when it joined from a pod.
type binding string

const (
	boundToNode    binding = "node"    // the name of the pod's node: one agent for each node
	boundToPod     binding = "pod"     // the pod's own name
	boundToAccount binding = "account" // any other: every pod of the ServiceAccount can be the agent
)

// identity is by what an agent is known that joined from a pod: the
// ServiceAccount and the name that the agent gave itself. Slashes are in
// neither. The name stays when the agent is renamed on the server.
func identity(namespace, serviceAccount string, b binding, name string) string {
	return strings.Join([]string{namespace, serviceAccount, string(b), name}, "/")
}

// identityOf is the identity of an agent that joins from a pod under a name.
func identityOf(pod kube.Pod, name string) string {
	b := boundToAccount
	switch name {
	case pod.Node:
		b = boundToNode
	case pod.Name:
		b = boundToPod
	}
	return identity(pod.Namespace, pod.ServiceAccount, b, name)
}

// identities are those that an agent with this name and ServiceAccount can have.
func identities(namespace, serviceAccount, name string) [3]string {
	return [3]string{
		identity(namespace, serviceAccount, boundToNode, name),
		identity(namespace, serviceAccount, boundToPod, name),
		identity(namespace, serviceAccount, boundToAccount, name),
	}
}

// mayBeFrom refuses a pod that is not the agent's. An agent that is bound to a
// node or a pod comes from there only; one that is not may be from now on.
func (a Agent) mayBeFrom(pod kube.Pod, name string) error {
	switch *a.KubernetesIdentity {
	case identity(pod.Namespace, pod.ServiceAccount, boundToAccount, name), identityOf(pod, name):
		return nil
	}
	return problem.Forbidden("the agent %s joined as %s, and this pod is not from there: it is %s/%s on node %q",
		a.Name, *a.KubernetesIdentity, pod.Namespace, pod.Name, pod.Node).
		Hint("give each agent the name of its own node or pod")
}

// from finds out from which pod an agent asks to join; nil when it does not say
// so or this server does not ask Kubernetes. Kubernetes is asked for those only
// who may join with their enrolment token, or who name an agent that can come
// in again.
func (s *Service) from(ctx context.Context, r agentapi.EnrollRequest, token EnrolmentToken, refused error, now time.Time) (*kube.Pod, error) {
	if r.KubernetesToken == "" || s.kubernetes == nil {
		return nil, refused
	}
	if refused != nil || token.admit(now) != nil {
		namespace, account, _ := kube.Claimed(r.KubernetesToken)
		_, err := agentByKubernetes(ctx, s.db.Read(), identities(namespace, account, r.Name), r.Name, "")
		if db.IsNoRows(err) {
			return nil, refused
		}
		if err != nil {
			return nil, fmt.Errorf("look for agent %s: %w", r.Name, err)
		}
	}
	pod, err := s.kubernetes.Review(ctx, r.KubernetesToken)
	if err != nil {
		if p, told := problem.As(err); told && p.Cause != nil {
			s.log.ErrorContext(ctx, "the Kubernetes token of an agent cannot be reviewed", "name", r.Name, "error", p.Cause, "remedy", p.Remedy)
		}
		return nil, err
	}
	return &pod, nil
}

// known finds the agent that a pod may be, and lets it in again.
func (s *Service) known(ctx context.Context, tx *db.Tx, r agentapi.EnrollRequest, pod kube.Pod) (agent Agent, found bool, err error) {
	agent, err = agentByKubernetes(ctx, tx, identities(pod.Namespace, pod.ServiceAccount, r.Name), r.Name, tx.ForUpdate())
	if db.IsNoRows(err) {
		return Agent{}, false, nil
	}
	if err != nil {
		return Agent{}, false, fmt.Errorf("read agent %s: %w", r.Name, err)
	}
	if err := agent.admit(); err != nil {
		return Agent{}, true, err
	}
	if err := agent.mayBeFrom(pod, r.Name); err != nil {
		return Agent{}, true, err
	}
	if bytes.Equal(agent.PublicKey, r.PublicKey) {
		return agent, true, nil // it has not heard the answer
	}
	err = s.comeBack(ctx, tx, &agent, r, pod)
	return agent, true, err
}

// comeBack gives an agent that has lost its key the one that it has now. What
// signs with the old one is refused from here on, a poll that waits included;
// tasks are delivered anew, and what needs the keys that were lost with it is
// for others to begin again.
func (s *Service) comeBack(ctx context.Context, tx *db.Tx, agent *Agent, r agentapi.EnrollRequest, pod kube.Pod) error {
	now := s.now()
	before := agentView(*agent, now)
	bound := identityOf(pod, r.Name)
	agent.PublicKey, agent.KubernetesIdentity = r.PublicKey, &bound
	agent.Version, agent.OS = clip(r.Version), clip(r.OS)
	agent.Revision++
	agent.UpdatedAt = now
	if err := replaceKey(ctx, tx, *agent); err != nil {
		return fmt.Errorf("replace the key of agent %s: %w", agent.ID, err)
	}
	if err := endLeases(ctx, tx, agent.ID); err != nil {
		return fmt.Errorf("end the leases of agent %s: %w", agent.ID, err)
	}
	for _, again := range s.returners {
		if err := again(ctx, tx, agent.ID); err != nil {
			return fmt.Errorf("begin the work of agent %s again: %w", agent.ID, err)
		}
	}
	if err := wake(ctx, tx, agent.ID); err != nil {
		return err
	}
	return audit.Append(asAgent(ctx, *agent), tx, audit.Change{
		Action: "agent.rejoin", ObjectKind: "agent", ObjectID: agent.ID, Before: before, After: agentView(*agent, now),
	})
}
