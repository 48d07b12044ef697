package status

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// maxRequest bounds an OCSP request in bytes. One for a single certificate
	// has about a hundred.
	maxRequest = 4 << 10

	// handlerTimeout bounds the work for one request.
	handlerTimeout = 10 * time.Second

	// certificateLife is how long caches may keep the certificate of a CA.
	certificateLife = 24 * time.Hour
)

const help = "This address serves the certificate status of a certctl CA and nothing else:\n" +
	"  /crl/{issuer id}/{shard}.crl   certificate revocation lists\n" +
	"  /ca/{issuer id}.crt            the CA's own certificate\n" +
	"  /ocsp/{issuer id}              OCSP, with GET or POST\n"

// ServeHTTP implements http.Handler. It reads the path by itself: a mux would
// answer an OCSP request that has two slashes in its base64 with a redirect.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
	defer cancel()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	area, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	switch area {
	case pki.CRLArea:
		s.serveCRL(ctx, w, r, rest)
	case pki.CAArea:
		s.serveCertificate(ctx, w, r, rest)
	case pki.OCSPArea:
		s.serveOCSP(ctx, w, r, rest)
	default:
		http.Error(w, help, http.StatusNotFound)
	}
}

func (s *Service) serveCRL(ctx context.Context, w http.ResponseWriter, r *http.Request, path string) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	issuerID, file, _ := strings.Cut(path, "/")
	number, isCRL := strings.CutSuffix(file, pki.CRLSuffix)
	shard, err := strconv.ParseUint(number, 10, 31)
	if !isCRL || err != nil || strconv.FormatUint(shard, 10) != number {
		http.Error(w, help, http.StatusNotFound)
		return
	}
	d, err := s.crl(ctx, issuerID, int(shard))
	if err != nil {
		s.fail(ctx, w, err)
		return
	}
	s.serveDocument(w, r, "application/pkix-crl", d)
}

func (s *Service) serveCertificate(ctx context.Context, w http.ResponseWriter, r *http.Request, path string) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	issuerID, isCertificate := strings.CutSuffix(path, pki.CASuffix)
	if !isCertificate {
		http.Error(w, help, http.StatusNotFound)
		return
	}
	authority, err := s.authorities.Authority(ctx, issuerID)
	if err != nil {
		s.fail(ctx, w, err)
		return
	}
	certificate, err := authority.Chain().Leaf()
	if err != nil {
		s.fail(ctx, w, err)
		return
	}
	s.serveDocument(w, r, "application/pkix-cert", document{
		body: certificate.Raw, thisUpdate: certificate.NotBefore, nextUpdate: s.now().Add(certificateLife),
	})
}

// serveDocument answers a GET, also a conditional one, so that caches may keep
// the document until its next update and no longer (RFC 5019, 6.2).
func (s *Service) serveDocument(w http.ResponseWriter, r *http.Request, contentType string, d document) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("ETag", d.etag())
	header.Set("Expires", d.nextUpdate.UTC().Format(http.TimeFormat))
	header.Set("Cache-Control", fmt.Sprintf("public, no-transform, must-revalidate, max-age=%d",
		max(0, int(d.nextUpdate.Sub(s.now()).Seconds()))))
	http.ServeContent(w, r, "", d.thisUpdate, bytes.NewReader(d.body))
}

func (s *Service) serveOCSP(ctx context.Context, w http.ResponseWriter, r *http.Request, path string) {
	if !allow(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return
	}
	issuerID, encoded, _ := strings.Cut(path, "/")
	der, err := readQuery(w, r, encoded)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(w, fmt.Sprintf("an OCSP request has at most %d bytes", maxRequest), http.StatusRequestEntityTooLarge)
		return
	}
	var d document
	if err == nil {
		d, err = s.response(ctx, issuerID, der)
	}
	switch {
	case problem.KindOf(err) == problem.KindNotFound:
		s.fail(ctx, w, err)
	case err != nil:
		s.failOCSP(ctx, w, err)
	case r.Method == http.MethodPost:
		w.Header().Set("Content-Type", ocspResponseType)
		_, _ = w.Write(d.body)
	default:
		s.serveDocument(w, r, ocspResponseType, d)
	}
}

const ocspResponseType = "application/ocsp-response"

// readQuery gives the DER of the request: from the path of a GET, from the
// body of a POST.
func readQuery(w http.ResponseWriter, r *http.Request, encoded string) ([]byte, error) {
	if r.Method == http.MethodPost {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	}
	if len(encoded) > 3*base64.StdEncoding.EncodedLen(maxRequest) {
		return nil, &http.MaxBytesError{Limit: maxRequest}
	}
	return decodePath(encoded)
}

// failOCSP answers with an error of the protocol (RFC 6960, 2.3), which is not
// signed and which no cache may keep.
func (s *Service) failOCSP(ctx context.Context, w http.ResponseWriter, err error) {
	body := ocsp.InternalErrorErrorResponse
	switch {
	case errors.Is(err, errMalformed):
		body = ocsp.MalformedRequestErrorResponse
	case errors.Is(err, errUnauthorized):
		body = ocsp.UnauthorizedErrorResponse
	default:
		s.log.ErrorContext(ctx, "OCSP request failed", "error", err)
	}
	w.Header().Set("Content-Type", ocspResponseType)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body)
}

func (s *Service) fail(ctx context.Context, w http.ResponseWriter, err error) {
	w.Header().Set("Cache-Control", "no-store")
	if problem.KindOf(err) == problem.KindNotFound {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	s.log.ErrorContext(ctx, "certificate status request failed", "error", err)
	w.Header().Set("Retry-After", "60")
	http.Error(w, "the certificate status cannot be served at the moment", http.StatusServiceUnavailable)
}

func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, method := range methods {
		if r.Method == method {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	http.Error(w, "this address allows "+strings.Join(methods, ", "), http.StatusMethodNotAllowed)
	return false
}
