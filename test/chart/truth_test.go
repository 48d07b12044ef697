package chart

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// with is a copy of counts with some more.
func with(counts map[string]int, more ...string) map[string]int {
	sum := maps.Clone(counts)
	for _, kind := range more {
		sum[kind]++
	}
	return sum
}

// own and foreign are the objects with the chart's PostgreSQL, and without.
var (
	foreign = map[string]int{
		"ServiceAccount": 1, "ClusterRole": 1, "ClusterRoleBinding": 1, "Secret": 1, "ConfigMap": 2, "Service": 1, "Deployment": 1, "DaemonSet": 1,
	}
	own = with(foreign, "Secret", "Service", "StatefulSet")

	certManager = []string{
		"server.tls.certManager.enabled=true", "server.tls.certManager.issuerRef.name=ca",
		"server.auth.apiKey=" + apiKey, "postgresql.auth.password=" + password,
	}
)

func TestTheObjectsOfEachInstallation(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sets  []string
		want  map[string]int
		total int
	}{
		"the least":         {installed, own, 12},
		"external database": {external, foreign, 9},
		"cert-manager":      {certManager, with(own, "Certificate"), 13},
		"everything around": {append(installed[:3:3], "server.replicas=3", "monitoring.enabled=true", "monitoring.serviceMonitor.enabled=true",
			"podDisruptionBudget.enabled=true", "networkPolicy.enabled=true"), with(own, "ServiceMonitor", "PodDisruptionBudget", "NetworkPolicy"), 15},
		"no budget for one replica": {append(installed[:3:3], "podDisruptionBudget.enabled=true"), own, 12},
		"alerts and dashboard": {append(installed[:3:3], "monitoring.enabled=true", "monitoring.prometheusRules.enabled=true",
			"monitoring.dashboard.enabled=true"), with(own, "PrometheusRule", "ConfigMap"), 14},
		"backup":                 {append(installed[:3:3], "backup.enabled=true"), with(own, "CronJob", "PersistentVolumeClaim"), 14},
		"autoscaling":            {append(installed[:3:3], "server.autoscaling.enabled=true"), with(own, "HorizontalPodAutoscaler"), 13},
		"ingress":                {append(installed[:3:3], "ingress.enabled=true", "ingress.hosts[0].host=certctl.example.com"), with(own, "Ingress"), 13},
		"secrets of theirs":      {existing, without(foreign, "Secret"), 8},
		"no agent":               {append(installed[:3:3], "agent.enabled=false"), without(own, "DaemonSet", "ConfigMap"), 10},
		"agents as a Deployment": {append(installed[:3:3], "agent.kind=Deployment"), with(without(own, "DaemonSet"), "Deployment"), 12},
		"no roles":               {append(installed[:3:3], "rbac.create=false"), without(own, "ClusterRole", "ClusterRoleBinding"), 10},
		"no ServiceAccount":      {append(installed[:3:3], "serviceAccount.create=false"), without(own, "ServiceAccount"), 11},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := mustRender(t, release{name: "c"}, values(t, test.sets))
			if diff := cmp.Diff(test.want, out.kinds()); diff != "" || len(out.objects) != test.total {
				t.Errorf("%d objects instead of %d (-want +got):\n%s", len(out.objects), test.total, diff)
			}
		})
	}
}

// existing takes every secret from a Secret of the operator.
var existing = []string{
	"server.tls.existingSecret=tls", "server.auth.existingSecret=certctl-keys",
	"postgresql.enabled=false", "externalDatabase.existingSecret=database",
}

func without(counts map[string]int, kinds ...string) map[string]int {
	rest := maps.Clone(counts)
	for _, kind := range kinds {
		if rest[kind]--; rest[kind] == 0 {
			delete(rest, kind)
		}
	}
	return rest
}

func TestAnInstallationThatCannotWorkIsRefusedWithTheRemedy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sets []string
		want []string // in the message
	}{
		"two owners of the certificate": {append(certManager[:4:4], "server.tls.existingSecret=tls"),
			[]string{"EXACTLY ONE TLS ownership path", "--set server.tls.certManager.enabled=false", "--set server.tls.existingSecret="}},
		"no owner of the certificate": {installed[1:],
			[]string{"EXACTLY ONE TLS ownership path", "--set server.tls.existingSecret=", "--set server.tls.certManager.enabled=true"}},
		"cert-manager without issuer": {append(installed[1:3:3], "server.tls.certManager.enabled=true"), []string{"server.tls.certManager.issuerRef.name"}},
		"no API key":                  {[]string{installed[0], installed[2]}, []string{"auth.type=api-key", "openssl rand -base64 32", "server.auth.existingSecret"}},
		"short API key":               {append(installed[:3:3], "server.auth.apiKey="+apiKey+",short"), []string{"24 characters", "openssl rand -base64 32"}},
		"two sources of the API key":  {append(installed[:3:3], "server.auth.existingSecret=keys"), []string{"server.auth", "leave out one"}},
		"no database password":        {installed[:2], []string{"postgresql.auth", "openssl rand -base64 32", "postgresql.auth.existingSecret"}},
		"two database passwords":      {append(installed[:3:3], "postgresql.auth.existingSecret=pg"), []string{"postgresql.auth", "leave out one"}},
		"no database":                 {external[:3], []string{"externalDatabase.url", "externalDatabase.existingSecret", "server.env.CERTCTL_DATABASE_URL"}},
		"two databases":               {append(installed[:3:3], "externalDatabase.url=postgres://db/certctl"), []string{"--set postgresql.enabled=false"}},
		"a database beside by variable": {append(installed[:3:3], "server.env.CERTCTL_DATABASE_URL=postgres://db/certctl"),
			[]string{"--set postgresql.enabled=false"}},
		"two URLs of the database":      {append(external[:4:4], "externalDatabase.existingSecret=db"), []string{"externalDatabase", "leave out one"}},
		"TLS of PostgreSQL":             {append(installed[:3:3], "postgresql.tls.mode=verify-full"), []string{"postgresql.tls.existingSecret"}},
		"two master keys":               {append(installed[:3:3], "server.encryption.key="+apiKey, "server.encryption.existingSecret=key"), []string{"server.encryption"}},
		"two enrolment tokens":          {append(installed[:3:3], "agent.enrollmentToken="+apiKey, "agent.existingSecret=token"), []string{"agent", "leave out one"}},
		"agents that share a directory": {append(installed[:3:3], "agent.kind=Deployment", "agent.replicas=2", "agent.persistence.type=hostPath"), []string{"DaemonSet"}},
		"two budgets":                   {append(installed[:3:3], "podDisruptionBudget.minAvailable=1", "podDisruptionBudget.maxUnavailable=1"), []string{"podDisruptionBudget"}},
		"Secrets without agents":        {append(installed[:3:3], "kubernetesSecrets.enabled=true", "agent.enabled=false"), []string{"agent.enabled=true"}},
		"a master key in the open":      {append(installed[:3:3], "backup.enabled=true", "backup.withMasterKey=true"), []string{"backup.ageRecipients"}},
		"an Ingress without host":       {append(installed[:3:3], "ingress.enabled=true"), []string{"ingress.hosts[0].host"}},
		"an Ingress without issuer":     {append(installed[:3:3], "ingress.enabled=true", "ingress.hosts[0].host=a.example.com", "ingress.certManager.enabled=true"), []string{"ingress.certManager.issuerRef.name"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := render(release{}, values(t, test.sets))
			if err == nil {
				t.Fatal("it was rendered")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the refusal does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestTheDatabaseMayComeFromAVariable(t *testing.T) {
	t.Parallel()
	out := mustRender(t, release{}, values(t, external[:3], []string{"server.env.CERTCTL_DATABASE_URL=postgres://u:secret@db/certctl"}))
	if strings.Contains(strings.ReplaceAll(out.text, "CERTCTL_DATABASE_URL", ""), "secret@db") {
		t.Error("the URL stands in the open, not in the Secret")
	}
	if out.one(t, "Secret", "certctl-server").at("data", "CERTCTL_DATABASE_URL") == nil {
		t.Error("the Secret has no URL")
	}
}

func TestTheSchemaRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, set := range []string{
		"server.auth.type=none", "server.auth.type=password", "server.keygen.mode=cloud", "agent.kind=StatefulSet", "agent.persistence.type=pvc",
		"server.replica=2", "unknown=1", "server.tls.certManager.enable=true", "agent.enrolmentToken=x", "server.logging.level=loud",
		"server.securityContext.runAsUsr=5", "server.image.digest=sha256:12", "server.replicas=-1", "server.port=70000", "server.service.type=External",
		"postgresql.tls.mode=on", "server.env.1BAD=x", "agent.env.CERTCTL_AGENT_NAME=x", "server.encryption.key=short",
		"externalDatabase.url=mysql://db", "monitoring.serviceMonitor.interval=soon", "server.tls.mountPath=relative", "backup.sink=tape",
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			_, err := render(release{}, values(t, installed, []string{set}))
			if err == nil || !strings.Contains(err.Error(), "schema") {
				t.Errorf("no refusal by the schema: %v", err)
			}
		})
	}
}

func TestReleasesOfOneNameDoNotCollide(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, r := range []release{
		{name: "certctl", namespace: "certctl"}, {name: "certctl", namespace: "other"}, {name: "certctl-a", namespace: "b"}, {name: "certctl", namespace: "a-b"},
		{name: "a-certctl", namespace: "b"}, {name: "certctl", namespace: "b-a"},
	} {
		for _, o := range mustRender(t, r, values(t, installed)).objects {
			if o.at("metadata", "namespace") != nil {
				continue
			}
			id, owner := o.kind()+" "+o.name(), r.name+" in "+r.namespace
			if other, taken := seen[id]; taken {
				t.Errorf("%s belongs to %s and to %s", id, other, owner)
			}
			seen[id] = owner
		}
	}
	if seen["ClusterRole certctl"] != "certctl in certctl" {
		t.Errorf("the ClusterRole of certctl in certctl is not called certctl: %v", seen)
	}
}
