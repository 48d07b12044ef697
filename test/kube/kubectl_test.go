//go:build kube

package kube_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// commandTimeout holds also for "helm --wait".
const commandTimeout = 4 * time.Minute

// try runs a program and gives what it printed on its standard output.
func try(ctx context.Context, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), complaint.String())
	}
	return out.String(), nil
}

func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), "", "kubectl", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// apply creates or changes an object.
func apply(t testing.TB, namespace string, object map[string]any) {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := try(t.Context(), string(text), "kubectl", "apply", "-n", namespace, "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// eventually asks until there is no error any more.
func eventually(t testing.TB, timeout time.Duration, ask func(context.Context) error) {
	t.Helper()
	if err := until(t.Context(), timeout, ask); err != nil {
		t.Fatal(err)
	}
}

// until does the same in any goroutine.
func until(ctx context.Context, timeout time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", timeout, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// pod is what the tests look at in a pod.
type pod struct {
	Metadata struct {
		Name              string            `json:"name"`
		Labels            map[string]string `json:"labels"`
		UID               string            `json:"uid"`
		DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	} `json:"metadata"`
	Status struct {
		PodIP             string `json:"podIP"`
		ContainerStatuses []struct {
			ContainerID  string `json:"containerID"`
			Ready        bool   `json:"ready"`
			RestartCount int    `json:"restartCount"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

func (p pod) restarts() int { return p.Status.ContainerStatuses[0].RestartCount }

func (p pod) ready() bool {
	return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].Ready && p.Metadata.DeletionTimestamp == nil
}

// pods gives the pods of a component.
func pods(ctx context.Context, namespace, component string) ([]pod, error) {
	out, err := try(ctx, "", "kubectl", "get", "pods", "-n", namespace, "-o", "json", "-l", "app.kubernetes.io/component="+component)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []pod `json:"items"`
	}
	err = json.Unmarshal([]byte(out), &list)
	return list.Items, err
}

// readyPods gives those of a component that are ready and stay.
func readyPods(ctx context.Context, namespace, component string) ([]pod, error) {
	all, err := pods(ctx, namespace, component)
	return slices.DeleteFunc(all, func(p pod) bool { return !p.ready() }), err
}

// running waits until one pod of a component is ready and gives it.
func running(t testing.TB, namespace, component string) pod {
	t.Helper()
	var found pod
	eventually(t, time.Minute, func(ctx context.Context) error {
		ready, err := readyPods(ctx, namespace, component)
		if err == nil && len(ready) != 1 {
			err = fmt.Errorf("%d pods of %s are ready", len(ready), component)
		}
		if err == nil {
			found = ready[0]
		}
		return err
	})
	return found
}

// newNamespace makes a namespace that admits only what Pod Security calls
// restricted.
func newNamespace(t testing.TB, name string) {
	t.Helper()
	kubectl(t, "create", "namespace", name)
	kubectl(t, "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
	t.Cleanup(func() {
		if t.Failed() {
			explain(t, name)
		}
		if _, err := try(context.WithoutCancel(t.Context()), "", "kubectl", "delete", "namespace", name, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
}

// explain logs what a person would look at first when something is wrong.
func explain(t testing.TB, namespace string) {
	ctx := context.WithoutCancel(t.Context())
	for _, args := range [][]string{
		{"get", "pods,pvc", "-n", namespace, "-o", "wide"},
		{"get", "events", "-n", namespace, "--sort-by=.lastTimestamp"},
		{"logs", "-n", namespace, "-l", "app.kubernetes.io/instance", "--prefix", "--tail=40", "--all-containers", "--ignore-errors"},
	} {
		out, err := try(ctx, "", "kubectl", args...)
		t.Logf("kubectl %s (%v)\n%s", strings.Join(args, " "), err, out)
	}
}
