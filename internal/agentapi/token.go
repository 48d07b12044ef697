package agentapi

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// TokenLifetime is how long a request token is good for.
	TokenLifetime = 60 * time.Second

	// ClockSkew is how far the clocks of a server and an agent may differ.
	ClockSkew = 30 * time.Second

	// tokenType keeps the tokens of agents apart from all other JWTs that the
	// same key could sign one day (RFC 8725, 3.11).
	tokenType = "certctl-agent+jwt"

	jtiBytes     = 16
	maxJTILength = 64
)

// SignToken makes the bearer token of one request: a JWT, signed with the
// agent's key, for one audience (the server's id), good for TokenLifetime and
// marked with a random id so that it is good once.
func SignToken(key ed25519.PrivateKey, agentID, audience string, now time.Time) (string, error) {
	options := new(jose.SignerOptions).WithType(tokenType).WithHeader("kid", agentID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, options)
	if err != nil {
		return "", fmt.Errorf("sign request token: %w", err)
	}
	jti := make([]byte, jtiBytes)
	rand.Read(jti)
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer:   agentID,
		Subject:  agentID,
		Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now),
		Expiry:   jwt.NewNumericDate(now.Add(TokenLifetime)),
		ID:       base64.RawURLEncoding.EncodeToString(jti),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign request token: %w", err)
	}
	return token, nil
}

// Token is a request token, read but not yet believed.
type Token struct {
	AgentID string // who claims to have signed it: whose key Verify needs

	jwt *jwt.JSONWebToken
}

// Claims are what a verified token says.
type Claims struct {
	ID string // random, one for each token

	// GoodUntil is when a copy of the token stops being accepted, so how long
	// its id must be remembered.
	GoodUntil time.Time
}

// ParseToken reads a request token. Only Verify makes it worth anything.
func ParseToken(bearer string) (Token, error) {
	parsed, err := jwt.ParseSigned(bearer, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return Token{}, problem.Unauthenticated("the bearer token is neither an API key nor a token signed by an agent")
	}
	header := parsed.Headers[0] // the compact form has exactly one
	if header.ExtraHeaders[jose.HeaderType] != tokenType || header.KeyID == "" {
		return Token{}, problem.Unauthenticated("the bearer token is a JWT, but not one that an agent makes")
	}
	return Token{AgentID: header.KeyID, jwt: parsed}, nil
}

// Verify checks the token against the public key of the agent it names, the
// audience (this server's id) and the clock. That the token is used for the
// first time, by an agent that may still come in, is for the caller to check.
func (t Token) Verify(key ed25519.PublicKey, audience string, now time.Time) (Claims, error) {
	var c jwt.Claims
	if err := t.jwt.Claims(key, &c); err != nil {
		return Claims{}, problem.Unauthenticated("the token is not signed with the key of agent %s", t.AgentID).
			Hint("enrol the agent again if its identity was restored from elsewhere; in Kubernetes, run one pod under a name")
	}
	switch {
	case c.Issuer != t.AgentID || c.Subject != t.AgentID:
		return Claims{}, problem.Unauthenticated("the token names more than one agent")
	case len(c.Audience) != 1 || c.Audience[0] != audience:
		return Claims{}, problem.Unauthenticated("the token was made for another server").
			Hint("enrol the agent with this server, or point it at the one it belongs to")
	case c.IssuedAt == nil || c.Expiry == nil || c.ID == "" || len(c.ID) > maxJTILength:
		return Claims{}, problem.Unauthenticated("the token lacks its times or its id")
	}
	issued, expires := c.IssuedAt.Time(), c.Expiry.Time()
	lifetime := expires.Sub(issued)
	switch {
	case lifetime <= 0 || lifetime > TokenLifetime:
		return Claims{}, problem.Unauthenticated("the token is good for %s, at most %s is allowed", lifetime, TokenLifetime)
	case now.Add(ClockSkew).Before(issued):
		return Claims{}, clockProblem("the token", issued, now)
	case !now.Before(expires.Add(ClockSkew)):
		return Claims{}, clockProblem("the token", issued, now)
	}
	return Claims{ID: c.ID, GoodUntil: expires.Add(ClockSkew)}, nil
}

// clockProblem says that something was made at another time than now, by how
// much, and what to do about it.
func clockProblem(what string, made, now time.Time) *problem.Error {
	difference, direction := now.Sub(made).Round(time.Second), "before"
	if difference < 0 {
		difference, direction = -difference, "after"
	}
	return problem.Unauthenticated("%s was made at %s, %s %s this server's time",
		what, made.UTC().Format(time.RFC3339), difference, direction).
		Hint("synchronise the clocks of the agent's host and the server")
}
