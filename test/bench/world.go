package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/app"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/testkit"
)

const limit = 5 * time.Minute // for all orders of a burst

// world is a server with its agents.
type world struct {
	dir     string // of the server
	hosts   string // of the agents
	api     *client.Client
	sites   []*site
	stop    context.CancelFunc
	running sync.WaitGroup
}

// site is a host: an agent, and a TLS server that reads its files at each
// handshake.
type site struct {
	name, dir string
	listener  net.Listener
}

func newWorld(ctx context.Context, engine db.Engine, agents int) (*world, error) {
	dir, err := os.MkdirTemp("", "certctl-bench-")
	if err != nil {
		return nil, err
	}
	hosts, err := os.MkdirTemp(memory(), "certctl-bench-hosts-")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	w := &world{dir: dir, hosts: hosts, stop: stop}
	if err := w.start(ctx, engine, agents); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// memory is a file system in memory, where there is one. Real agents have disks
// of their own; here theirs would keep that of the server busy.
func memory() string {
	const dir = "/dev/shm"
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return dir
	}
	return ""
}

func (w *world) start(ctx context.Context, engine db.Engine, agents int) error {
	environ := []string{
		"HOME=" + w.dir, "CERTCTL_DATA_DIR=" + filepath.Join(w.dir, "data"), "CERTCTL_LISTEN=127.0.0.1:0", "CERTCTL_STATUS_LISTEN=127.0.0.1:0",
		"CERTCTL_RATE_LIMIT_RPS=0",
	}
	if engine == db.Postgres {
		url, err := testkit.DurablePostgres()
		if err != nil {
			return err
		}
		environ = append(environ, "CERTCTL_DATABASE_URL="+url)
	}
	settings, err := config.Load(config.Sources{Environ: environ, Hostname: "localhost"})
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	server, err := app.Start(ctx, app.Options{Settings: &settings.Server, Logger: log, Now: time.Now})
	if err != nil {
		return err
	}
	w.running.Go(func() { _ = server.Wait() })
	url := "https://" + server.Address()
	w.api, err = client.New(client.Options{URL: url, APIKey: server.FirstKey(), CASHA256: server.CASHA256()})
	if err != nil {
		return err
	}
	token, err := w.api.CreateEnrolmentToken(ctx, client.EnrolmentTokenSpec{Description: "bench"})
	if err != nil {
		return err
	}
	for i := range agents {
		s := &site{name: fmt.Sprintf("host-%d", i), dir: filepath.Join(w.hosts, fmt.Sprintf("host-%d", i))}
		w.sites = append(w.sites, s)
		state := filepath.Join(s.dir, "state")
		_, err := agent.Enroll(ctx, agent.Enrolment{
			StateDir: state, Server: url, Token: token.Token, CASHA256: server.CASHA256(), Name: s.name, Version: "bench", Now: time.Now,
		})
		if err != nil {
			return err
		}
		a, err := agent.New(agent.Config{StateDir: state, Kinds: kinds.All(), Version: "bench", Logger: log, Now: time.Now})
		if err != nil {
			return err
		}
		w.running.Go(func() { _ = a.Run(ctx) })
		if err := s.listen(); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) close() {
	w.stop()
	w.running.Wait()
	for _, s := range w.sites {
		if s.listener != nil {
			_ = s.listener.Close()
		}
	}
	_ = os.RemoveAll(w.dir)
	_ = os.RemoveAll(w.hosts)
}

// listen serves TLS with the newest files of whatever name is asked for.
func (s *site) listen() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.listener = tls.NewListener(listener, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(s.file(hello.ServerName, "pem"), s.file(hello.ServerName, "key"))
			return &pair, err
		},
	})
	go func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).Handshake() // who connects sees why it failed
				_ = conn.Close()
			}()
		}
	}()
	return nil
}

func (s *site) file(name, suffix string) string { return filepath.Join(s.dir, name+"."+suffix) }

// prepare makes a target of a name on one of the hosts.
func (w *world) prepare(ctx context.Context, i int, name string) error {
	s := w.sites[i%len(w.sites)]
	_, err := w.api.CreateTarget(ctx, client.TargetSpec{Name: name, Agent: s.name, Kind: "file", Settings: map[string]any{
		"fullchain": s.file(name, "pem"), "key": s.file(name, "key"),
		"probe": map[string]any{"address": s.listener.Addr().String(), "server_name": name},
	}})
	return err
}

func (w *world) request(ctx context.Context, name string) error {
	_, err := w.api.CreateCertificate(ctx, client.CertificateSpec{Name: name, Names: []string{name}, Targets: []string{name}})
	return err
}

// burst requests many certificates at once and gives the time until all of
// them are active.
func (w *world) burst(ctx context.Context, count int) (time.Duration, error) {
	name := func(i int) string { return fmt.Sprintf("burst-%d.example", i) }
	if err := each(ctx, count, func(ctx context.Context, i int) error { return w.prepare(ctx, i, name(i)) }); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := each(ctx, count, func(ctx context.Context, i int) error { return w.request(ctx, name(i)) }); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		open, err := w.open(ctx)
		if err != nil {
			return 0, err
		}
		if open == 0 {
			return time.Since(began), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d orders were not done after %s", open, limit)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// open counts the orders that are not done.
func (w *world) open(ctx context.Context) (count int, err error) {
	for _, state := range []string{"pending", "signing", "issued", "failed"} {
		for order, err := range w.api.Orders(ctx, client.OrderFilter{State: state}) {
			if err != nil {
				return 0, err
			}
			if state == "failed" {
				return 0, fmt.Errorf("order %s failed: %s", order.ID, order.StateReason)
			}
			count++
		}
	}
	return count, nil
}

// oneByOne requests certificates one after the other and gives for each the
// time until it is served.
func (w *world) oneByOne(ctx context.Context, count int) ([]time.Duration, error) {
	var latencies []time.Duration
	for i := range count {
		name := fmt.Sprintf("single-%d.example", i)
		if err := w.prepare(ctx, i, name); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := w.request(ctx, name); err != nil {
			return nil, err
		}
		if err := w.sites[i%len(w.sites)].await(ctx, name); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(began))
	}
	return latencies, nil
}

// await waits until a handshake shows a certificate for the name.
func (s *site) await(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	dialer := &tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}} //nolint:gosec // its name is looked at below
	for {
		conn, err := dialer.DialContext(ctx, "tcp", s.listener.Addr().String())
		if err == nil {
			leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
			_ = conn.Close()
			if pki.NamesOf(leaf).Has(name) {
				return nil
			}
			err = errors.New("another certificate is served")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not served: %w", name, err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// each calls do for all numbers below count, a few at a time.
func each(ctx context.Context, count int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range count {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}
