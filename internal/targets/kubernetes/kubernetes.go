// Package kubernetes is the target kind for programs in a cluster: a Secret of
// the type kubernetes.io/tls in a namespace, written by server-side apply, read
// back, and kept: when somebody changes or removes it, the agent puts it right.
//
// A Secret belongs to one target. It says so by a label and an annotation, and
// one that does not is never touched. Labels, annotations and data that others
// add to a Secret of ours stay.
//
// The client is a small one on net/http and not client-go: one kind of object
// and four verbs are needed, and the agent, which runs on every host, is to
// contain no library of Kubernetes (see test/arch). client-go's dynamic client
// alone would make the agent a third larger, by 4.4 MB.
package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/settings"
)

// StoreName is the name of the store that the kind needs.
const StoreName = "kubernetes"

// What a Secret of ours says of itself. The first two make it ours.
const (
	labelManagedBy  = "app.kubernetes.io/managed-by"
	managedBy       = "certctl"
	ownNames        = "certctl.io/" // of annotations and labels
	noteTarget      = ownNames + "target"
	noteSerial      = ownNames + "serial"
	noteNotAfter    = ownNames + "not-after"
	noteFingerprint = ownNames + "fingerprint"
)

type form struct {
	Namespace   string            `json:"namespace" required:"true" title:"Namespace" help:"Namespace of the Secret." example:"shop"`
	Name        string            `json:"name" required:"true" title:"Secret" help:"Name of the Secret. One that is there already and is not this target's is not touched." example:"web-tls"`
	CA          string            `json:"ca" title:"CA" help:"What ca.crt holds: the word chain, for the certificates above the leaf, or certificates in PEM. Left out, there is no ca.crt." example:"chain"`
	Labels      map[string]string `json:"labels" title:"Labels" help:"Further labels of the Secret." example:"{\"team\": \"web\"}"`
	Annotations map[string]string `json:"annotations" title:"Annotations" help:"Further annotations of the Secret." example:"{\"example.com/contact\": \"web@example.com\"}"`
	Probe       *probe            `json:"probe" title:"Proof" help:"Where to see that the new certificate is served. Without it a deployment ends when the Secret was written and read back."`
}

type probe struct {
	Address    settings.Address    `json:"address" required:"true" title:"Address" help:"Host and port, as the agent reaches it, where the certificate must be served after a deployment." example:"web.shop.svc:443"`
	ServerName settings.ServerName `json:"server_name" title:"Server name" help:"Name to ask for (SNI). Left out, it is the first DNS name of the certificate." example:"www.example.com"`
	Timeout    settings.Duration   `json:"timeout" title:"Time limit" help:"How long the new certificate may take until it is served. A Secret that is mounted into a pod reaches it after a minute or more." default:"2m"`
}

// defaultProbeTimeout leaves a kubelet the time to bring a Secret to its pods.
const defaultProbeTimeout = 2 * time.Minute

// Kind implements targets.Kind.
type Kind struct{}

// Name implements targets.Kind.
func (Kind) Name() string { return "kubernetes" }

// Schema implements targets.Kind.
func (Kind) Schema() json.RawMessage { return settings.Schema[form]() }

// Secrets implements targets.Kind.
func (Kind) Secrets() []string { return settings.Secrets[form]() }

// Check implements targets.Kind.
func (Kind) Check(raw json.RawMessage) error {
	_, err := read(raw)
	return err
}

// The forms of names in Kubernetes (RFC 1123), and of labels.
var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	wordOfKey    = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
)

const (
	maxSubdomain       = 253
	maxAnnotationBytes = 128 << 10 // Kubernetes takes 256 KiB for all of an object
)

func read(raw json.RawMessage) (form, error) {
	f, err := settings.Decode[form](raw)
	if err != nil {
		return f, err
	}
	var problems []*problem.Error
	if !dnsLabel.MatchString(f.Namespace) {
		problems = append(problems, problem.Invalid("settings.namespace", "%q is not the name of a namespace", f.Namespace).
			Hint("use at most 63 lower-case letters, digits and -"))
	}
	if !dnsSubdomain.MatchString(f.Name) || len(f.Name) > maxSubdomain {
		problems = append(problems, problem.Invalid("settings.name", "%q is not the name of a Secret", f.Name).
			Hint("use at most 253 lower-case letters, digits, - and ."))
	}
	if f.CA != "" && f.CA != "chain" {
		if _, err := pki.ParseChain([]byte(f.CA)); err != nil {
			problems = append(problems, problem.Invalid("settings.ca", "it is neither the word chain nor certificates in PEM: %v", err).
				Hint("write chain, or the text of a PEM file"))
		}
	}
	return f, problem.Join(append(problems, append(checkLabels(f.Labels), checkAnnotations(f.Annotations)...)...)...)
}

func checkLabels(labels map[string]string) []*problem.Error {
	var problems []*problem.Error
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if p := checkKey("settings.labels", key); p != nil {
			problems = append(problems, p)
		}
		if text := labels[key]; text != "" && !wordOfKey.MatchString(text) {
			problems = append(problems, problem.Invalid("settings.labels", "%q cannot be the value of label %s", text, key).
				Hint("use at most 63 letters, digits, -, _ and ., or an annotation"))
		}
	}
	return problems
}

func checkAnnotations(annotations map[string]string) []*problem.Error {
	var problems []*problem.Error
	size := 0
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if p := checkKey("settings.annotations", key); p != nil {
			problems = append(problems, p)
		}
		size += len(key) + len(annotations[key])
	}
	if size > maxAnnotationBytes {
		problems = append(problems, problem.Invalid("settings.annotations", "they have %d bytes", size).Hint("stay below %d", maxAnnotationBytes))
	}
	return problems
}

// checkKey tells what is wrong with the key of a label or annotation.
func checkKey(field, key string) *problem.Error {
	prefix, word, prefixed := strings.Cut(key, "/")
	if !prefixed {
		prefix, word = "", key
	}
	switch {
	case key == labelManagedBy || strings.HasPrefix(key, ownNames):
		return problem.Invalid(field, "%s is set by certctl", key).Hint("choose another key")
	case !wordOfKey.MatchString(word), prefixed && (!dnsSubdomain.MatchString(prefix) || len(prefix) > maxSubdomain):
		return problem.Invalid(field, "%q is not a key of Kubernetes", key).Hint("write a word of letters, digits, -, _ and ., or a domain, a slash and such a word")
	}
	return nil
}

// Plan implements targets.Kind.
func (Kind) Plan(raw json.RawMessage, b pki.Bundle) (targets.Plan, error) {
	f, err := read(raw)
	if err != nil {
		return targets.Plan{}, err
	}
	data, err := f.content(b)
	if err != nil {
		return targets.Plan{}, err
	}
	return targets.Plan{
		Records: []targets.Record{{Store: StoreName, Name: f.Namespace + "/" + f.Name, Data: data}},
		Probe:   f.Probe.plan(b),
	}, nil
}

// content is what the Secret holds for a bundle.
func (f form) content(b pki.Bundle) ([]byte, error) {
	leaf, err := b.Chain.Leaf()
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	key, err := b.KeyPEM()
	if err != nil {
		return nil, err
	}
	c := content{
		Labels:      maps.Clone(f.Labels),
		Annotations: map[string]string{},
		Data:        map[string][]byte{keyCertificate: b.FullChainPEM(), keyPrivate: key},
	}
	maps.Copy(c.Annotations, f.Annotations)
	c.Annotations[noteSerial] = pki.SerialHex(leaf.SerialNumber)
	c.Annotations[noteNotAfter] = leaf.NotAfter.UTC().Format(time.RFC3339)
	c.Annotations[noteFingerprint] = pki.Fingerprint(leaf.Raw)
	switch f.CA {
	case "":
	case "chain":
		if above := b.ChainPEM(); len(above) > 0 {
			c.Data[keyCA] = above
		}
	default:
		c.Data[keyCA] = []byte(f.CA)
	}
	return json.Marshal(c)
}

func (p *probe) plan(b pki.Bundle) *targets.Probe {
	if p == nil {
		return nil
	}
	inner := settings.Probe(*p)
	plan := inner.Plan(b)
	if plan.Timeout == 0 {
		plan.Timeout = defaultProbeTimeout
	}
	return plan
}
