// Package agentapi is what a server and its agents say to each other: the
// paths, the JSON bodies, the token that signs each request, and the proof that
// joins a new agent. Both sides import it, so it knows neither the database nor
// the agent's runtime.
//
// An agent joins once (EnrollRequest) with an enrolment token and the public
// half of a key that it made for the purpose. From then on every request
// carries a token that the agent signs with that key (SignToken), good for one
// request within a minute. Work is fetched by a long poll (PollRequest) and
// answered on the path of what was worked on: a CSR for an order, a report for
// a deployment.
//
// The bodies may grow: both sides ignore fields that they do not know.
package agentapi

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
)

// BasePath is where the API starts on a server. The other paths are relative
// to it.
const BasePath = "/api/v1"

// The operations that agents call, all with POST.
const (
	PathEnroll           = "/agent/enroll"                  // EnrollRequest to EnrollResponse; the only one without a token
	PathPoll             = "/agent/poll"                    // PollRequest to PollResponse
	PathOrderCSR         = "/agent/orders/{id}/csr"         // CSRSubmission
	PathOrderFailure     = "/agent/orders/{id}/failure"     // TaskFailure
	PathDeploymentResult = "/agent/deployments/{id}/result" // targets.Report
	PathTargetKept       = "/agent/targets/{id}/kept"       // no body: whether the target is still to stay as it was deployed
)

// WithID fills the id of an order, a deployment or a target into one of the paths.
func WithID(path, id string) string {
	return strings.Replace(path, "{id}", url.PathEscape(id), 1)
}

// Kinds of tasks.
const (
	TaskCSR    = "csr"    // make a key and send a certificate request for it
	TaskDeploy = "deploy" // put a version on a target
)

// TaskKinds lists the kinds of tasks that this version knows.
func TaskKinds() []string { return []string{TaskCSR, TaskDeploy} }

// Limits of a poll.
const (
	// MaxWait is how long a server holds a poll at most: below the minute
	// after which common proxies give up on a silent connection.
	MaxWait = 55 * time.Second

	// LeaseTime is how long a delivered task is the agent's. Each poll that
	// names the task starts the time anew.
	LeaseTime = 60 * time.Second

	// MaxRunning is how many tasks a poll may name.
	MaxRunning = 1000
)

// EnrollRequest asks to join as an agent. MakeEnrollRequest signs one.
type EnrollRequest struct {
	_         struct{}          `json:"-" additionalProperties:"true"`
	Token     string            `json:"token" doc:"Enrolment token, as it was shown when it was made"`
	Name      string            `json:"name" doc:"Name of the agent, unique on the server; usually the host's name" example:"web-1.example.com"`
	PublicKey []byte            `json:"public_key" doc:"Ed25519 public key of the agent, 32 bytes"`
	Time      time.Time         `json:"time" doc:"When the proof was made, by the agent's clock"`
	Proof     []byte            `json:"proof" doc:"Ed25519 signature that proves possession of the key"`
	Labels    map[string]string `json:"labels,omitempty" doc:"Labels of the agent; those of the token win"`
	Version   string            `json:"version,omitempty" doc:"Version of the agent's program"`
	OS        string            `json:"os,omitempty" doc:"Operating system and architecture" example:"linux/amd64"`

	KubernetesToken string `json:"kubernetes_token,omitempty" maxLength:"16384" doc:"Token of the ServiceAccount that the agent's pod runs as. An agent that has joined with one may come in again with it, and needs no enrolment token then"`
}

// EnrollResponse tells an agent who it is now, and for whom.
type EnrollResponse struct {
	AgentID  string `json:"agent_id"`
	Name     string `json:"name"`
	ServerID string `json:"server_id" doc:"Audience of the tokens that the agent signs"`
}

// PollRequest asks for work and says what the agent has already.
type PollRequest struct {
	_           struct{} `json:"-" additionalProperties:"true"`
	WaitSeconds int      `json:"wait_seconds" minimum:"0" doc:"How long to wait for work; the server may answer earlier"`
	Running     []string `json:"running,omitempty" maxItems:"1000" doc:"Ids of the tasks that the agent still works on, or whose results are under way"`
	Resync      bool     `json:"resync,omitempty" doc:"The agent has no other tasks than those in running, whatever was delivered to it: it has just started, or an answer was lost"`
	Version     string   `json:"version,omitempty" doc:"Version of the agent's program"`
	OS          string   `json:"os,omitempty" doc:"Operating system and architecture"`
}

// PollResponse holds the tasks to start, none when the wait was in vain.
type PollResponse struct {
	Tasks []Task `json:"tasks"`
}

// Task is one piece of work. The field of its kind is set.
type Task struct {
	ID     string      `json:"id"`
	Kind   string      `json:"kind"`
	CSR    *CSRTask    `json:"csr,omitempty"`
	Deploy *DeployTask `json:"deploy,omitempty"`
}

// CSRTask asks for a key and a certificate request. An agent that gets the
// task of an order again answers with the same request.
type CSRTask struct {
	OrderID       string      `json:"order_id"`
	CertificateID string      `json:"certificate_id"`
	CommonName    string      `json:"common_name,omitempty"`
	Names         pki.Names   `json:"names"`
	KeyType       pki.KeyType `json:"key_type"`
}

// DeployTask asks to put a version on a target. The private key is the one the
// agent made for the order.
type DeployTask struct {
	DeploymentID  string          `json:"deployment_id"`
	TargetID      string          `json:"target_id"`
	TargetName    string          `json:"target_name"`
	CertificateID string          `json:"certificate_id"`
	OrderID       string          `json:"order_id"`
	Kind          string          `json:"kind" doc:"Kind of the target"`
	Settings      json.RawMessage `json:"settings" doc:"Settings of the target, whole"`
	Chain         string          `json:"chain" doc:"Certificate chain in PEM, leaf first"`
	Names         pki.Names       `json:"names"`
	Fingerprint   string          `json:"fingerprint" doc:"SHA-256 of the leaf, what the target must serve in the end"`
}

// CSRSubmission answers a CSRTask.
type CSRSubmission struct {
	_   struct{} `json:"-" additionalProperties:"true"`
	CSR string   `json:"csr" doc:"Certificate request (PKCS #10) in PEM"`
}

// TaskFailure says that the agent could not do what was asked.
type TaskFailure struct {
	_         struct{} `json:"-" additionalProperties:"true"`
	Reason    string   `json:"reason" doc:"What went wrong, for a person"`
	Retryable bool     `json:"retryable" doc:"Trying again may help"`
}
