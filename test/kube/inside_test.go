//go:build kube

package kube_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inside is the main process of a container, as the node's kernel knows it. The
// images have no shell that could look around from within.
type inside struct{ pid string }

// enter finds the process of a pod's container.
func enter(t testing.TB, p pod) inside {
	t.Helper()
	id := strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
	out, err := try(t.Context(), "", "ctr", "-a", "/run/containerd/containerd.sock", "-n", "k8s.io", "tasks", "ls")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == id {
			return inside{pid: fields[1]}
		}
	}
	t.Fatalf("no process of container %q of pod %s in\n%s", id, p.Metadata.Name, out)
	return inside{}
}

func (i inside) path(name string) string { return filepath.Join("/proc", i.pid, "root", name) }

// status gives a line of the process's status, such as CapEff.
func (i inside) status(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", i.pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("no %s in the status of process %s", name, i.pid)
	return ""
}

// environ gives the environment that the process was started with.
func (i inside) environ(t testing.TB) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", i.pid, "environ"))
	if err != nil {
		t.Fatal(err)
	}
	environ := map[string]string{}
	for variable := range strings.SplitSeq(string(text), "\x00") {
		if name, value, ok := strings.Cut(variable, "="); ok {
			environ[name] = value
		}
	}
	return environ
}

// confined says how the process is less confined than the chart promises.
func (i inside) confined(t testing.TB, uid int) error {
	t.Helper()
	want := map[string]string{
		"Uid":        strings.TrimSpace(strings.Repeat(fmt.Sprintf("%d ", uid), 4)),
		"CapEff":     "0000000000000000",
		"CapPrm":     "0000000000000000",
		"CapBnd":     "0000000000000000",
		"NoNewPrivs": "1",
		"Seccomp":    "2", // a filter
	}
	var found []error
	for name, value := range want {
		if got := i.status(t, name); got != value {
			found = append(found, fmt.Errorf("%s is %q, want %q", name, got, value))
		}
	}
	// Even the node's root cannot write there: the file system itself refuses.
	if err := os.WriteFile(i.path("probe"), nil, 0o600); err == nil {
		found = append(found, errors.New("a write to / succeeds"))
	} else if !errors.Is(err, syscall.EROFS) {
		found = append(found, fmt.Errorf("a write to / fails, but not for a read-only file system: %w", err))
	}
	return errors.Join(found...)
}
