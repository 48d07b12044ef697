package api

import "testing"

func TestANetworkOfIPv6IsOneClient(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1":            "192.0.2.1",
		"::ffff:192.0.2.1":     "::ffff:192.0.2.1",
		"2001:db8:0:1::1":      "2001:db8:0:1::/64",
		"2001:db8:0:1:ffff::2": "2001:db8:0:1::/64",
		"fe80::1%eth0":         "fe80::/64",
		"@":                    "@",
	} {
		if got := network(address); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
}
