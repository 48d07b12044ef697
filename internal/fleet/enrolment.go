package fleet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/kube"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// EnrolmentToken lets agents join. The token itself is shown once, when it is
// made; what is kept is its SHA-256, which is enough for 256 random bits.
type EnrolmentToken struct {
	ID          string                     `db:"id"`
	Description string                     `db:"description"`
	Hash        []byte                     `db:"hash"`
	Labels      db.JSON[map[string]string] `db:"labels"`   // given to each agent that joins
	MaxUses     int                        `db:"max_uses"` // agents that may join; 0 for any number
	Uses        int                        `db:"uses"`     // agents that have joined
	ExpiresAt   *time.Time                 `db:"expires_at"`
	RevokedAt   *time.Time                 `db:"revoked_at"`
	CreatedAt   time.Time                  `db:"created_at"`
}

const (
	tokenPrefix = "cet_"
	tokenBytes  = 32

	maxTokenUses     = 1_000_000
	maxTokenLifetime = 366 * 24 * time.Hour
)

// newToken makes a token and the hash it is found by.
func newToken() (token secret.String, hash []byte) {
	random := make([]byte, tokenBytes)
	rand.Read(random)
	text := tokenPrefix + hex.EncodeToString(random)
	return secret.New(text), hashToken(text)
}

func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// TokenState says whether an enrolment token still lets agents in.
type TokenState string

// The states, in the order in which they rule out each other.
const (
	TokenRevoked TokenState = "revoked"
	TokenExpired TokenState = "expired"
	TokenUsedUp  TokenState = "used_up"
	TokenActive  TokenState = "active"
)

// State derives the state of the token.
func (t EnrolmentToken) State(now time.Time) TokenState {
	switch {
	case t.RevokedAt != nil:
		return TokenRevoked
	case t.ExpiresAt != nil && !now.Before(*t.ExpiresAt):
		return TokenExpired
	case t.MaxUses > 0 && t.Uses >= t.MaxUses:
		return TokenUsedUp
	default:
		return TokenActive
	}
}

// admit refuses a token that lets nobody in any more. Whoever holds the token
// may know why.
func (t EnrolmentToken) admit(now time.Time) error {
	var refusal *problem.Error
	switch t.State(now) {
	case TokenActive:
		return nil
	case TokenRevoked:
		refusal = problem.Unauthenticated("the enrolment token was revoked at %s", t.RevokedAt.Format(time.RFC3339))
	case TokenExpired:
		refusal = problem.Unauthenticated("the enrolment token expired at %s", t.ExpiresAt.Format(time.RFC3339))
	case TokenUsedUp:
		refusal = problem.Unauthenticated("the enrolment token is used up: %d of %d agents joined with it", t.Uses, t.MaxUses)
	}
	return refusal.Hint("make a new enrolment token")
}

// NewEnrolmentToken is what an operator says about a token to make.
type NewEnrolmentToken struct {
	Description string
	Labels      map[string]string
	MaxUses     int           // 0 for any number
	Lifetime    time.Duration // 0 for no end
}

func (n NewEnrolmentToken) check() error {
	var description, uses, lifetime *problem.Error
	if len(n.Description) > maxDescription || hasControl(n.Description) {
		description = problem.Invalid("description", "it must be one line of at most %d characters", maxDescription)
	}
	if n.MaxUses < 0 || n.MaxUses > maxTokenUses {
		uses = problem.Invalid("max_uses", "%d is not a number of agents", n.MaxUses).Hint("use 1 to %d, or 0 for no limit", maxTokenUses)
	}
	if n.Lifetime < 0 || n.Lifetime > maxTokenLifetime {
		lifetime = problem.Invalid("lifetime", "%s is out of range", n.Lifetime).
			Hint("use up to %d days, or leave it out for a token that does not expire", maxTokenLifetime/(24*time.Hour))
	}
	return problem.Join(description, uses, lifetime, checkLabels(n.Labels))
}

// CreateToken makes an enrolment token. The secret is not kept: this is the
// only time it can be read.
func (s *Service) CreateToken(ctx context.Context, n NewEnrolmentToken) (EnrolmentToken, secret.String, error) {
	if err := n.check(); err != nil {
		return EnrolmentToken{}, secret.String{}, err
	}
	text, hash := newToken()
	token := EnrolmentToken{
		ID: id.New("tok"), Description: n.Description, Hash: hash, Labels: db.AsJSON(orEmpty(n.Labels)),
		MaxUses: n.MaxUses, CreatedAt: s.now(),
	}
	if n.Lifetime > 0 {
		expires := token.CreatedAt.Add(n.Lifetime)
		token.ExpiresAt = &expires
	}
	return token, text, s.store(ctx, token)
}

func (s *Service) store(ctx context.Context, token EnrolmentToken) error {
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		if err := insertToken(ctx, tx, token); err != nil {
			return fmt.Errorf("store enrolment token: %w", err)
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "enrolment_token.create", ObjectKind: "enrolment_token", ObjectID: token.ID, After: tokenView(token, s.now()),
		})
	})
}

// EnsureGiven makes an enrolment token of a text that the operator chose, for
// any number of agents, if there is none of it yet. A token that was revoked
// stays so.
func (s *Service) EnsureGiven(ctx context.Context, text secret.String) error {
	token := EnrolmentToken{
		ID: id.New("tok"), Description: "given at start", Hash: hashToken(text.Reveal()), Labels: db.AsJSON(map[string]string{}), CreatedAt: s.now(),
	}
	_, err := tokenByHash(ctx, s.db.Read(), token.Hash, "")
	if problem.KindOf(err) != problem.KindUnauthenticated {
		return err
	}
	err = s.store(ctx, token)
	if db.IsUnique(err, "enrolment_token", "hash") {
		return nil // another replica was first
	}
	return err
}

// Tokens lists enrolment tokens.
func (s *Service) Tokens(ctx context.Context, page db.Page) ([]EnrolmentToken, string, error) {
	return listTokens(ctx, s.db.Read(), page)
}

// RevokeToken ends an enrolment token. Agents that joined with it stay.
func (s *Service) RevokeToken(ctx context.Context, tokenID string) error {
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		token, err := tokenByID(ctx, tx, tokenID, tx.ForUpdate())
		if db.IsNoRows(err) {
			return problem.NotFound("enrolment token", tokenID)
		}
		if err != nil {
			return fmt.Errorf("read enrolment token %s: %w", tokenID, err)
		}
		if token.RevokedAt != nil {
			return nil
		}
		now := s.now()
		before := tokenView(token, now)
		token.RevokedAt = &now
		if err := revokeToken(ctx, tx, token.ID, now); err != nil {
			return fmt.Errorf("revoke enrolment token %s: %w", tokenID, err)
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "enrolment_token.revoke", ObjectKind: "enrolment_token", ObjectID: token.ID, Before: before, After: tokenView(token, now),
		})
	})
}

// Enrol lets an agent join. An agent that asks again with the same key and the
// same token, as it does when it did not hear the answer, is told the same
// again and does not use up the token. One that has lost its key is the same
// agent again when Kubernetes says so.
func (s *Service) Enrol(ctx context.Context, r agentapi.EnrollRequest) (agentapi.EnrollResponse, error) {
	now := s.now()
	if err := problem.Join(checkName(r.Name), checkLabels(r.Labels)); err != nil {
		return agentapi.EnrollResponse{}, err
	}
	if err := r.VerifyProof(now); err != nil {
		return agentapi.EnrollResponse{}, err
	}
	// Anybody can ask to join. Who has no token must not hold up those who write.
	token, err := tokenByHash(ctx, s.db.Read(), hashToken(r.Token), "")
	pod, err := s.from(ctx, r, token, err, now)
	if err != nil {
		return agentapi.EnrollResponse{}, err
	}
	newID := id.New("agt")
	var agent Agent
	err = s.db.InTx(ctx, func(tx *db.Tx) (err error) {
		if pod != nil {
			var found bool
			if agent, found, err = s.known(ctx, tx, r, *pod); found || err != nil {
				return err
			}
		}
		agent, err = s.admit(ctx, tx, newID, r, pod)
		return err
	})
	switch {
	case db.IsUnique(err, "agent", "name"), db.IsUnique(err, "agent", "kubernetes_identity"):
		return agentapi.EnrollResponse{}, s.nameTakenFrom(r)
	case db.IsUnique(err, "agent", "public_key"):
		return agentapi.EnrollResponse{}, keyTaken()
	case err != nil:
		return agentapi.EnrollResponse{}, err
	}
	return agentapi.EnrollResponse{AgentID: agent.ID, Name: agent.Name, ServerID: s.serverID}, nil
}

// admit lets an agent join with its enrolment token.
func (s *Service) admit(ctx context.Context, tx *db.Tx, newID string, r agentapi.EnrollRequest, pod *kube.Pod) (Agent, error) {
	token, err := tokenByHash(ctx, tx, hashToken(r.Token), tx.ForUpdate())
	if err != nil {
		return Agent{}, err
	}
	agent, err := agentByKey(ctx, tx, r.PublicKey)
	if err == nil {
		return agent, agent.enrolAgain(token)
	}
	if !db.IsNoRows(err) {
		return Agent{}, fmt.Errorf("read agent: %w", err)
	}
	now := s.now()
	if err := token.admit(now); err != nil {
		return Agent{}, err
	}
	agent = joining(newID, r, token, now)
	if pod != nil {
		identity := identityOf(*pod, r.Name)
		agent.KubernetesIdentity = &identity
	}
	return agent, s.join(ctx, tx, agent, token)
}

// joining is the agent that a request and a token make. What the operator said
// in the token's labels wins over what the agent says of itself.
func joining(agentID string, r agentapi.EnrollRequest, token EnrolmentToken, now time.Time) Agent {
	labels := orEmpty(maps.Clone(r.Labels))
	maps.Copy(labels, token.Labels.V)
	return Agent{
		ID: agentID, Name: r.Name, Revision: 1, PublicKey: r.PublicKey, Labels: db.AsJSON(labels),
		Version: clip(r.Version), OS: clip(r.OS), TokenID: token.ID, CreatedAt: now, UpdatedAt: now,
	}
}

func (s *Service) join(ctx context.Context, tx *db.Tx, agent Agent, token EnrolmentToken) error {
	if err := countTokenUse(ctx, tx, token.ID); err != nil {
		return fmt.Errorf("count use of enrolment token %s: %w", token.ID, err)
	}
	if err := insertAgent(ctx, tx, agent); err != nil {
		return fmt.Errorf("store agent %s: %w", agent.Name, err)
	}
	return audit.Append(asAgent(ctx, agent), tx, audit.Change{
		Action: "agent.enrol", ObjectKind: "agent", ObjectID: agent.ID, After: agentView(agent, agent.CreatedAt),
	})
}

// asAgent makes an agent the one who does what follows.
func asAgent(ctx context.Context, agent Agent) context.Context {
	actor := audit.ActorFrom(ctx)
	actor.Kind, actor.ID, actor.Name = "agent", agent.ID, agent.Name
	return audit.WithActor(ctx, actor)
}

// enrolAgain answers an agent whose key is known already.
func (a Agent) enrolAgain(token EnrolmentToken) error {
	if err := a.admit(); err != nil {
		return err
	}
	if a.TokenID != token.ID {
		return keyTaken()
	}
	return nil
}

func keyTaken() error {
	return problem.Conflict("an agent with this key has joined already, with another enrolment token").
		Hint("make a new key for a new agent")
}

func nameTaken(name string) error {
	return problem.Conflict("there is an agent named %q already", name).
		Hint("choose another name; if the host was set up anew, rename the old agent first, as another key never takes its place")
}

// nameTakenFrom says of a name that is taken why showing a Kubernetes token has
// not helped.
func (s *Service) nameTakenFrom(r agentapi.EnrollRequest) error {
	switch {
	case r.KubernetesToken == "":
		return nameTaken(r.Name)
	case s.kubernetes == nil:
		return problem.Conflict("there is an agent named %q already, and this server does not have Kubernetes tokens reviewed", r.Name).
			Hint("see kubernetes_token_review in the server's settings")
	default:
		return problem.Conflict("there is an agent named %q already, which did not join as this ServiceAccount", r.Name).
			Hint("rename the old agent first, or choose another name")
	}
}

func orEmpty(labels map[string]string) map[string]string {
	if labels == nil {
		return map[string]string{}
	}
	return labels
}
