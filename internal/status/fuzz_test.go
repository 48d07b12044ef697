package status

import (
	"encoding/base64"
	"testing"
)

// FuzzQuery reads requests as the world may send them. One that is understood
// names a hash that answers can be stored under.
func FuzzQuery(f *testing.F) {
	// A request for one certificate by SHA-1, as OpenSSL writes it.
	const request = "MEMwQTA/MD0wOzAJBgUrDgMCGgUABBRJMlMDQwZ0S3wvhY9SP4m4Sh5MjQQUCPPcOUSbsMhBF9Ogo3ZTgTbIVLICAhI0"
	f.Add(request)
	f.Add("MEMwQTA%2FMD0%3D")
	f.Add("")
	f.Fuzz(func(t *testing.T, path string) {
		der, err := decodePath(path)
		if err != nil {
			return
		}
		q, err := parseQuery(der)
		if err != nil {
			return
		}
		if hashOf(q.hashSymbol) != q.hash || q.serial == nil {
			t.Errorf("%s is understood as %+v", base64.StdEncoding.EncodeToString(der), q)
		}
		if serial, possible := q.storedSerial(); possible && len(serial) > 2*maxSerial {
			t.Errorf("the serial %s is too long", serial)
		}
	})
}
