//go:build kube

// Package kube_test installs the Helm chart on a real Kubernetes and looks at
// what runs there. "make test-kube" makes the cluster and runs the tests beside
// its node, so that pods, Services and the processes of containers are in reach.
package kube_test

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("KUBE_STATE") == "" || os.Getenv("KUBECONFIG") == "" {
		fmt.Fprintln(os.Stderr, "kube: these tests run beside the node of a test cluster; start them with: make test-kube")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
