//go:build kube

package kube_test

import "testing"

// TestReleasesStandSideBySide installs the chart three times: of one name in two
// namespaces, and of two names in one.
func TestReleasesStandSideBySide(t *testing.T) {
	newNamespace(t, "left")
	newNamespace(t, "right")
	small := values{"agent.kind": "Deployment"}
	for _, r := range []*release{
		install(t, "left", "certctl", small),
		install(t, "right", "certctl", small),
		install(t, "right", "second", small),
	} {
		api := r.api(t)
		r.online(t, api, r.full()+"-agent")
		count := 0
		for _, err := range api.Agents(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			count++
		}
		if count != 1 {
			t.Errorf("release %s in %s has %d agents, want its own", r.name, r.namespace, count)
		}
	}
}
