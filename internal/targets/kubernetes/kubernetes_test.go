package kubernetes_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/kubernetes"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

func TestKind(t *testing.T) {
	t.Parallel()
	targetstest.TestKind(
		t, kubernetes.Kind{},
		`{"namespace": "shop", "name": "web-tls"}`,
		`{"namespace": "shop", "name": "web.example.com", "ca": "chain", "labels": {"team": "web", "example.com/empty": ""},
		  "annotations": {"example.com/contact": "web@example.com"},
		  "probe": {"address": "web.shop.svc:443", "server_name": "www.example.com", "timeout": "30s"}}`,
	)
}

func TestSettingsThatAClusterWouldRefuseAreRefused(t *testing.T) {
	t.Parallel()
	for field, text := range map[string]string{
		"settings.namespace":   `{"namespace": "Shop", "name": "x"}`,
		"settings.name":        `{"namespace": "shop", "name": "../x"}`,
		"settings.ca":          `{"namespace": "shop", "name": "x", "ca": "/etc/ca.pem"}`,
		"settings.labels":      `{"namespace": "shop", "name": "x", "labels": {"team": "a b"}}`,
		"settings.annotations": `{"namespace": "shop", "name": "x", "annotations": {"/x": "y"}}`,
	} {
		targetstest.WantInvalid(t, kubernetes.Kind{}.Check(json.RawMessage(text)), field)
	}
	for _, key := range []string{"app.kubernetes.io/managed-by", "certctl.io/target"} {
		for _, field := range []string{"labels", "annotations"} {
			text := `{"namespace": "shop", "name": "x", "` + field + `": {"` + key + `": "y"}}`
			targetstest.WantInvalid(t, kubernetes.Kind{}.Check(json.RawMessage(text)), "settings."+field)
		}
	}
}

func TestOutsideOfAClusterTheReasonIsSaid(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	engine := newEngine(t, t.TempDir(), kubernetes.Config{})
	b := targetstest.NewCA(t).Issue(t, "ecdsa-p256", "www.example.com")
	report := engine.Deploy(t.Context(), newJob(t, "dep_1", "tgt_1", `{"namespace": "shop", "name": "web-tls"}`, b))
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if report.Retryable || !strings.Contains(report.Reason, "KUBERNETES_SERVICE_HOST is not set") {
		t.Errorf("report %+v", report)
	}
}
