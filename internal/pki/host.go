package pki

import (
	"cmp"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	maxHost      = 253 // RFC 1035, 2.3.4, without the root's length octet
	maxLabel     = 63
	maxLocalPart = 64  // RFC 5321, 4.5.3.1.1
	maxEmail     = 254 // RFC 5321, 4.5.3.1.3, without the angle brackets
)

// hostForm brings a host name to lower-case A-labels: IDNA 2008 with the
// mappings of UTS 46, which a browser applies to what a person types, and
// without the transitional ones, so that "ß" stays itself.
var hostForm = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.StrictDomainName(true))

// parseDNS reads a host name or a wildcard, whose star stands for one whole
// left-most label (RFC 6125, 6.4.3; RFC 9525, 6.3).
func parseDNS(name string) (string, *problem.Error) {
	base, wildcard := strings.CutPrefix(name, "*.")
	if strings.Contains(base, "*") {
		return "", problem.Invalid("", "%q has a star that is not the whole left-most label", name).
			Hint("a wildcard looks like *.example.com")
	}
	host, err := parseHost(base)
	switch {
	case err != nil:
		return "", err
	case !wildcard:
		return host, nil
	case !strings.Contains(host, "."):
		return "", problem.Invalid("", "%q is a wildcard over a whole top-level domain, which clients do not accept", name).
			Hint("put the star at least two labels before the end, as in *.example.com")
	case len(host)+2 > maxHost:
		return "", tooLong(name)
	}
	return "*." + host, nil
}

// parseHost reads a fully written host name: letters, digits and inner hyphens
// (RFC 952, RFC 1123), no trailing dot, nothing that reads as an address.
func parseHost(name string) (string, *problem.Error) {
	if strings.HasSuffix(name, ".") {
		return "", problem.Invalid("", "%q ends with a dot", name).Hint("leave the trailing dot out")
	}
	if strings.Contains(name, "_") {
		return "", problem.Invalid("", "%q has an underscore, which a host name cannot have", name).
			Hint("use a hyphen")
	}
	host, err := hostForm.ToASCII(name)
	if err == nil {
		// Mapping once more proves that the result is valid itself.
		host, err = hostForm.ToASCII(host)
	}
	if err != nil {
		fault := cmp.Or(hostFault(name), "a label is not valid under IDNA 2008")
		return "", problem.Invalid("", "%q is not a host name: %s", name, fault)
	}
	if fault := hostFault(host); fault != "" {
		return "", problem.Invalid("", "%q is not a host name: %s", name, fault)
	}
	return host, nil
}

// hostFault says what keeps a name from being a host name, or "". It judges
// ASCII only; other characters are IDNA's business.
func hostFault(host string) string {
	if host == "" {
		return "it is empty"
	}
	if len(host) > maxHost {
		return "it is longer than 253 characters"
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		switch {
		case label == "":
			return "it has an empty label"
		case len(label) > maxLabel:
			return "a label is longer than 63 characters"
		case label[0] == '-' || label[len(label)-1] == '-':
			return "a label starts or ends with a hyphen"
		case len(label) > 3 && label[2:4] == "--" && !strings.EqualFold(label[:2], "xn"):
			return "a label has hyphens in the third and fourth place, which is reserved (RFC 5890)"
		case strings.IndexFunc(label, func(r rune) bool { return r < 0x80 && !isLDH(r) }) >= 0:
			return "it has a character other than letters, digits, hyphens and dots"
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "its last label is a number"
	}
	return ""
}

func isLDH(r rune) bool {
	return r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func tooLong(name string) *problem.Error {
	return problem.Invalid("", "%.40q... is too long", name)
}

// isAddress reports whether name is meant as an IP address: host names have
// no colon, and no slash or bracket either.
func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil || strings.ContainsAny(name, ":/[]")
}

// parseIP reads an IPv4 or IPv6 address and gives its shortest form.
func parseIP(name string) (string, *problem.Error) {
	address, err := netip.ParseAddr(name)
	switch {
	case err != nil:
		return "", problem.Invalid("", "%q is neither a host name nor an IP address", name).
			Hint("write it without port, brackets and path; a URI starts with its scheme and ://")
	case address.Zone() != "":
		return "", problem.Invalid("", "%q has a zone, which only means something on one machine", name)
	case address.IsUnspecified():
		return "", problem.Invalid("", "%q is not the address of anybody", name)
	}
	return address.Unmap().String(), nil
}

// isURI reports whether name is meant as a URI. A scheme alone does not tell,
// as "example.com:443" and "fe80::1" have one too.
func isURI(name string) bool {
	return strings.Contains(name, "://") || strings.HasPrefix(strings.ToLower(name), "urn:")
}

// parseURI reads an absolute URI (RFC 5280, 4.2.1.6): with a host, or a URN. A
// user, a fragment or dot segments have no place in an identity.
func parseURI(name string) (string, *problem.Error) {
	uri, err := url.Parse(name)
	if err != nil || uri.Scheme == "" {
		return "", problem.Invalid("", "%q is not a URI", name)
	}
	switch {
	case uri.Scheme == "urn" && uri.Opaque != "":
	case uri.Host == "":
		return "", problem.Invalid("", "the URI %q has no host", name)
	case uri.User != nil:
		return "", problem.Invalid("", "the URI %q has a user part", uri.Redacted()).Hint("leave it out")
	case hasDotSegment(uri.Path):
		return "", problem.Invalid("", "the URI %q has a dot segment in its path", name).Hint("write the path out")
	}
	if uri.Fragment != "" || strings.Contains(name, "#") {
		return "", problem.Invalid("", "the URI %q has a fragment", name).Hint("leave it out")
	}
	if uri.Host != "" {
		host, err := uriHost(uri)
		if err != nil {
			return "", err
		}
		uri.Host = host
	}
	canonical := uri.String()
	if strings.ContainsFunc(canonical, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", problem.Invalid("", "the URI %q has characters outside ASCII", name).Hint("percent-encode them")
	}
	return canonical, nil
}

func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// uriHost gives the canonical authority of a URI, with its port.
func uriHost(uri *url.URL) (string, *problem.Error) {
	port := ""
	if p := uri.Port(); p != "" {
		port = ":" + p
	}
	if address, err := netip.ParseAddr(uri.Hostname()); err == nil && address.Zone() == "" {
		if address = address.Unmap(); address.Is6() {
			return "[" + address.String() + "]" + port, nil
		}
		return address.String() + port, nil
	}
	host, err := parseHost(uri.Hostname())
	if err != nil {
		return "", err
	}
	return host + port, nil
}

// parseEmail reads the addr-spec of a mailbox (RFC 5280, 4.2.1.6): a local
// part of dot-separated ASCII atoms, whose case is kept, and a host name.
func parseEmail(name string) (string, *problem.Error) {
	at := strings.LastIndexByte(name, '@')
	local, domain := name[:at], name[at+1:]
	if len(local) > maxLocalPart {
		return "", tooLong(name)
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool { return !isAtomic(r) }) {
			return "", problem.Invalid("", "%q is not an e-mail address", name).
				Hint("write the plain address, as in ops@example.com")
		}
	}
	host, err := parseHost(domain)
	if err != nil {
		return "", err
	}
	if len(local)+1+len(host) > maxEmail {
		return "", tooLong(name)
	}
	return local + "@" + host, nil
}

// isAtomic reports whether r is an atext of RFC 5322, 3.2.3.
func isAtomic(r rune) bool {
	return r != '.' && (isLDH(r) || r < 0x80 && strings.ContainsRune("!#$%&'*+/=?^_`{|}~", r))
}
