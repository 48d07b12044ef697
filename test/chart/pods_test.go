package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// examples are the values files of deploy/helm/examples.
func examples(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, err := filepath.Glob(root + "deploy/helm/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	all := map[string]map[string]any{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".yaml")] = v
	}
	return all
}

func TestTheExamplesRenderAsBefore(t *testing.T) {
	t.Parallel()
	for name, v := range examples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := mustRender(t, release{cluster: true}, v)
			golden(t, filepath.Join("golden", name+".yaml"), out.text)
			golden(t, filepath.Join("golden", name+".txt"), out.notes)
		})
	}
}

// builtin is an empty object of each kind of Kubernetes that the chart renders.
func builtin(kind string) any {
	switch kind {
	case "ServiceAccount":
		return &corev1.ServiceAccount{}
	case "Secret":
		return &corev1.Secret{}
	case "ConfigMap":
		return &corev1.ConfigMap{}
	case "Service":
		return &corev1.Service{}
	case "Pod":
		return &corev1.Pod{}
	case "Deployment":
		return &appsv1.Deployment{}
	case "DaemonSet":
		return &appsv1.DaemonSet{}
	case "StatefulSet":
		return &appsv1.StatefulSet{}
	case "ClusterRole":
		return &rbacv1.ClusterRole{}
	case "ClusterRoleBinding":
		return &rbacv1.ClusterRoleBinding{}
	case "Role":
		return &rbacv1.Role{}
	case "RoleBinding":
		return &rbacv1.RoleBinding{}
	case "CronJob":
		return &batchv1.CronJob{}
	case "PersistentVolumeClaim":
		return &corev1.PersistentVolumeClaim{}
	case "Ingress":
		return &networkingv1.Ingress{}
	case "NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "HorizontalPodAutoscaler":
		return &autoscalingv2.HorizontalPodAutoscaler{}
	}
	return nil
}

// A field at the wrong scope is dropped by the API server without a word: here
// it is one that the type does not have.
func TestEveryFieldIsOneThatKubernetesHas(t *testing.T) {
	t.Parallel()
	custom := map[string]bool{"Certificate": true, "ServiceMonitor": true, "PrometheusRule": true}
	for name, v := range examples(t) {
		for _, o := range mustRender(t, release{cluster: true}, v).objects {
			typed := builtin(o.kind())
			if typed == nil {
				if !custom[o.kind()] {
					t.Errorf("%s: the kind %s is not checked", name, o.kind())
				}
				continue
			}
			text, err := yaml.Marshal(o)
			if err == nil {
				err = yaml.UnmarshalStrict(text, typed)
			}
			if err != nil {
				t.Errorf("%s: %s %s: %v", name, o.kind(), o.name(), err)
			}
		}
	}
}

// pod is a pod of the chart and where it comes from.
type pod struct {
	owner string
	spec  corev1.PodSpec
	tmpl  corev1.PodTemplateSpec
}

func pods(t *testing.T, out rendered) []pod {
	t.Helper()
	var found []pod
	for _, o := range out.objects {
		owner := o.kind() + " " + o.name()
		switch o.kind() {
		case "Pod":
			typed := decode[corev1.Pod](t, o)
			found = append(found, pod{owner: owner, spec: typed.Spec, tmpl: corev1.PodTemplateSpec{ObjectMeta: typed.ObjectMeta, Spec: typed.Spec}})
		case "CronJob":
			template := decode[corev1.PodTemplateSpec](t, o.at("spec", "jobTemplate", "spec", "template"))
			found = append(found, pod{owner: owner, spec: template.Spec, tmpl: template})
		case "Deployment", "DaemonSet", "StatefulSet":
			template := decode[corev1.PodTemplateSpec](t, o.at("spec", "template"))
			found = append(found, pod{owner: owner, spec: template.Spec, tmpl: template})
		}
	}
	return found
}

func TestEveryPodIsLockedDown(t *testing.T) {
	t.Parallel()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	all := pods(t, mustRender(t, release{cluster: true}, values(t, installed, []string{"backup.enabled=true", "kubernetesSecrets.enabled=true"})))
	if len(all) != 5 {
		t.Fatalf("%d pods instead of server, agent, PostgreSQL, backup and test", len(all))
	}
	for _, p := range all {
		for _, result := range evaluator.EvaluatePod(restricted, &p.tmpl.ObjectMeta, &p.spec) {
			if !result.Allowed {
				t.Errorf("%s: Pod Security restricted refuses it: %s: %s", p.owner, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		if p.spec.EnableServiceLinks == nil || *p.spec.EnableServiceLinks {
			t.Errorf("%s: service links are injected", p.owner)
		}
		if s := p.spec.SecurityContext; s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || s.RunAsUser == nil || *s.RunAsUser == 0 {
			t.Errorf("%s: the pod's security context is %+v", p.owner, s)
		}
		for _, c := range p.spec.Containers {
			s := c.SecurityContext
			if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
				t.Errorf("%s: container %s may do too much: %+v", p.owner, c.Name, s)
			}
			if len(c.Resources.Limits) == 0 && !strings.HasPrefix(p.owner, "Pod ") {
				t.Errorf("%s: container %s has no limits", p.owner, c.Name)
			}
		}
	}
}

func TestOnlyTheServerCallsTheKubernetesAPI(t *testing.T) {
	t.Parallel()
	out := mustRender(t, release{cluster: true}, values(t, installed, []string{"backup.enabled=true"}))
	for _, p := range pods(t, out) {
		mounted := p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken
		if server := p.owner == "Deployment certctl-server"; mounted != server {
			t.Errorf("%s: its ServiceAccount token is mounted: %t", p.owner, mounted)
		}
	}
	role := decode[rbacv1.ClusterRole](t, out.one(t, "ClusterRole", "certctl"))
	if len(role.Rules) != 1 || role.Rules[0].Resources[0] != "tokenreviews" || len(role.Rules[0].Verbs) != 1 {
		t.Errorf("the server may do more than ask for a TokenReview: %+v", role.Rules)
	}
}

func TestAgentsThatWriteSecretsMayDoOnlyThat(t *testing.T) {
	t.Parallel()
	everywhere := mustRender(t, release{}, values(t, installed, []string{"kubernetesSecrets.enabled=true"}))
	listed := mustRender(t, release{}, values(t, installed, []string{"kubernetesSecrets.enabled=true", "kubernetesSecrets.namespaces[0]=shop", "kubernetesSecrets.namespaces[1]=web"}))
	if diff := cmp.Diff(with(own, "ServiceAccount", "ClusterRole", "ClusterRoleBinding"), everywhere.kinds()); diff != "" {
		t.Errorf("in all namespaces (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(with(own, "ServiceAccount", "Role", "Role", "RoleBinding", "RoleBinding"), listed.kinds()); diff != "" {
		t.Errorf("in listed namespaces (-want +got):\n%s", diff)
	}
	for _, out := range []rendered{everywhere, listed} {
		template := decode[corev1.PodTemplateSpec](t, out.one(t, "DaemonSet", "certctl-agent").at("spec", "template"))
		if template.Spec.ServiceAccountName != "certctl-agent" || !*template.Spec.AutomountServiceAccountToken {
			t.Errorf("the agent runs as %s", template.Spec.ServiceAccountName)
		}
	}
	for _, o := range append(everywhere.objects, listed.objects...) {
		if !strings.HasSuffix(o.kind(), "Role") || o.name() == "certctl" {
			continue
		}
		role := decode[rbacv1.Role](t, o)
		if diff := cmp.Diff([]string{"get", "watch", "create", "patch", "delete"}, role.Rules[0].Verbs); diff != "" || len(role.Rules) != 1 {
			t.Errorf("%s %s: %+v", o.kind(), o.name(), role.Rules)
		}
	}
}

func TestOneFieldOfASecurityContextKeepsTheOthers(t *testing.T) {
	t.Parallel()
	for component, owner := range map[string]string{
		"server": "Deployment certctl-server", "agent": "DaemonSet certctl-agent", "postgresql": "StatefulSet certctl-postgres",
	} {
		out := mustRender(t, release{}, values(t, installed, []string{component + ".securityContext.runAsUser=0", component + ".securityContext.readOnlyRootFilesystem=false"}))
		for _, p := range pods(t, out) {
			if p.owner != owner {
				continue
			}
			inPod, inContainer := p.spec.SecurityContext, p.spec.Containers[0].SecurityContext
			if *inPod.RunAsUser != 0 || !*inPod.RunAsNonRoot || inPod.FSGroup == nil || *inContainer.ReadOnlyRootFilesystem || *inContainer.AllowPrivilegeEscalation {
				t.Errorf("%s: %+v, %+v", owner, inPod, inContainer)
			}
		}
	}
}

func TestTheAgentGetsNeitherTheAdminKeyNorTheServersKey(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]map[string]any{"keys in values": values(t, installed), "keys in a Secret": values(t, existing)} {
		out := mustRender(t, release{}, v)
		template := decode[corev1.PodTemplateSpec](t, out.one(t, "DaemonSet", "certctl-agent").at("spec", "template"))
		for _, e := range template.Spec.Containers[0].Env {
			if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
				continue
			}
			if key := e.ValueFrom.SecretKeyRef.Key; key != "CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN" && key != "enrollment-token" {
				t.Errorf("%s: %s comes from the key %s", name, e.Name, key)
			}
		}
		for _, volume := range template.Spec.Volumes {
			if volume.Secret != nil {
				t.Errorf("%s: volume %s mounts a whole Secret", name, volume.Name)
			}
			if volume.Projected == nil {
				continue
			}
			for _, source := range volume.Projected.Sources {
				if source.Secret != nil && (len(source.Secret.Items) != 1 || strings.HasSuffix(source.Secret.Items[0].Key, ".key")) {
					t.Errorf("%s: volume %s shows %+v", name, volume.Name, source.Secret)
				}
			}
		}
	}
}

func TestNoPostgresIsLeftWithAnExternalDatabase(t *testing.T) {
	t.Parallel()
	if out := mustRender(t, release{}, values(t, external)); strings.Contains(out.text, "POSTGRES_") || strings.Contains(out.text, "certctl-postgres") {
		t.Error("something refers to the PostgreSQL that is not there")
	}
}

func TestNothingRefersToWhatIsTurnedOff(t *testing.T) {
	t.Parallel()
	for set, gone := range map[string]string{"agent.enabled=false": "certctl-agent", "serviceAccount.create=false": "serviceAccountName: certctl"} {
		if out := mustRender(t, release{}, values(t, installed, []string{set})); strings.Contains(out.text, gone) {
			t.Errorf("%s: %q is still there", set, gone)
		}
	}
}

func TestTheRequestsOfAPodThatGoesAreServed(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1.25.0", "v1.35.4"} {
		out := mustRender(t, release{kubernetes: version}, values(t, installed))
		if !strings.Contains(out.text, "CERTCTL_SHUTDOWN_DELAY: 5s") {
			t.Errorf("%s: a pod that stops turns requests away at once", version)
		}
	}
}

func TestAffinitiesCombine(t *testing.T) {
	t.Parallel()
	out := mustRender(t, release{}, examples(t)["edge"])
	affinity := decode[corev1.Affinity](t, out.one(t, "Deployment", "certctl-server").at("spec", "template", "spec", "affinity"))
	terms := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	if len(terms) != 2 || len(terms[0].MatchExpressions) != 2 || len(terms[1].MatchExpressions) != 2 {
		t.Errorf("not each alternative of one with each of the other: %+v", terms)
	}
	if affinity.PodAntiAffinity == nil || len(affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution) != 1 {
		t.Errorf("the replicas do not prefer different nodes: %+v", affinity.PodAntiAffinity)
	}
}

func TestConfigurationRollsThePods(t *testing.T) {
	t.Parallel()
	checksums := func(sets ...string) string {
		out := mustRender(t, release{}, values(t, installed, sets))
		template := decode[corev1.PodTemplateSpec](t, out.one(t, "Deployment", "certctl-server").at("spec", "template"))
		return template.Annotations["checksum/config"] + template.Annotations["checksum/secret"]
	}
	before := checksums()
	for _, set := range []string{"server.logging.level=debug", "server.env.A=b", "server.auth.apiKey=" + strings.ToLower(apiKey), "postgresql.auth.password=other"} {
		if checksums(set) == before {
			t.Errorf("%s does not roll the server's pods", set)
		}
	}
	if checksums() != before {
		t.Error("the same values roll the pods")
	}
}
