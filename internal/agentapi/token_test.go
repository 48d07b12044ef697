package agentapi

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	agentID  = "agt_0197f3a2000070008000000000000001"
	audience = "certctl:0197f3a2-0000-7000-8000-00000000000a"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// forge signs any claims, as a hostile agent could.
func forge(t *testing.T, key any, alg jose.SignatureAlgorithm, typ, kid string, claims any) string {
	t.Helper()
	options := new(jose.SignerOptions).WithHeader("kid", kid)
	if typ != "" {
		options = options.WithType(jose.ContentType(typ))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSignedTokenVerifiesOnceParsed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	first, err := SignToken(key, agentID, audience, noon)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ParseToken(first)
	if err != nil {
		t.Fatal(err)
	}
	if token.AgentID != agentID {
		t.Errorf("agent id %q, want %q", token.AgentID, agentID)
	}
	claims, err := token.Verify(public(key), audience, noon)
	if err != nil {
		t.Fatal(err)
	}
	if want := noon.Add(TokenLifetime + ClockSkew); !claims.GoodUntil.Equal(want) {
		t.Errorf("good until %s, want %s", claims.GoodUntil, want)
	}
	second, err := SignToken(key, agentID, audience, noon)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two tokens of the same moment are the same")
	}
}

func TestTokenIsBoundedInTime(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	signed, err := SignToken(key, agentID, audience, noon)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ParseToken(signed)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Duration
		good bool
		says string
	}{
		{at: -31 * time.Second, says: "31s after this server's time"},
		{at: -30 * time.Second, good: true},
		{at: 0, good: true},
		{at: 89 * time.Second, good: true},
		{at: 90 * time.Second, says: "1m30s before this server's time"},
		{at: time.Hour, says: "1h0m0s before this server's time"},
	} {
		_, err := token.Verify(public(key), audience, noon.Add(c.at))
		if c.good != (err == nil) {
			t.Errorf("at %s: got %v, want good: %t", c.at, err, c.good)
		}
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("at %s: %q does not say %q", c.at, err, c.says)
		}
	}
}

func TestVerifyRefusesForgedClaims(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	good := func() jwt.Claims {
		return jwt.Claims{
			Issuer: agentID, Subject: agentID, Audience: jwt.Audience{audience}, ID: "0123456789abcdef",
			IssuedAt: jwt.NewNumericDate(noon), Expiry: jwt.NewNumericDate(noon.Add(time.Minute)),
		}
	}
	for name, spoil := range map[string]func(c *jwt.Claims){
		"foreign audience":  func(c *jwt.Claims) { c.Audience = jwt.Audience{"certctl:another"} },
		"several audiences": func(c *jwt.Claims) { c.Audience = jwt.Audience{audience, "certctl:another"} },
		"no audience":       func(c *jwt.Claims) { c.Audience = nil },
		"foreign issuer":    func(c *jwt.Claims) { c.Issuer = "agt_other" },
		"foreign subject":   func(c *jwt.Claims) { c.Subject = "agt_other" },
		"no id":             func(c *jwt.Claims) { c.ID = "" },
		"endless id":        func(c *jwt.Claims) { c.ID = strings.Repeat("x", maxJTILength+1) },
		"no issue time":     func(c *jwt.Claims) { c.IssuedAt = nil },
		"no expiry":         func(c *jwt.Claims) { c.Expiry = nil },
		"long life":         func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(noon.Add(61 * time.Second)) },
		"backwards":         func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(noon.Add(-time.Second)) },
	} {
		claims := good()
		spoil(&claims)
		token, err := ParseToken(forge(t, key, jose.EdDSA, tokenType, agentID, claims))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := token.Verify(public(key), audience, noon); problem.KindOf(err) != problem.KindUnauthenticated {
			t.Errorf("%s: got %v, want it refused as unauthenticated", name, err)
		}
	}
	token, err := ParseToken(forge(t, key, jose.EdDSA, tokenType, agentID, good()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Verify(public(key), audience, noon); err != nil {
		t.Errorf("the unspoilt claims are refused: %v", err)
	}
	if _, err := token.Verify(public(newKey(t)), audience, noon); problem.KindOf(err) != problem.KindUnauthenticated {
		t.Errorf("with another key: got %v, want it refused", err)
	}
}

func TestParseRefusesOtherTokens(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.Claims{Subject: agentID}
	unsigned := "eyJhbGciOiJub25lIiwidHlwIjoiY2VydGN0bC1hZ2VudCtqd3QiLCJraWQiOiJhIn0.e30."
	for name, token := range map[string]string{
		"empty":              "",
		"an API key":         "certctl_0123456789",
		"no algorithm":       unsigned,
		"RSA":                forge(t, rsaKey, jose.RS256, tokenType, agentID, claims),
		"HMAC":               forge(t, []byte(public(key)), jose.HS256, tokenType, agentID, claims),
		"another type":       forge(t, key, jose.EdDSA, "JWT", agentID, claims),
		"no type":            forge(t, key, jose.EdDSA, "", agentID, claims),
		"no agent":           forge(t, key, jose.EdDSA, tokenType, "", claims),
		"trailing signature": forge(t, key, jose.EdDSA, tokenType, agentID, claims) + ".x",
	} {
		if _, err := ParseToken(token); problem.KindOf(err) != problem.KindUnauthenticated {
			t.Errorf("%s: got %v, want it refused as unauthenticated", name, err)
		}
	}
}
