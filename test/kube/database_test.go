//go:build kube

package kube_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestTheServerWaitsForItsDatabase installs the chart with a PostgreSQL of the
// operator's own that is not there yet.
func TestTheServerWaitsForItsDatabase(t *testing.T) {
	newNamespace(t, "external")
	r := prepare(t, "external", "certctl", values{
		"agent.enabled":             false,
		"postgresql.enabled":        false,
		"externalDatabase.url":      "postgres://owner@database.external.svc:5432/pki?sslmode=disable",
		"externalDatabase.password": databasePassword,
	})
	delete(r.values, "postgresql.auth.password")
	r.helm(t, "install")
	waits(t, r)
	apply(t, r.namespace, databaseService)
	apply(t, r.namespace, databasePod("database"))
	kubectl(t, "rollout", "status", "-n", r.namespace, "deployment/certctl-server", "--timeout=150s")
	server := running(t, r.namespace, "server")
	if server.restarts() > 0 {
		t.Errorf("the server was restarted %d times", server.restarts())
	}
	if _, err := r.api(t).Info(t.Context()); err != nil {
		t.Error(err)
	}
	if found, err := pods(t.Context(), r.namespace, "postgres"); err != nil || len(found) > 0 {
		t.Errorf("the chart runs %d PostgreSQL of its own (%v)", len(found), err)
	}
	if _, ok := enter(t, server).environ(t)["POSTGRES_PASSWORD"]; ok {
		t.Error("the server has a POSTGRES_PASSWORD")
	}
}

// waits sees the server say that it waits.
func waits(t *testing.T, r *release) {
	t.Helper()
	eventually(t, time.Minute, func(ctx context.Context) error {
		logs, err := try(ctx, "", "kubectl", "logs", "-n", r.namespace, "deployment/"+r.full()+"-server")
		if err == nil && !strings.Contains(logs, "database") {
			err = fmt.Errorf("the server does not tell of its database: %s", logs)
		}
		return err
	})
}

var databaseService = map[string]any{
	"apiVersion": "v1", "kind": "Service",
	"metadata": map[string]any{"name": "database"},
	"spec":     map[string]any{"selector": map[string]any{"app": "database"}, "ports": []any{map[string]any{"port": 5432}}},
}

// databasePod is a PostgreSQL that an operator runs.
func databasePod(name string) map[string]any {
	p := toolPod(name, 999, "docker-entrypoint.sh", "postgres", "-c", "listen_addresses=*")
	container := p["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	container["env"] = []any{
		map[string]any{"name": "PGDATA", "value": "/tmp/data"},
		map[string]any{"name": "POSTGRES_USER", "value": "owner"},
		map[string]any{"name": "POSTGRES_DB", "value": "pki"},
		map[string]any{"name": "POSTGRES_PASSWORD", "value": databasePassword},
	}
	return p
}

// toolPod runs a program of the PostgreSQL image, which also has a shell, in a
// way that Pod Security calls restricted.
func toolPod(name string, uid int, command ...string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"app": name}},
		"spec": map[string]any{
			"automountServiceAccountToken":  false,
			"terminationGracePeriodSeconds": 1,
			"securityContext":               map[string]any{"runAsNonRoot": true, "runAsUser": uid, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
			"containers": []any{map[string]any{
				"name": "tool", "image": "localhost/postgres:test", "imagePullPolicy": "Never", "command": command,
				"securityContext": map[string]any{"allowPrivilegeEscalation": false, "capabilities": map[string]any{"drop": []any{"ALL"}}},
			}},
		},
	}
}
