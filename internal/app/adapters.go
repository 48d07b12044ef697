package app

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/fleet"
	"github.com/certctl-io/certctl/internal/issuance"
	"github.com/certctl-io/certctl/internal/issuer"
	"github.com/certctl-io/certctl/internal/issuers/local"
	"github.com/certctl-io/certctl/internal/status"
)

// The types here give parts of one feature the form that another one asks for.

// localIssuers is the built-in CA as a driver of issuers.
type localIssuers struct{ *local.Local }

// Open implements issuer.Driver.
func (l localIssuers) Open(ctx context.Context, issuerID string, _ json.RawMessage) (issuer.CA, error) {
	authority, err := l.Local.Open(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	return authority, nil
}

var _ issuer.Founder = localIssuers{}

// localAuthorities gives the status service the CAs whose status we serve.
type localAuthorities struct{ ca *local.Local }

// Authority implements status.Authorities.
func (l localAuthorities) Authority(ctx context.Context, issuerID string) (status.Authority, error) {
	authority, err := l.ca.Open(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	return authority, nil
}

// resolver gives issuance the CA of an issuer.
func resolver(issuers *issuer.Service) func(context.Context, string) (issuance.CA, error) {
	return func(ctx context.Context, issuerID string) (issuance.CA, error) {
		ca, err := issuers.Resolve(ctx, issuerID)
		if err != nil {
			return nil, err
		}
		return ca, nil
	}
}

// agentTasks is the fleet's tasks in the words of issuance and deployment.
type agentTasks struct{ tasks *fleet.Tasks }

// RequestCSR asks an agent for the certificate request of an order.
func (t agentTasks) RequestCSR(ctx context.Context, tx *db.Tx, agentID, orderID string, notBefore time.Time) error {
	return t.tasks.Add(ctx, tx, fleet.Task{
		AgentID: agentID, Kind: agentapi.TaskCSR, SubjectID: orderID, Lane: orderID, NotBefore: notBefore,
	})
}

// FinishCSR ends that.
func (t agentTasks) FinishCSR(ctx context.Context, tx *db.Tx, orderID string) error {
	return t.tasks.Finish(ctx, tx, agentapi.TaskCSR, orderID)
}

// Deploy asks an agent to carry out a deployment.
func (t agentTasks) Deploy(ctx context.Context, tx *db.Tx, agentID, deploymentID, targetID string, notBefore time.Time) error {
	return t.tasks.Add(ctx, tx, fleet.Task{
		AgentID: agentID, Kind: agentapi.TaskDeploy, SubjectID: deploymentID, Lane: targetID, NotBefore: notBefore,
	})
}

// FinishDeploy ends that.
func (t agentTasks) FinishDeploy(ctx context.Context, tx *db.Tx, deploymentID string) error {
	return t.tasks.Finish(ctx, tx, agentapi.TaskDeploy, deploymentID)
}
