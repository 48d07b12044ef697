package chart

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// exempt are the values whose change cannot be seen in what is rendered.
var exempt = map[string]string{
	"backup.sink":      "there is one place for backups so far, and the schema refuses every other",
	"server.auth.type": "there is one way to authenticate so far, and the schema refuses every other",
}

// needs are what must be set for values to act: those under the longest prefix
// of a path count.
var needs = map[string][]string{
	"":                                      installed,
	"server.tls.existingSecret":             installed[1:],
	"server.tls.certManager":                certManager,
	"server.tls.certManager.enabled":        {"server.tls.certManager.issuerRef.name=ca", installed[1], installed[2]},
	"server.tls.certManager.issuerRef.name": {"server.tls.certManager.enabled=true", installed[1], installed[2]},
	"server.auth.apiKey":                    {installed[0], installed[2]},
	"server.auth.existingSecret":            {installed[0], installed[2]},
	"server.autoscaling":                    append(installed[:3:3], "server.autoscaling.enabled=true"),
	"server.autoscaling.enabled":            installed,
	"externalDatabase.url":                  external[:3],
	"externalDatabase.password":             external,
	"externalDatabase.existingSecret":       external[:3],
	"postgresql.enabled":                    {external[0], external[1], external[3]},
	"postgresql.auth.password":              installed[:2],
	"postgresql.auth.existingSecret":        installed[:2],
	"agent.replicas":                        append(installed[:3:3], "agent.kind=Deployment"),
	"agent.persistence":                     append(installed[:3:3], "agent.persistence.type=hostPath"),
	"agent.persistence.type":                installed,
	"ingress":                               append(installed[:3:3], "ingress.enabled=true", "ingress.hosts[0].host=a.example.com"),
	"ingress.certManager.issuerRef": append(installed[:3:3], "ingress.enabled=true", "ingress.hosts[0].host=a.example.com",
		"ingress.certManager.enabled=true", "ingress.certManager.issuerRef.name=ca"),
	"ingress.certManager.enabled": append(installed[:3:3], "ingress.enabled=true", "ingress.hosts[0].host=a.example.com",
		"ingress.certManager.issuerRef.name=ca"),
	"ingress.enabled":             append(installed[:3:3], "ingress.hosts[0].host=a.example.com"),
	"podDisruptionBudget":         append(installed[:3:3], "server.replicas=3", "podDisruptionBudget.enabled=true"),
	"podDisruptionBudget.enabled": append(installed[:3:3], "server.replicas=3"),
	"monitoring":                  append(installed[:3:3], "monitoring.enabled=true"),
	"monitoring.enabled":          append(installed[:3:3], "monitoring.serviceMonitor.enabled=true"),
	"monitoring.serviceMonitor": append(installed[:3:3], "monitoring.enabled=true", "monitoring.serviceMonitor.enabled=true",
		"monitoring.serviceMonitor.bearerTokenSecret.name=metrics"),
	"monitoring.serviceMonitor.enabled":  append(installed[:3:3], "monitoring.enabled=true"),
	"monitoring.prometheusRules":         append(installed[:3:3], "monitoring.enabled=true", "monitoring.prometheusRules.enabled=true"),
	"monitoring.prometheusRules.enabled": append(installed[:3:3], "monitoring.enabled=true"),
	"monitoring.dashboard":               append(installed[:3:3], "monitoring.enabled=true", "monitoring.dashboard.enabled=true"),
	"monitoring.dashboard.enabled":       append(installed[:3:3], "monitoring.enabled=true"),
	"networkPolicy":                      append(installed[:3:3], "networkPolicy.enabled=true"),
	"kubernetesSecrets":                  append(installed[:3:3], "kubernetesSecrets.enabled=true"),
	"kubernetesSecrets.enabled":          installed,
	"backup":                             append(installed[:3:3], "backup.enabled=true"),
	"backup.enabled":                     installed,
	"backup.withMasterKey":               append(installed[:3:3], "backup.enabled=true", "backup.ageRecipients[0]="+age),
	"networkPolicy.enabled":              installed,
}

const age = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// otherWords are what a value is changed to, by the last words of its path,
// where another number or switch will not do.
var otherWords = map[string]any{
	"pullPolicy": "Always", "digest": "sha256:" + strings.Repeat("ab", 32), "repository": "registry.example.com/other", "tag": "9.9.9",
	"server.service.type": "LoadBalancer", "sessionAffinity": "ClientIP", "server.logging.level": "debug", "server.logging.format": "text",
	"agent.kind": "Deployment", "agent.persistence.type": "hostPath", "postgresql.tls.mode": "prefer", "fsGroupChangePolicy": "Always",
	"publicURL": "https://other.example.com", "status.url": "http://other.example.com", "externalDatabase.url": "postgres://other/certctl",
	"apiKey": apiKey, "encryption.key": apiKey, "agent.enrollmentToken": apiKey, "mountPath": "/other", "keyDir": "/other", "persistence.path": "/other",
	"duration": "48h", "renewBefore": "12h", "interval": "11s", "scrapeTimeout": "7s", "thresholds.for": "7m", "storage.size": "9Gi",
	"schedule": "1 2 * * *", "retention": "9d", "ageRecipients": []any{age},
	"minAvailable": "1", "maxUnavailable": "2", "dnsNames": []any{"other.example.com"}, "drop": []any{"CHOWN"}, "cpu": "7m", "memory": "7Mi",
	"env": map[string]any{"OTHER": "value"}, "postgresqlConfig": map[string]any{"work_mem": "8MB"}, "tlsConfig": map[string]any{"serverName": "other"},
	"imagePullSecrets": []any{map[string]any{"name": "other"}}, "ingress.hosts": []any{map[string]any{"host": "other.example.com"}},
	"ingress.tls": []any{map[string]any{"secretName": "other"}}, "volumes": []any{map[string]any{"name": "other", "emptyDir": map[string]any{}}},
	"volumeMounts": []any{map[string]any{"name": "other", "mountPath": "/other"}}, "tolerations": []any{map[string]any{"operator": "Exists"}},
	"rules":       []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"pods"}, "verbs": []any{"get"}}},
	"relabelings": []any{map[string]any{"action": "labeldrop", "regex": "other"}}, "extraIngress": []any{map[string]any{}}, "extraEgress": []any{map[string]any{}},
	"topologySpreadConstraints": []any{map[string]any{"maxSkew": 2, "topologyKey": "other", "whenUnsatisfiable": "DoNotSchedule"}},
	"affinity":                  map[string]any{"podAffinity": otherPods}, "podAffinity": otherPods, "podAntiAffinity": otherPods,
	"nodeAffinity":                       map[string]any{"preferredDuringSchedulingIgnoredDuringExecution": []any{map[string]any{"weight": 1}}},
	"ingress.certManager.issuerRef.kind": "Issuer", "commonName": "other.example.com",
}

var otherPods = map[string]any{"requiredDuringSchedulingIgnoredDuringExecution": []any{map[string]any{"topologyKey": "other"}}}

// under finds what a table says about a path by its longest key that holds.
func under[V any](table map[string]V, holds func(key string) bool) (V, bool) {
	best, found := "", false
	for key := range table {
		if holds(key) && (!found || len(key) > len(best)) {
			best, found = key, true
		}
	}
	return table[best], found
}

// leaves are the paths of all values that hold no others.
func leaves(prefix string, value any) map[string]any {
	fields, isMap := value.(map[string]any)
	if !isMap || len(fields) == 0 {
		return map[string]any{prefix: value}
	}
	all := map[string]any{}
	for key, field := range fields {
		for path, leaf := range leaves(strings.TrimPrefix(prefix+"."+key, "."), field) {
			all[path] = leaf
		}
	}
	return all
}

func defaults(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile(chartDir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// other is another value for a leaf.
func other(path string, value any) any {
	if words, ok := under(otherWords, func(key string) bool { return path == key || strings.HasSuffix(path, "."+key) }); ok {
		return words
	}
	switch v := value.(type) {
	case bool:
		return !v
	case float64:
		return v + 1
	case string:
		return "other"
	case []any:
		return []any{"other"}
	}
	return map[string]any{"other": "other"}
}

// put sets the value at a path.
func put(tree map[string]any, path string, value any) {
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, ok := tree[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			tree[key] = next
		}
		tree = next
	}
	tree[keys[len(keys)-1]] = value
}

func TestEveryValueActs(t *testing.T) {
	t.Parallel()
	all := leaves("", defaults(t))
	for path := range exempt {
		if _, exists := all[path]; !exists {
			t.Errorf("%s is exempt and no value", path)
		}
	}
	for path, value := range all {
		if _, ok := exempt[path]; ok {
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			sets, _ := under(needs, func(key string) bool { return key == "" || path == key || strings.HasPrefix(path, key+".") })
			before, beforeErr := render(release{}, values(t, sets))
			changed := values(t, sets)
			put(changed, path, other(path, value))
			after, err := render(release{}, changed)
			if err != nil {
				t.Fatalf("as %v: %v", other(path, value), err)
			}
			if beforeErr == nil && before.text == after.text {
				t.Errorf("%v instead of %v changes nothing", other(path, value), value)
			}
		})
	}
}

func TestEveryNeedIsOfAValue(t *testing.T) {
	t.Parallel()
	paths := leaves("", defaults(t))
	for prefix := range needs {
		known := slices.ContainsFunc(slices.Collect(maps.Keys(paths)), func(path string) bool {
			return prefix == "" || path == prefix || strings.HasPrefix(path, prefix+".")
		})
		if !known {
			t.Errorf("%s is no value", prefix)
		}
	}
}
