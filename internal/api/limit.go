package api

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/problem"
)

// limiter bounds the rate of each client: an authenticated caller by who it
// is, everybody else by address.
type limiter struct {
	rps   rate.Limit // 0 for no limit
	burst int

	mu      sync.Mutex
	clients map[string]*client
	swept   time.Time
}

type client struct {
	bucket *rate.Limiter
	seen   time.Time
}

const (
	// forgetAfter is how long a client that is silent is remembered. A bucket
	// is full again long before.
	forgetAfter = 10 * time.Minute
	sweepEvery  = time.Minute
)

func newLimiter(rps float64, burst int) *limiter {
	return &limiter{rps: rate.Limit(rps), burst: burst, clients: map[string]*client{}}
}

// take reports how long a client has to wait until its next request; zero when
// it may go on now.
func (l *limiter) take(key string, now time.Time) time.Duration {
	if l.rps <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	c := l.clients[key]
	if c == nil {
		c = &client{bucket: rate.NewLimiter(l.rps, l.burst)}
		l.clients[key] = c
	}
	c.seen = now
	reservation := c.bucket.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	for key, c := range l.clients {
		if now.Sub(c.seen) > forgetAfter {
			delete(l.clients, key)
		}
	}
}

// errTooMany is why a client has to wait.
var errTooMany = errors.New("too many requests")

// admit refuses a client that asks too often.
func (a *API) admit(key string) error {
	wait := a.limiter.take(key, time.Now())
	if wait == 0 {
		return nil
	}
	return problem.Temporary(errTooMany, max(wait, time.Second)).Hint("wait as long as Retry-After says")
}

// limitRate refuses a client that asks too often. An agent was counted when it
// was authenticated, as remembering its token is a write already.
func (a *API) limitRate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := "address/" + network(address(r))
		principal, known := access.PrincipalFrom(r.Context())
		if known {
			key = string(principal.Kind) + "/" + principal.ID
		}
		if principal.Kind != access.AgentPrincipal {
			if err := a.admit(key); err != nil {
				a.fail(w, r, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// limitBody reads the body, so that nothing behind it sees one that is too
// large or cut off, or has in it what no database stores.
func (a *API) limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.config.BodyLimit))
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			a.fail(w, r, problem.TooLarge("the body of the request is over the limit of %d bytes", tooLarge.Limit).
				Hint("send less at once, or raise body_limit on the server"))
			return
		}
		if err != nil {
			a.fail(w, r, problem.Invalid("body", "it did not arrive whole").Hint("send the request again"))
			return
		}
		if !utf8.Valid(body) {
			a.fail(w, r, problem.Invalid("body", "it is not text in UTF-8").Hint("send JSON in UTF-8"))
			return
		}
		if bytes.Contains(body, []byte(`\u0000`)) || bytes.Contains(body, []byte(nul)) {
			a.fail(w, r, problem.Invalid("body", "it holds the character NUL").Hint("leave it out"))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// network is what one client has: a whole /64 of IPv6, out of which it can
// come from a new address each time.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Unmap().Is6() {
		return address
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.String()
}
