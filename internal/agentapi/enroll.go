package agentapi

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

// proofDomain keeps the signature from meaning anything elsewhere.
const proofDomain = "certctl-enroll-v1"

// MakeEnrollRequest asks to join with a token under a name, and proves that
// the asker holds the key. Labels, version and OS may be added afterwards.
func MakeEnrollRequest(key ed25519.PrivateKey, token, name string, now time.Time) EnrollRequest {
	r := EnrollRequest{
		Token:     token,
		Name:      name,
		PublicKey: key.Public().(ed25519.PublicKey),
		Time:      now.UTC().Truncate(time.Second),
	}
	r.Proof = ed25519.Sign(key, r.proofMessage())
	return r
}

// VerifyProof checks that whoever made the request holds the private key of
// its public key, and made the request just now.
//
// The proof needs no nonce from the server and no server's name to be bound to
// one server: it covers the hash of the enrolment token, which is 256 random
// bits that one server made and only that server accepts. Shown to another
// server it is worthless, and shown to the same server again it leads to the
// same agent, whose key the thief does not have. What keeps an agent from
// showing its token to an impostor is the pinned CA, before anything is sent.
// The time therefore guards against no attack; it finds a wrong clock while a
// person is looking, as the tokens of such an agent would all be refused.
func (r EnrollRequest) VerifyProof(now time.Time) error {
	if len(r.PublicKey) != ed25519.PublicKeySize {
		return problem.Invalid("public_key", "it has %d bytes, an Ed25519 key has %d", len(r.PublicKey), ed25519.PublicKeySize)
	}
	if !ed25519.Verify(r.PublicKey, r.proofMessage(), r.Proof) {
		return problem.Invalid("proof", "it is not a signature of this request by public_key")
	}
	if age := now.Sub(r.Time); age < -ClockSkew || age > TokenLifetime+ClockSkew {
		return clockProblem("the request", r.Time, now)
	}
	return nil
}

// proofMessage is what the proof signs. The name stands last, as it is the
// only part that could hold a line break.
func (r EnrollRequest) proofMessage() []byte {
	token := sha256.Sum256([]byte(r.Token))
	return fmt.Appendf(nil, "%s\n%s\n%s\n%d\n%s", proofDomain,
		hex.EncodeToString(token[:]), hex.EncodeToString(r.PublicKey), r.Time.Unix(), r.Name)
}
