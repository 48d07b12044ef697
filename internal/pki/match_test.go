package pki

import (
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/problem"
)

func TestPatternsAllowWhatTheyDocument(t *testing.T) {
	t.Parallel()
	cases := []struct {
		kind           string
		match          func(pattern, name string) bool
		pattern        string
		allowed, other string // space-separated
	}{
		{"DNS", MatchDNS, "example.com", "example.com", "a.example.com *.example.com com"},
		{"DNS", MatchDNS, "*.example.com", "a.example.com", "example.com a.b.example.com *.example.com aexample.com"},
		{"DNS", MatchDNS, "**.example.com", "example.com a.example.com a.b.example.com", "*.example.com *.a.example.com badexample.com"},
		{"DNS", MatchDNS, "**", "example.com localhost", "*.example.com"},
		{"DNS", MatchDNS, "wildcard:*.example.com", "*.example.com", "a.example.com *.a.example.com example.com"},
		{"DNS", MatchDNS, "wildcard:**.example.com", "*.example.com *.a.example.com", "a.example.com *.example.org example.com"},
		{"DNS", MatchDNS, "wildcard:**", "*.example.com *.example.org", "example.com"},
		{"DNS", MatchDNS, "wildcard:example.com", "", "example.com *.example.com"},
		{"DNS", MatchDNS, "", "", "example.com *.example.com"},
		{"IP", MatchIP, "10.0.0.7", "10.0.0.7", "10.0.0.8 2001:db8::1"},
		{"IP", MatchIP, "10.0.0.0/8", "10.1.2.3", "11.0.0.1 2001:db8::1 nonsense"},
		{"IP", MatchIP, "2001:db8::/32", "2001:db8::1", "2001:db9::1 10.0.0.1"},
		{"IP", MatchIP, "**", "10.0.0.1 2001:db8::1", "nonsense"},
		{"IP", MatchIP, "nonsense", "", "10.0.0.1"},
		{"URI", MatchURI, "spiffe://example.org", "spiffe://example.org spiffe://example.org/a", "spiffe://example.com/a https://example.org/a spiffe://example.org.evil/"},
		{"URI", MatchURI, "spiffe://example.org/ns/prod", "spiffe://example.org/ns/prod spiffe://example.org/ns/prod/a", "spiffe://example.org/ns/production spiffe://example.org/ns"},
		{"URI", MatchURI, "spiffe://example.org/ns/", "spiffe://example.org/ns/a", "spiffe://example.org/ns"},
		{"URI", MatchURI, "https://example.org:8443", "https://example.org:8443/", "https://example.org/"},
		{"URI", MatchURI, "urn:example:a", "urn:example:a urn:example:a:b", "urn:example:ab urn:other:a"},
		{"URI", MatchURI, "**", "urn:a:b https://example.org/", ""},
		{"e-mail", MatchEmail, "ops@example.com", "ops@example.com", "dev@example.com ops@a.example.com"},
		{"e-mail", MatchEmail, "example.com", "ops@example.com", "ops@a.example.com ops@badexample.com"},
		{"e-mail", MatchEmail, "**.example.com", "ops@example.com ops@a.b.example.com", "ops@example.org"},
		{"e-mail", MatchEmail, "**", "ops@example.com", ""},
	}
	for _, c := range cases {
		for _, name := range strings.Fields(c.allowed) {
			if !c.match(c.pattern, name) {
				t.Errorf("%s pattern %q does not allow %q", c.kind, c.pattern, name)
			}
		}
		for _, name := range strings.Fields(c.other) {
			if c.match(c.pattern, name) {
				t.Errorf("%s pattern %q allows %q", c.kind, c.pattern, name)
			}
		}
	}
}

func TestParsePatternsGivesTheCanonicalForm(t *testing.T) {
	t.Parallel()
	cases := []struct {
		parse         func(string) (string, error)
		pattern, want string // want is empty when the pattern is wrong
	}{
		{ParseDNSPattern, "Example.COM", "example.com"},
		{ParseDNSPattern, "*.bücher.example", "*.xn--bcher-kva.example"},
		{ParseDNSPattern, "**.example.com", "**.example.com"},
		{ParseDNSPattern, "**", "**"},
		{ParseDNSPattern, "wildcard:**", "wildcard:**"},
		{ParseDNSPattern, "wildcard:*.Example.com", "wildcard:*.example.com"},
		{ParseDNSPattern, "wildcard:example.com", ""},
		{ParseDNSPattern, "*", ""},
		{ParseDNSPattern, "", ""},
		{ParseDNSPattern, "a*.example.com", ""},
		{ParseDNSPattern, "a.*.example.com", ""},
		{ParseDNSPattern, "***.example.com", ""},
		{ParseIPPattern, "10.0.0.0/8", "10.0.0.0/8"},
		{ParseIPPattern, "::ffff:10.0.0.1", "10.0.0.1"},
		{ParseIPPattern, "**", "**"},
		{ParseIPPattern, "10.0.0.1/8", ""},
		{ParseIPPattern, "10.0.0", ""},
		{ParseURIPattern, "spiffe://Example.org/ns", "spiffe://example.org/ns"},
		{ParseURIPattern, "**", "**"},
		{ParseURIPattern, "example.org", ""},
		{ParseURIPattern, "https://example.org/?q", ""},
		{ParseURIPattern, "https:///x", ""},
		{ParseEmailPattern, "Ops@Example.com", "Ops@example.com"},
		{ParseEmailPattern, "**.Example.com", "**.example.com"},
		{ParseEmailPattern, "a b@example.com", ""},
		{ParseEmailPattern, "wildcard:*.example.com", ""},
	}
	for _, c := range cases {
		got, err := c.parse(c.pattern)
		if got != c.want || (c.want == "") != (problem.KindOf(err) == problem.KindInvalid) {
			t.Errorf("pattern %q: got %q, %v, want %q", c.pattern, got, err, c.want)
		}
	}
}
