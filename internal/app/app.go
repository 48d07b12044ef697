// Package app builds the server from its parts, runs it and stops it. It is
// the only package that knows all features and drivers; tests start the
// product with it, in process.
//
// A start reads from top to bottom in Start: the data directory and its lock,
// the master key, the database, the listeners, the features, the jobs. A stop
// goes the other way.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/kube"
	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/version"
)

// Options say what to run.
type Options struct {
	Settings *config.Server
	Logger   *slog.Logger
	Now      func() time.Time

	// Cluster is the Kubernetes cluster that the server runs in; nil to find out.
	Cluster *kube.Config
}

// App is a server that runs.
type App struct {
	settings *config.Server
	cluster  *kube.Config
	log      *slog.Logger
	now      func() time.Time
	started  time.Time

	lock        io.Closer
	db          *db.DB
	box         *secret.Box
	serverID    string
	certificate netx.ServerCertificate
	api, status net.Listener // status is nil when it is off
	features    *features
	runner      *queue.Runner

	firstKey secret.String
	stopping chan struct{} // closed when the stop begins
	group    *errgroup.Group
}

// Run runs a server until ctx ends, and tells how to reach it on stdout.
func Run(ctx context.Context, o Options, stdout io.Writer) error {
	a, err := Start(ctx, o)
	if err != nil {
		return err
	}
	if err := a.greet(stdout); err != nil {
		a.log.WarnContext(ctx, "the greeting could not be written", "error", err)
	}
	return a.Wait()
}

// Start starts a server. It serves when Start returns, and until ctx ends;
// Wait tells when it has stopped.
func Start(ctx context.Context, o Options) (*App, error) {
	a := &App{settings: o.Settings, cluster: o.Cluster, log: o.Logger, now: o.Now, started: o.Now(), stopping: make(chan struct{})}
	if err := a.start(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *App) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		a.openDataDir, a.openDatabase, a.openBox, a.openCertificate, a.listen, a.build, a.firstStart,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := a.runner.Start(ctx); err != nil {
		return err
	}
	a.serve(ctx)
	a.log.InfoContext(ctx, "certctl serves", "url", a.URL(), "status_url", a.settings.StatusURL, "database", a.db.Engine(),
		"ca_sha256", a.certificate.Fingerprint(), "version", version.String(), "took", a.now().Sub(a.started).String())
	return nil
}

func (a *App) openDatabase(ctx context.Context) error {
	var err error
	a.db, err = db.Open(ctx, db.Options{
		URL: a.settings.DatabaseURL.Reveal(), Password: a.settings.DatabasePassword.Reveal(), Wait: a.settings.DatabaseWait,
		DataDir: a.settings.DataDir, MaxConns: a.settings.DatabaseMaxConns,
		Replica: a.replica(), Logger: a.log,
	})
	if err != nil {
		return err
	}
	if err := a.db.Migrate(ctx); err != nil {
		return err
	}
	return queue.Migrate(ctx, a.db)
}

func (a *App) openCertificate(ctx context.Context) error {
	var err error
	if a.settings.TLSCertificate != "" {
		a.certificate, err = netx.NewFileCertificate(a.settings.TLSCertificate, a.settings.TLSKey, a.now, a.log)
		return err
	}
	made, err := netx.NewServerCA(a.now())
	if err != nil {
		return err
	}
	ca, err := a.sealedSetting(ctx, settingServerCA, made)
	if err != nil {
		return err
	}
	a.certificate, err = netx.NewSelfMadeCertificate(ca, a.settings.TLSHostnames, a.now, a.log)
	return err
}

// listen opens the listeners. Only now is it known which ports they have when
// the system was to choose, and with them the URLs that stand in certificates.
func (a *App) listen(ctx context.Context) error {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	if a.api, err = netx.Listen(ctx, "listen", a.settings.Listen); err != nil {
		return err
	}
	if a.settings.PublicURL == "" {
		a.settings.PublicURL = config.BaseURL("https", hostname, a.api.Addr().String())
	}
	if a.settings.StatusListen == config.StatusOff {
		return nil
	}
	if a.status, err = netx.Listen(ctx, "status_listen", a.settings.StatusListen); err != nil {
		return err
	}
	if a.settings.StatusURL == "" {
		a.settings.StatusURL = config.BaseURL("http", hostname, a.status.Addr().String())
	}
	return nil
}

// serve begins to answer requests. Both listeners stop with ctx, or when one
// of them fails.
func (a *App) serve(ctx context.Context) {
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	a.group = group
	serving, stopServing := context.WithCancel(failed)
	options := netx.ServeOptions{ShutdownTimeout: a.settings.ShutdownTimeout, Log: a.log}
	group.Go(func() error {
		api := options
		api.Name, api.TLS = "api", netx.ServerTLS(a.certificate, a.settings.MinTLSVersion())
		return netx.Serve(serving, a.api, a.features.api.Handler(), api)
	})
	if a.status != nil {
		group.Go(func() error {
			status := options
			status.Name = "status"
			return netx.Serve(serving, a.status, a.features.status, status)
		})
	}
	group.Go(func() error {
		defer stopServing()
		select {
		case <-ctx.Done():
			a.turnAway(failed)
		case <-failed.Done():
			close(a.stopping)
		}
		stopServing()
		a.log.Info("certctl stops: requests and jobs that run may finish", "timeout", a.settings.ShutdownTimeout.String())
		a.features.fleet.Close()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.settings.ShutdownTimeout)
		defer cancel()
		return a.runner.Stop(stopping)
	})
}

// turnAway makes /ready say that this replica stops, and goes on serving for
// the shutdown delay: until load balancers have taken note.
func (a *App) turnAway(failed context.Context) {
	close(a.stopping)
	if a.settings.ShutdownDelay <= 0 {
		return
	}
	a.log.Info("certctl will stop: /ready answers 503 from now on", "delay", a.settings.ShutdownDelay.String())
	select {
	case <-time.After(a.settings.ShutdownDelay):
	case <-failed.Done():
	}
}

// Wait waits until the server has stopped.
func (a *App) Wait() error {
	err := errors.Join(a.group.Wait(), a.close())
	if err == nil {
		a.log.Info("certctl has stopped")
	}
	return err
}

// close gives back what a start took, however far it came.
func (a *App) close() error {
	var errs []error
	if a.features != nil {
		a.features.status.Close()
	}
	for _, listener := range []net.Listener{a.api, a.status} {
		if listener != nil {
			_ = listener.Close() // serving has closed it already
		}
	}
	if a.db != nil {
		errs = append(errs, a.db.Close())
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	return errors.Join(errs...)
}

// ready tells whether this replica can serve.
func (a *App) ready(ctx context.Context) error {
	select {
	case <-a.stopping:
		return errors.New("the server is stopping")
	default:
	}
	if err := a.db.Ping(ctx); err != nil {
		a.log.WarnContext(ctx, "not ready: the database does not answer", "error", err)
		return errors.New("the database does not answer")
	}
	return nil
}

// URL is where the API is reached on this machine.
func (a *App) URL() string {
	if a.settings.PublicURL != "" {
		return a.settings.PublicURL
	}
	return fmt.Sprintf("https://%s", a.api.Addr())
}

// Address is the address of the HTTPS listener.
func (a *App) Address() string { return a.api.Addr().String() }

// StatusURL is where CRLs and OCSP are served; empty when they are not.
func (a *App) StatusURL() string { return a.settings.StatusURL }

// CASHA256 is the fingerprint of the certificate that clients pin.
func (a *App) CASHA256() string { return a.certificate.Fingerprint() }

// FirstKey is the admin API key that this start made; empty when there was one
// already.
func (a *App) FirstKey() secret.String { return a.firstKey }

// Keys makes and revokes API keys.
func (a *App) Keys() *access.Service { return a.features.keys }
