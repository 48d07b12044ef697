package pki

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/problem"
)

func TestParseNamesGivesTheCanonicalForm(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	cases := []struct {
		name string
		want Names
	}{
		{"example.com", Names{DNS: []string{"example.com"}}},
		{"EXAMPLE.Com", Names{DNS: []string{"example.com"}}},
		{"db", Names{DNS: []string{"db"}}},
		{"localhost", Names{DNS: []string{"localhost"}}},
		{"1.example.com", Names{DNS: []string{"1.example.com"}}},
		{"a-b--c.example.com", Names{DNS: []string{"a-b--c.example.com"}}},
		{"*.example.com", Names{DNS: []string{"*.example.com"}}},
		{"*.BÜCHER.example", Names{DNS: []string{"*.xn--bcher-kva.example"}}},
		{"bücher.example", Names{DNS: []string{"xn--bcher-kva.example"}}},
		{"xn--bcher-kva.example", Names{DNS: []string{"xn--bcher-kva.example"}}},
		{"straße.example", Names{DNS: []string{"xn--strae-oqa.example"}}},
		{"ｅｘａｍｐｌｅ。com", Names{DNS: []string{"example.com"}}},
		{"مثال.إختبار", Names{DNS: []string{"xn--mgbh0fb.xn--kgbechtv"}}},
		{long + ".example.com", Names{DNS: []string{long + ".example.com"}}},
		{"10.0.0.1", Names{IP: []string{"10.0.0.1"}}},
		{"::ffff:10.0.0.1", Names{IP: []string{"10.0.0.1"}}},
		{"2001:DB8:0:0:0:0:0:1", Names{IP: []string{"2001:db8::1"}}},
		{"SPIFFE://Example.org/ns/Prod", Names{URI: []string{"spiffe://example.org/ns/Prod"}}},
		{"https://bücher.example:8443/ä", Names{URI: []string{"https://xn--bcher-kva.example:8443/%C3%A4"}}},
		{"https://[2001:DB8::1]/x", Names{URI: []string{"https://[2001:db8::1]/x"}}},
		{"URN:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", Names{URI: []string{"urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}}},
		{"Ops+Certs@Example.com", Names{Email: []string{"Ops+Certs@example.com"}}},
		{"ops@bücher.example", Names{Email: []string{"ops@xn--bcher-kva.example"}}},
	}
	for _, c := range cases {
		got, err := ParseNames([]string{c.name})
		if err != nil {
			t.Errorf("ParseNames(%q): %v", c.name, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("ParseNames(%q): %s", c.name, diff)
		}
	}
}

func TestParseNamesSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 60) + "."
	cases := []struct{ name, message string }{
		{"", "is empty"},
		{" ", "character other than"},
		{"example.com.", "ends with a dot"},
		{".example.com", "empty label"},
		{"a..example.com", "empty label"},
		{"a b.example.com", "character other than"},
		{"a_b.example.com", "underscore"},
		{"-a.example.com", "hyphen"},
		{"a-.example.com", "hyphen"},
		{"ab--c.example.com", "reserved"},
		{"xn--zzzzzzz99999.example", "IDNA"},
		{"xn--a.example", "IDNA"},
		{strings.Repeat("a", 64) + ".example.com", "63 characters"},
		{strings.Repeat(label, 5) + "com", "253 characters"},
		{"*." + strings.Repeat(label, 4) + "examples", "too long"},
		{strings.Repeat("a", 5000), "too long"},
		{"\xe200", "UTF-8"},
		{"example.com\x00.org", "character other than"},
		{"*", "star"},
		{"*.com", "top-level"},
		{"a.*.example.com", "star"},
		{"a*.example.com", "star"},
		{"*.*.example.com", "star"},
		{"*.10.0.0.1", "number"},
		{"10.0.0.256", "number"},
		{"010.0.0.1", "number"},
		{"10.0.0.0/8", "nor an IP address"},
		{"0.0.0.0", "anybody"},
		{"::", "anybody"},
		{"fe80::1%eth0", "zone"},
		{"[2001:db8::1]", "nor an IP address"},
		{"2001:db8::zz", "nor an IP address"},
		{"example.com:443", "nor an IP address"},
		{"example.com/path", "nor an IP address"},
		{"https://", "no host"},
		{"https:///path", "no host"},
		{"://example.com", "not a URI"},
		{"//example.com/a://b", "not a URI"},
		{"https://user:pw@example.com/", "user part"},
		{"https://example.com/#top", "fragment"},
		{"https://example.com/a/../b", "dot segment"},
		{"https://example.com/a/%2e%2e/b", "dot segment"},
		{"https://exa_mple.com/", "underscore"},
		{"https://*.example.com/", "character other than"},
		{"https://example.com/?q=ü", "outside ASCII"},
		{"urn:", "no host"},
		{"@example.com", "not an e-mail address"},
		{"ops@", "empty"},
		{"a@b@example.com", "not an e-mail address"},
		{"Ops <ops@example.com>", "not an e-mail address"},
		{".ops@example.com", "not an e-mail address"},
		{"öps@example.com", "not an e-mail address"},
		{"ops@*.example.com", "character other than"},
		{"ops@10.0.0.1", "number"},
		{strings.Repeat("a", 65) + "@example.com", "too long"},
	}
	for _, c := range cases {
		got, err := ParseNames([]string{"fine.example.com", c.name})
		p, ok := problem.As(err)
		if !ok {
			t.Errorf("ParseNames(%q) = %v, want an error", c.name, got)
			continue
		}
		if p.Kind != problem.KindInvalid || p.Field != "names[1]" || !strings.Contains(p.Error(), c.message) {
			t.Errorf("ParseNames(%q): %v, want field names[1] and %q", c.name, p, c.message)
		}
	}
}

func TestParseNamesReportsAllWrongNames(t *testing.T) {
	t.Parallel()
	_, err := ParseNames([]string{"a_b", "fine.example.com", "*"})
	p, ok := problem.As(err)
	if !ok || p.Field != "names[0]" || len(p.More) != 1 || p.More[0].Field != "names[2]" {
		t.Errorf("got %+v, want problems at names[0] and names[2]", p)
	}
	if _, err := ParseNames(make([]string, MaxNames+1)); problem.KindOf(err) != problem.KindInvalid {
		t.Errorf("%d names: %v, want invalid", MaxNames+1, err)
	}
}

func TestNamesAreSortedAndDistinct(t *testing.T) {
	t.Parallel()
	got, err := ParseNames([]string{"b.example", "A.example", "10.0.0.2", "a.example", "10.0.0.1", "::ffff:10.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a.example", "b.example", "10.0.0.1", "10.0.0.2"}
	if diff := cmp.Diff(want, got.List()); diff != "" {
		t.Error(diff)
	}
	if !got.Equal(Names{DNS: want[:2], IP: want[2:]}) || got.Equal(Names{DNS: want}) {
		t.Error("Equal does not compare by type")
	}
	if got.Empty() || !(Names{}).Empty() || !got.Has("10.0.0.1") || got.Has("c.example") {
		t.Error("Empty or Has is wrong")
	}
	text, err := json.Marshal(Names{DNS: []string{"a.example"}})
	if err != nil || string(text) != `{"dns":["a.example"]}` {
		t.Errorf("JSON is %s, %v", text, err)
	}
}

// FuzzParseNames checks that the canonical form is a fixed point, and that it
// survives the way through a certificate request unchanged.
func FuzzParseNames(f *testing.F) {
	for _, seed := range []string{
		"example.com", "*.example.com", "bücher.example", "10.0.0.1", "::1", "spiffe://example.org/a%2Fb?c",
		"urn:a:b", "ops@example.com", "https://[::1]:80/", "xn--bcher-kva.example", "ａ。b", "https://a/%zz",
	} {
		f.Add(seed)
	}
	key, err := GenerateKey(ECDSAP256)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		names, err := ParseNames([]string{name})
		if err != nil {
			return
		}
		again, err := ParseNames(names.List())
		if err != nil || !again.Equal(names) {
			t.Fatalf("%q became %v, and that %v: %v", name, names, again, err)
		}
		der, err := CreateCSR(key, "", names)
		if err != nil {
			t.Fatalf("%q became %v: %v", name, names, err)
		}
		csr, err := ParseCSR(der)
		if err != nil {
			t.Fatalf("%q became %v: %v", name, names, err)
		}
		if err := CheckCSR(csr, "", names, ECDSAP256); err != nil {
			t.Fatalf("%q became %v: %v", name, names, err)
		}
	})
}
