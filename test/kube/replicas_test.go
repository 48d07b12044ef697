//go:build kube

package kube_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	orders       = 200
	orderClients = 4
)

// TestThreeReplicasLoseAndDoubleNoOrder orders certificates while the server's
// pods are deleted, one after the other, as a drain of nodes would.
func TestThreeReplicasLoseAndDoubleNoOrder(t *testing.T) {
	newNamespace(t, "replicas")
	r := install(t, "replicas", "certctl", values{"server.replicas": 3, "podDisruptionBudget.enabled": true})
	api := r.api(t)
	r.online(t, api, node)

	orderAll(t, r, api)
	checkOrders(t, api)
}

// kill deletes a ready pod of the server, while there is another one.
func kill(ctx context.Context, r *release, flags ...string) error {
	return until(ctx, time.Minute, func(ctx context.Context) error {
		ready, err := readyPods(ctx, r.namespace, "server")
		if err == nil && len(ready) < 2 {
			err = fmt.Errorf("%d replicas are ready", len(ready))
		}
		if err == nil {
			args := append([]string{"delete", "pod", "-n", r.namespace, ready[0].Metadata.Name, "--wait=false"}, flags...)
			_, err = try(ctx, "", "kubectl", args...)
		}
		return err
	})
}

func orderName(i int) string { return fmt.Sprintf("order-%03d", i) }

// orderAll asks for every certificate and waits until each is on its target.
// One client takes a server away five times in between, by turns with and
// without its shutdown, while the others go on.
func orderAll(t *testing.T, r *release, api *client.Client) {
	t.Helper()
	var clients sync.WaitGroup
	for first := range orderClients {
		clients.Go(func() {
			for i := first; i < orders; i += orderClients {
				if err := errors.Join(disturb(t.Context(), r, i), order(t.Context(), api, orderName(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	eventually(t, 3*time.Minute, func(ctx context.Context) error {
		done := 0
		for certificate, err := range api.Certificates(ctx, client.CertificateFilter{Status: "active"}) {
			if err != nil {
				return err
			}
			if certificate.Serial != "" {
				done++
			}
		}
		if done != orders {
			return fmt.Errorf("%d of %d certificates are active", done, orders)
		}
		return nil
	})
}

func disturb(ctx context.Context, r *release, i int) error {
	switch i % 80 {
	case 20:
		return kill(ctx, r, "--grace-period=0", "--force")
	case 60:
		return kill(ctx, r)
	}
	return nil
}

// order asks until the server has said yes or that it is there: an answer may be
// lost with the pod that gave it.
func order(ctx context.Context, api *client.Client, name string) error {
	spec := client.CertificateSpec{Name: name, Names: []string{name + ".example.com"}, Targets: []string{name}}
	target := func() error { _, err := api.CreateTarget(ctx, fileTarget(name, "")); return err }
	certificate := func() error { _, err := api.CreateCertificate(ctx, spec); return err }
	return errors.Join(insist(ctx, target), insist(ctx, certificate))
}

func insist(ctx context.Context, create func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := create()
		if err == nil || problem.KindOf(err) == problem.KindConflict {
			return nil
		}
		if problem.KindOf(err) != problem.KindTemporary {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// checkOrders looks for orders, versions and serial numbers that are too many.
func checkOrders(t *testing.T, api *client.Client) {
	t.Helper()
	perCertificate := map[string]int{}
	for order, err := range api.Orders(t.Context(), client.OrderFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		perCertificate[order.Certificate]++
		if order.State != "done" {
			t.Errorf("order of %s is %s: %s", order.Certificate, order.State, order.StateReason)
		}
	}
	var serials []string
	for i := range orders {
		for version, err := range api.Versions(t.Context(), orderName(i)) {
			if err != nil {
				t.Fatal(err)
			}
			serials = append(serials, version.Serial)
		}
	}
	slices.Sort(serials)
	if unique := len(slices.Compact(slices.Clone(serials))); len(serials) != orders || unique != orders {
		t.Errorf("%d versions with %d serial numbers, want %d", len(serials), unique, orders)
	}
	for certificate, n := range perCertificate {
		if n != 1 {
			t.Errorf("certificate %s has %d orders", certificate, n)
		}
	}
	if len(perCertificate) != orders {
		t.Errorf("%d certificates have an order, want %d", len(perCertificate), orders)
	}
}
