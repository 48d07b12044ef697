//go:build kube

package kube_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"testing"
	"time"
)

// kubeletSync is how long the kubelet may take to bring a changed Secret into a
// pod, and some more.
const kubeletSync = 3 * time.Minute

// rotatedIsServed gives the server another certificate of another CA, as an
// operator would who replaces both. The agent follows by the Secret's ca.crt.
func rotatedIsServed(t *testing.T, r *release) {
	outdated := &http.Client{Transport: r.transport(t), Timeout: 10 * time.Second}
	before := running(t, r.namespace, "server")
	r.authority = newAuthority(t)
	apply(t, r.namespace, r.authority.secret(t, r.values["server.tls.existingSecret"].(string), r.host()))
	eventually(t, kubeletSync, func(ctx context.Context) error {
		browser := &http.Client{Transport: r.transport(t), Timeout: 10 * time.Second}
		defer browser.CloseIdleConnections()
		return call(ctx, browser, r.url()+"/api/v1/info")
	})
	after := running(t, r.namespace, "server")
	if after.Metadata.UID != before.Metadata.UID || after.restarts() > before.restarts() {
		t.Errorf("the server was restarted for its new certificate")
	}
	var refused *tls.CertificateVerificationError
	if err := call(t.Context(), outdated, r.url()+"/api/v1/info"); !errors.As(err, &refused) {
		t.Errorf("who trusts the old CA alone gets %v", err)
	}
	theAgentDeploys(t, r, r.api(t), "after-rotation")
}
