// Package kube asks the API server of the Kubernetes cluster that this process
// runs in which pod a ServiceAccount token belongs to.
//
// It is one call, a TokenReview (authentication.k8s.io/v1), so it is made with
// net/http. The API server checks the signature, the time and the audience of
// the token, and that the pod that it is bound to is still there.
package kube

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// Pod is whom a ServiceAccount token was made for.
type Pod struct {
	Namespace      string
	ServiceAccount string
	Name           string
	Node           string // empty where the cluster does not tell, before Kubernetes 1.30
}

// accountPrefix begins the user name of every ServiceAccount.
const accountPrefix = "system:serviceaccount:"

// account takes a user name of the form system:serviceaccount:NAMESPACE:NAME
// apart.
func account(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, accountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.ContainsAny(rest, "/ ")
}

// Claimed says for which ServiceAccount a token claims to be. Nothing is
// checked: it tells tokens that are not worth a review from those that are.
func Claimed(token string) (namespace, serviceAccount string, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", "", false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", "", false
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", "", false
	}
	return account(claims.Subject)
}
