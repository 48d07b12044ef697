//go:build kube

package kube_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestTheNetworkPolicyCutsOffStrangers turns the policy on and looks from a pod
// that is no part of the release.
func TestTheNetworkPolicyCutsOffStrangers(t *testing.T) {
	newNamespace(t, "policy")
	r := install(t, "policy", "certctl", nil)
	apply(t, r.namespace, toolPod("stranger", 1000, "sleep", "infinity"))
	kubectl(t, "wait", "-n", r.namespace, "--for=condition=Ready", "pod/stranger", "--timeout=60s")
	places := []string{r.host() + "/8443", r.full() + "-postgres." + r.namespace + ".svc/5432"}
	for _, place := range places {
		if err := reach(t.Context(), r, place); err != nil {
			t.Fatalf("without a policy: %v", err)
		}
	}

	r.upgrade(t, values{"networkPolicy.enabled": true})
	for _, place := range places {
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			if reach(ctx, r, place) == nil {
				return fmt.Errorf("%s can be reached by a stranger", place)
			}
			return nil
		})
	}
	// What belongs to the release goes on: a new server finds its database, and the agent its server.
	kubectl(t, "rollout", "restart", "-n", r.namespace, "deployment/certctl-server", "daemonset/certctl-agent")
	kubectl(t, "rollout", "status", "-n", r.namespace, "deployment/certctl-server", "--timeout=120s")
	kubectl(t, "rollout", "status", "-n", r.namespace, "daemonset/certctl-agent", "--timeout=120s")
	r.online(t, r.api(t), node)
}

// reach opens a connection from the stranger's pod.
func reach(ctx context.Context, r *release, place string) error {
	_, err := try(ctx, "", "kubectl", "exec", "-n", r.namespace, "stranger", "--", "timeout", "3", "bash", "-c", ": </dev/tcp/"+place)
	if err != nil && ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return err
}
