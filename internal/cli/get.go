package cli

import (
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

// kind is a type of object that get and describe know.
type kind struct {
	name     string
	aliases  []string
	prefix   string // of its ids
	get      func(s *session, ref string) error
	describe func(s *session, ref string) error // nil: get says all there is
}

func kindsOfObjects() []kind {
	return []kind{
		{"certificate", []string{"certificates", "cert", "certs"}, "crt", certificates().get, describeCertificate},
		{"version", []string{"versions"}, "ver", versions().get, nil},
		{"order", []string{"orders"}, "ord", orders().get, describeOrder},
		{"deployment", []string{"deployments"}, "dep", deployments().get, describeDeployment},
		{"target", []string{"targets"}, "tgt", targets().get, describeTarget},
		{"agent", []string{"agents"}, "agt", agents().get, describeAgent},
		{"profile", []string{"profiles"}, "prf", profiles().get, nil},
		{"issuer", []string{"issuers"}, "iss", issuers().get, nil},
		{"job", []string{"jobs"}, "", jobs().get, nil},
	}
}

// object is the argument of commands about one object: a kind and a name, or an
// id alone, which says its kind by its prefix.
type object struct {
	Kind string `arg:"" complete:"kind" help:"certificate, version, order, deployment, target, agent, profile, issuer or job; or an id."`
	Name string `arg:"" optional:"" complete:"object" help:"Name or id of the object."`
}

func (o object) find() (kind, string, error) {
	kinds := kindsOfObjects()
	if o.Name == "" {
		for _, k := range kinds {
			if k.prefix != "" && id.Is(k.prefix, o.Kind) {
				return k, o.Kind, nil
			}
		}
	}
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
		if o.Kind != k.name && !slices.Contains(k.aliases, o.Kind) {
			continue
		}
		if o.Name == "" {
			return k, "", problem.Invalid("", "the name of the %s is missing", k.name).
				Hint("certctl list %s shows them", k.aliases[0])
		}
		return k, o.Name, nil
	}
	return kind{}, "", problem.Invalid("", "%q is not a kind of object", o.Kind).Hint("use one of %s", strings.Join(names, ", "))
}

type getCmd struct{ object }

// Help is the long help of the command.
func (getCmd) Help() string {
	return `An id says by itself what it is, so that its kind can be left out.

Examples:
  certctl get certificate www.example.com
  certctl get certificate www.example.com -o yaml
  certctl get ord_0193d5b2a86c7f0c9e0d6c1b4a2f8e37`
}

// Run prints one object.
func (c getCmd) Run(s *session) error {
	k, ref, err := c.find()
	if err != nil {
		return err
	}
	return k.get(s, ref)
}

type describeCmd struct{ object }

// Help is the long help of the command.
func (describeCmd) Help() string {
	return `Examples:
  certctl describe certificate www.example.com
  certctl describe agent web-1
  certctl describe dep_0193d5b2a86c7f0c9e0d6c1b4a2f8e37`
}

// Run tells the story of one object.
func (c describeCmd) Run(s *session) error {
	k, ref, err := c.find()
	if err != nil {
		return err
	}
	switch {
	case k.describe == nil:
		return problem.Invalid("", "%s has no story to tell", article(k.name)).Hint("certctl get %s %s -o yaml shows all of it", k.name, ref)
	case !s.forPeople():
		return k.get(s, ref)
	}
	return k.describe(s, ref)
}
