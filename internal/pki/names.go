package pki

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/certctl-io/certctl/internal/problem"
)

// MaxNames bounds the names of one certificate. Larger ones make every
// handshake slow and are refused by public CAs, too.
const MaxNames = 100

const maxName = 2048 // of any type, as written

// Names are what a certificate is valid for, by type, each list sorted and
// without duplicates. Host names are lower-case A-labels, addresses are in
// their shortest form (RFC 5952).
type Names struct {
	DNS   []string `json:"dns,omitempty"`
	IP    []string `json:"ip,omitempty"`
	URI   []string `json:"uri,omitempty"`
	Email []string `json:"email,omitempty"`
}

// ParseNames reads names as a person writes them: "example.com", "*.b.org",
// "bücher.example", "10.0.0.1", "2001:db8::1", "spiffe://example.org/api",
// "ops@example.com". The type follows from the form. Every wrong name is
// reported, under the field names[i].
func ParseNames(names []string) (Names, error) {
	if len(names) > MaxNames {
		return Names{}, problem.Invalid("names", "there are %d names, a certificate has at most %d", len(names), MaxNames).
			Hint("spread them over several certificates, or use a wildcard")
	}
	var parsed Names
	var wrong []*problem.Error
	for i, name := range names {
		if err := parsed.add(name); err != nil {
			err.Field = fmt.Sprintf("names[%d]", i)
			wrong = append(wrong, err)
		}
	}
	if err := problem.Join(wrong...); err != nil {
		return Names{}, err
	}
	return parsed.normal(), nil
}

// add parses one name into the list of its type.
func (n *Names) add(name string) *problem.Error {
	var names *[]string
	var parse func(string) (string, *problem.Error)
	switch {
	case name == "":
		return problem.Invalid("", "the name is empty")
	case len(name) > maxName:
		return tooLong(name)
	case !utf8.ValidString(name):
		return problem.Invalid("", "%q is not text in UTF-8", name)
	case isURI(name):
		names, parse = &n.URI, parseURI
	case strings.Contains(name, "@"):
		names, parse = &n.Email, parseEmail
	case isAddress(name):
		names, parse = &n.IP, parseIP
	default:
		names, parse = &n.DNS, parseDNS
	}
	canonical, err := parse(name)
	if err != nil {
		return err
	}
	*names = append(*names, canonical)
	return nil
}

// normal gives the same names sorted and without duplicates.
func (n Names) normal() Names {
	unique := func(names []string) []string {
		slices.Sort(names)
		return slices.Compact(names)
	}
	return Names{DNS: unique(n.DNS), IP: unique(n.IP), URI: unique(n.URI), Email: unique(n.Email)}
}

// List gives all names in one list: DNS, IP, URI, e-mail.
func (n Names) List() []string {
	return slices.Concat(n.DNS, n.IP, n.URI, n.Email)
}

// Equal reports whether both hold the same names.
func (n Names) Equal(o Names) bool {
	return slices.Equal(n.DNS, o.DNS) && slices.Equal(n.IP, o.IP) &&
		slices.Equal(n.URI, o.URI) && slices.Equal(n.Email, o.Email)
}

// Empty reports whether there is no name.
func (n Names) Empty() bool {
	return len(n.DNS)+len(n.IP)+len(n.URI)+len(n.Email) == 0
}

// Has reports whether name, in its canonical form, is one of the names.
func (n Names) Has(name string) bool {
	return slices.Contains(n.DNS, name) || slices.Contains(n.IP, name) ||
		slices.Contains(n.URI, name) || slices.Contains(n.Email, name)
}

// without gives the names of n that o does not hold.
func (n Names) without(o Names) []string {
	missing := func(a, b []string) []string {
		return slices.DeleteFunc(slices.Clone(a), func(name string) bool { return slices.Contains(b, name) })
	}
	return slices.Concat(missing(n.DNS, o.DNS), missing(n.IP, o.IP), missing(n.URI, o.URI), missing(n.Email, o.Email))
}

// NamesOf gives the subject alternative names of a certificate.
func NamesOf(certificate *x509.Certificate) Names {
	return namesFrom(certificate.DNSNames, certificate.IPAddresses, certificate.URIs, certificate.EmailAddresses)
}

// namesFrom brings the names of a parsed certificate or request to the
// canonical form as far as it is a matter of writing: DNS names compare
// without case (RFC 4343).
func namesFrom(dns []string, ips []net.IP, uris []*url.URL, emails []string) Names {
	var n Names
	for _, name := range dns {
		n.DNS = append(n.DNS, strings.ToLower(name))
	}
	for _, ip := range ips {
		if address, ok := netip.AddrFromSlice(ip); ok {
			n.IP = append(n.IP, address.Unmap().String())
		}
	}
	for _, uri := range uris {
		n.URI = append(n.URI, uri.String())
	}
	n.Email = slices.Clone(emails)
	return n.normal()
}

// IPs gives the IP names in the form that crypto/x509 takes.
func (n Names) IPs() []net.IP {
	ips := make([]net.IP, 0, len(n.IP))
	for _, text := range n.IP {
		ips = append(ips, net.ParseIP(text))
	}
	return ips
}

// URIs gives the URI names in the form that crypto/x509 takes.
func (n Names) URIs() ([]*url.URL, error) {
	uris := make([]*url.URL, 0, len(n.URI))
	for _, text := range n.URI {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, problem.Invalid("names", "%q is not a URI", text)
		}
		uris = append(uris, uri)
	}
	return uris, nil
}
