package agent_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/testkit"
)

const (
	serverID  = "srv_1"
	joinToken = "cet_right"
)

// server speaks the agents' protocol as the real one does, over TLS, and lets
// a test see and steer what happens.
type server struct {
	t    *testing.T
	http *httptest.Server
	ca   string // fingerprint
	work chan agentapi.Task
	none chan struct{} // ends a poll without work

	mu       sync.Mutex
	agents   map[string]ed25519.PublicKey // by id
	used     map[string]bool              // ids of request tokens
	polls    []agentapi.PollRequest
	results  []submission
	requests int
	waiting  int // polls that wait for work
	steering steering

	shown      netx.ServerCertificate
	handshakes int
	kubernetes []string // tokens that agents showed when they joined
}

// steering changes how requests are answered.
type steering struct {
	refuse func(path string) error // what they are answered instead, if not nil
	away   bool                    // they break off
	lost   bool                    // they are worked on, and the answer breaks off
}

// submission is a result that an agent has handed in.
type submission struct {
	path string
	body []byte
	at   time.Time
}

func newServer(t *testing.T) *server {
	t.Helper()
	certificate := newCertificate(t)
	s := &server{
		t: t, shown: certificate, ca: certificate.Fingerprint(), work: make(chan agentapi.Task, 100), none: make(chan struct{}),
		agents: map[string]ed25519.PublicKey{}, used: map[string]bool{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST "+agentapi.BasePath+agentapi.PathEnroll, s.enroll)
	mux.HandleFunc("POST "+agentapi.BasePath+agentapi.PathPoll, s.authenticated(s.poll))
	for _, path := range []string{agentapi.PathOrderCSR, agentapi.PathOrderFailure, agentapi.PathDeploymentResult, agentapi.PathTargetKept} {
		mux.HandleFunc("POST "+agentapi.BasePath+path, s.authenticated(s.submit))
	}
	s.http = httptest.NewUnstartedServer(s.steered(mux))
	s.http.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: s.handshake}
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.http.StartTLS()
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// newCertificate makes a certificate with a CA of its own.
func newCertificate(t *testing.T) netx.ServerCertificate {
	t.Helper()
	ca, err := netx.NewServerCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := netx.NewSelfMadeCertificate(ca, []string{"127.0.0.1"}, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// handshake shows the certificate that the server has now.
func (s *server) handshake(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handshakes++
	leaf, err := s.shown.GetCertificate(hello)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*leaf}, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// shows has new connections get another certificate, and breaks off those there
// are.
func (s *server) shows(certificate netx.ServerCertificate) {
	s.mu.Lock()
	s.shown = certificate
	s.mu.Unlock()
	s.http.CloseClientConnections()
}

// shaken counts the handshakes that were begun.
func (s *server) shaken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handshakes
}

// steered counts requests, and refuses or loses those that the test wants to
// be.
func (s *server) steered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests++
		now := s.steering
		s.mu.Unlock()
		if now.refuse != nil {
			if err := now.refuse(r.URL.Path); err != nil {
				rest.WriteProblem(w, r, err)
				return
			}
		}
		if now.lost {
			next.ServeHTTP(httptest.NewRecorder(), r)
		}
		if now.away || now.lost {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) enroll(w http.ResponseWriter, r *http.Request) {
	var request agentapi.EnrollRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		rest.WriteProblem(w, r, problem.Invalid("body", "%v", err))
		return
	}
	if err := request.VerifyProof(time.Now()); err != nil {
		rest.WriteProblem(w, r, err)
		return
	}
	if request.Token != joinToken {
		rest.WriteProblem(w, r, problem.Unauthenticated("the enrolment token is not one of this server's"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kubernetes = append(s.kubernetes, request.KubernetesToken)
	agentID := ""
	for known, key := range s.agents {
		if key.Equal(ed25519.PublicKey(request.PublicKey)) {
			agentID = known
		}
	}
	if agentID == "" {
		agentID = id.New("agt")
		s.agents[agentID] = request.PublicKey
	}
	s.answer(w, agentapi.EnrollResponse{AgentID: agentID, Name: request.Name, ServerID: serverID})
}

// authenticated lets only requests with a good token of a known agent pass.
func (s *server) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, err := agentapi.ParseToken(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		var claims agentapi.Claims
		if err == nil {
			s.mu.Lock()
			key := s.agents[token.AgentID]
			s.mu.Unlock()
			claims, err = token.Verify(key, serverID, time.Now())
		}
		s.mu.Lock()
		if err == nil && s.used[claims.ID] {
			err = problem.Unauthenticated("the token has been used before")
		}
		s.used[claims.ID] = true
		s.mu.Unlock()
		if err != nil {
			s.t.Errorf("%s with a bad token: %v", r.URL.Path, err)
			rest.WriteProblem(w, r, err)
			return
		}
		next(w, r)
	}
}

func (s *server) poll(w http.ResponseWriter, r *http.Request) {
	var request agentapi.PollRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		s.t.Errorf("poll: %v", err)
	}
	s.mu.Lock()
	s.polls = append(s.polls, request)
	s.waiting++
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.waiting--; s.mu.Unlock() }()
	response := agentapi.PollResponse{Tasks: []agentapi.Task{}}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(request.WaitSeconds)*time.Second)
	defer cancel()
	select {
	case task := <-s.work:
		response.Tasks = append(response.Tasks, task)
	case <-s.none:
	case <-ctx.Done():
	}
	s.answer(w, response)
}

func (s *server) submit(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("%s: %v", r.URL.Path, err)
	}
	s.mu.Lock()
	s.results = append(s.results, submission{strings.TrimPrefix(r.URL.Path, agentapi.BasePath), body, time.Now()})
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.t.Logf("answer: %v", err)
	}
}

// steer changes how requests are answered from now on.
func (s *server) steer(as steering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steering = as
}

// settled waits until no poll of an agent that has ended could take work away.
func (s *server) settled() {
	s.t.Helper()
	testkit.Eventually(s.t, "no poll waits", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.waiting == 0
	})
}

// nudge ends a poll that waits, if there is one.
func (s *server) nudge() {
	select {
	case s.none <- struct{}{}:
	default:
	}
}

func (s *server) requested() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *server) polled() []agentapi.PollRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]agentapi.PollRequest(nil), s.polls...)
}

// result waits for the result that was handed in as the nth, from 1 on.
func (s *server) result(n int) submission {
	s.t.Helper()
	testkit.Eventually(s.t, "the result arrives", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.results) >= n
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.results[n-1]
}

// enrolment is what it takes to join the server.
func (s *server) enrolment(stateDir string) agent.Enrolment {
	return agent.Enrolment{
		StateDir: stateDir, Server: s.http.URL, Token: secret.New(joinToken), CASHA256: s.ca, Name: "web-1", Version: "test", Now: time.Now,
	}
}

// join enrols an agent and gives its state directory.
func (s *server) join() string {
	s.t.Helper()
	stateDir := s.t.TempDir()
	if _, err := agent.Enroll(s.t.Context(), s.enrolment(stateDir)); err != nil {
		s.t.Fatalf("enrol: %v", err)
	}
	return stateDir
}

// running is an agent that runs in this process.
type running struct {
	t     *testing.T
	stop  context.CancelFunc
	ended chan error
}

func start(t *testing.T, stateDir string) *running {
	t.Helper()
	return startWith(t, stateDir, 200*time.Millisecond)
}

// startWith starts an agent that gives its work a time to end when it is
// stopped.
func startWith(t *testing.T, stateDir string, grace time.Duration) *running {
	t.Helper()
	return startAs(t, agent.Config{
		StateDir: stateDir, Kinds: kinds.All(), Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now,
		RetryMin: 5 * time.Millisecond, RetryMax: 40 * time.Millisecond, Grace: grace,
	})
}

func startAs(t *testing.T, config agent.Config) *running {
	t.Helper()
	a, err := agent.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{t: t, stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- a.Run(ctx); close(r.ended) }()
	t.Cleanup(func() {
		stop()
		for range r.ended { // until the agent has let go of its directory
		}
	})
	return r
}

// end waits for the agent to end.
func (r *running) end() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("the agent still runs")
		return nil
	}
}

// stopped stops the agent, which is no error.
func (r *running) stopped() {
	r.t.Helper()
	r.stop()
	if err := r.end(); err != nil {
		r.t.Errorf("a stopped agent: %v", err)
	}
}
