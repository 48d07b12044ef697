package config

import (
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// agentPrefix starts the variables of certctl-agent, which checks them itself;
// no setting of the server may begin with it.
const agentPrefix = variablePrefix + "AGENT_"

// clientVariables are read by the client commands of certctl. A server that is
// started in a shell where they are set must not stop at them.
func clientVariables() []string {
	return []string{
		variablePrefix + "URL",
		variablePrefix + "API_KEY",
		variablePrefix + "API_KEY_FILE",
		variablePrefix + "CA_SHA256",
		variablePrefix + "CA_FILE",
		variablePrefix + "CONTEXT",
	}
}

// checkVariables reports every CERTCTL_ variable that nothing reads: a
// misspelt name would otherwise leave a default in force without a word.
func checkVariables(environ []string) []*problem.Error {
	known := clientVariables()
	for _, s := range settings() {
		known = append(known, s.variable())
	}
	var problems []*problem.Error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || strings.HasPrefix(name, agentPrefix) || slices.Contains(known, name) {
			continue
		}
		problems = append(problems, problem.Invalid(name, "certctl reads no variable of this name").Hint("%s", variableRemedy(name, known)))
	}
	return problems
}

func variableRemedy(name string, known []string) string {
	if hint := didYouMean(name, known); hint != "" {
		return hint + "docs/configuration.md lists all settings"
	}
	if serviceLink(name) {
		return "Kubernetes injects such variables for a Service named certctl...: set enableServiceLinks: false on the pod"
	}
	return "remove it; docs/configuration.md lists all settings"
}

// serviceLink reports whether the name has the form of the variables that
// Kubernetes sets for each Service of the namespace.
func serviceLink(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}

// didYouMean names the closest known word, when one is close enough to be
// what was meant.
func didYouMean(word string, known []string) string {
	best, distance := "", len(word)/5+2
	for _, candidate := range known {
		if d := editDistance(word, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "? "
}

// editDistance is the Levenshtein distance of two words in ASCII.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
