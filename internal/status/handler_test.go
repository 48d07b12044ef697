package status

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/testkit"
)

func sqliteWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, testkit.NewDB(t, db.SQLite))
}

func TestEveryAddressInACertificateIsServed(t *testing.T) {
	t.Parallel()
	w := sqliteWorld(t)
	v := w.issue()
	if len(v.CRLDistributionPoints) != 1 || len(v.IssuingCertificateURL) != 1 || len(v.OCSPServer) != 1 {
		t.Fatalf("the certificate names %v, %v and %v", v.CRLDistributionPoints, v.IssuingCertificateURL, v.OCSPServer)
	}
	if list := w.crlOf(v); lists(list, v) {
		t.Error("the CRL lists a certificate that is good")
	}
	answer, body := get(t, v.IssuingCertificateURL[0])
	if answer.Header.Get("Content-Type") != "application/pkix-cert" || !bytes.Equal(body, w.issuer().Raw) {
		t.Errorf("the CA's certificate comes as %s %s", answer.Status, answer.Header.Get("Content-Type"))
	}
	if response := w.ask(v); response.Status != ocsp.Good {
		t.Errorf("the OCSP status is %d, want good", response.Status)
	}
}

func TestNothingElseIsServed(t *testing.T) {
	t.Parallel()
	w := sqliteWorld(t)
	for _, path := range []string{
		"/", "/metrics", "/api/v1/certificates", "/crl", "/crl/", "/ca/", "/crl/" + w.issuerID,
		"/crl/" + w.issuerID + "/00.crl", "/crl/" + w.issuerID + "/-1.crl", "/crl/" + w.issuerID + "/1.crl", "/crl/" + w.issuerID + "/0.crl/more",
		"/crl/" + w.issuerID + "/99999999999999999999.crl", "/crl/iss_other/0.crl", "/ca/" + w.issuerID, "/ca/iss_other.crt", "/ocspx",
	} {
		if answer, _ := get(t, w.server.URL+path); answer.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %s", path, answer.Status)
		}
	}
	request, err := ocsp.CreateRequest(w.issue().Certificate, w.issuer(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, _ := do(t, http.MethodPost, w.server.URL+"/ocsp/iss_other", request, nil); answer.StatusCode != http.StatusNotFound {
		t.Errorf("OCSP of another issuer: %s", answer.Status)
	}
	for method, path := range map[string]string{
		http.MethodPost: "/crl/" + w.issuerID + "/0.crl", http.MethodDelete: "/ca/" + w.issuerID + ".crt", http.MethodPut: "/ocsp/" + w.issuerID,
	} {
		if answer, _ := do(t, method, w.server.URL+path, nil, nil); answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") == "" {
			t.Errorf("%s %s: %s", method, path, answer.Status)
		}
	}
}

func TestCachesAreToldWhatTheyMayKeep(t *testing.T) {
	t.Parallel()
	w := sqliteWorld(t)
	v := w.issue()
	request, err := ocsp.CreateRequest(v.Certificate, w.issuer(), nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := v.OCSPServer[0] + "/" + url.PathEscape(base64.StdEncoding.EncodeToString(request))
	for _, address := range []string{v.CRLDistributionPoints[0], v.IssuingCertificateURL[0], asked} {
		first, body := get(t, address)
		if first.StatusCode != http.StatusOK || !strings.Contains(first.Header.Get("Cache-Control"), "max-age=86") || first.Header.Get("Expires") == "" {
			t.Errorf("GET %s: %s, %v", address, first.Status, first.Header)
		}
		tag := first.Header.Get("ETag")
		again, empty := do(t, http.MethodGet, address, nil, http.Header{"If-None-Match": {tag}})
		if again.StatusCode != http.StatusNotModified || len(empty) > 0 {
			t.Errorf("GET %s with its tag %s: %s", address, tag, again.Status)
		}
		changed, same := do(t, http.MethodGet, address, nil, http.Header{"If-None-Match": {`"other"`}})
		if changed.StatusCode != http.StatusOK || !bytes.Equal(same, body) {
			t.Errorf("GET %s with another tag: %s", address, changed.Status)
		}
		head, none := do(t, http.MethodHead, address, nil, nil)
		if head.StatusCode != http.StatusOK || head.ContentLength != int64(len(body)) || len(none) > 0 {
			t.Errorf("HEAD %s: %s", address, head.Status)
		}
	}
	before, _ := get(t, asked)
	w.revoke(v, 0)
	after, _ := do(t, http.MethodGet, asked, nil, http.Header{"If-None-Match": {before.Header.Get("ETag")}})
	if after.StatusCode != http.StatusOK {
		t.Errorf("after the revocation the old answer is confirmed: %s", after.Status)
	}
}

func TestOCSPWithGETUnderstandsAllBase64(t *testing.T) {
	t.Parallel()
	w := sqliteWorld(t)
	v := w.issue()
	der := requestWith(t, w, "+", "/") // what needs care in a path
	text := base64.StdEncoding.EncodeToString(der)
	for name, path := range map[string]string{
		"escaped":             url.QueryEscape(text),
		"plain":               text,
		"without padding":     strings.TrimRight(text, "="),
		"plus sign as space":  strings.ReplaceAll(text, "+", "%20"),
		"slashes escaped":     strings.ReplaceAll(text, "/", "%2F"),
		"lower case escaping": strings.ReplaceAll(strings.ReplaceAll(text, "/", "%2f"), "+", "%2b"),
	} {
		answer, body := get(t, v.OCSPServer[0]+"/"+path)
		if response, err := ocsp.ParseResponse(body, w.issuer()); err != nil || response.Status != ocsp.Unknown {
			t.Errorf("%s: %s, %v", name, answer.Status, err)
		}
	}
}

// requestWith makes a request for some serial whose base64 holds all of the
// characters, two slashes among them.
func requestWith(t *testing.T, w *world, characters ...string) []byte {
	t.Helper()
	for serial := int64(1); serial < 100_000; serial++ {
		v := *w.issuer()
		v.SerialNumber = new(big.Int).Lsh(big.NewInt(serial), 90)
		der, err := ocsp.CreateRequest(&v, w.issuer(), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, all := base64.StdEncoding.EncodeToString(der), true
		for _, c := range characters {
			all = all && strings.Contains(text, c)
		}
		if all {
			return der
		}
	}
	t.Fatal("there is no such request")
	return nil
}

func TestSerialThatWasNeverIssuedIsUnknown(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		known := w.issue()
		never := known
		certificate := *known.Certificate
		for _, serial := range []*big.Int{big.NewInt(4711), new(big.Int).Lsh(big.NewInt(1), 200), big.NewInt(0)} {
			certificate.SerialNumber = serial
			never.Certificate = &certificate
			if response := w.ask(never); response.Status != ocsp.Unknown {
				t.Errorf("the status of %s is %d, want unknown", serial, response.Status)
			}
		}
		stored, err := db.One[int](t.Context(), w.db.Read(), "SELECT COUNT(*) FROM ocsp_response")
		if err != nil || stored != 0 {
			t.Errorf("%d answers about nothing are stored, %v", stored, err)
		}
	})
}

func TestWrongOCSPRequestsGetTheErrorOfTheProtocol(t *testing.T) {
	t.Parallel()
	w := sqliteWorld(t)
	v := w.issue()
	foreign, err := ocsp.CreateRequest(v.Certificate, v.Certificate, nil) // by a CA that is none
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		body []byte
		want []byte
	}{
		"empty":            {nil, ocsp.MalformedRequestErrorResponse},
		"noise":            {[]byte("noise"), ocsp.MalformedRequestErrorResponse},
		"two certificates": {twoRequests(t, w, v), ocsp.MalformedRequestErrorResponse},
		"another CA":       {foreign, ocsp.UnauthorizedErrorResponse},
	} {
		answer, body := do(t, http.MethodPost, v.OCSPServer[0], test.body, nil)
		if answer.StatusCode != http.StatusOK || !bytes.Equal(body, test.want) || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s, %x, %v", name, answer.Status, body, answer.Header)
		}
	}
	if answer, _ := do(t, http.MethodPost, v.OCSPServer[0], make([]byte, maxRequest+1), nil); answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a large request: %s", answer.Status)
	}
}

// twoRequests repeats the single request of a certificate.
func twoRequests(t *testing.T, w *world, v version) []byte {
	t.Helper()
	type requestList struct {
		List []asn1.RawValue
	}
	type envelope struct{ TBS requestList }
	der, err := ocsp.CreateRequest(v.Certificate, w.issuer(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var request envelope
	if _, err := asn1.Unmarshal(der, &request); err != nil {
		t.Fatal(err)
	}
	request.TBS.List = append(request.TBS.List, request.TBS.List[0])
	if der, err = asn1.Marshal(request); err != nil {
		t.Fatal(err)
	}
	return der
}

func TestUnknownSerialsDoNotWaitForThoseWhoWrite(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		w.ask(w.issue()) // makes the responder
		never := w.issue()
		w.exec("DELETE FROM version WHERE serial = $1", pki.SerialHex(never.SerialNumber))
		w.tx(func(*db.Tx) error { // SQLite has one writer, which is this
			if response := w.ask(never); response.Status != ocsp.Unknown {
				t.Errorf("the status is %d, want unknown", response.Status)
			}
			return nil
		})
	})
}
