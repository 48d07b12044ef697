// Command bench measures the main job in one process: a server on each engine,
// fifty agents, and for each agent a TLS server whose files are its target.
//
//	orders      certificates requested all at once, until each is served: orders per second
//	latency     certificates requested one after the other: time from the API call to the
//	            handshake that shows the new certificate, median and 99th percentile
//
// The agents' files are in memory, where the system has that, as their disks are
// not the server's. The machine it runs on decides most of the numbers; compare those of one run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"syscall"
	"time"

	"github.com/certctl-io/certctl/internal/db"
)

type options struct {
	agents, orders, samples int
	engine, profile         string
}

func main() {
	var o options
	flag.IntVar(&o.agents, "agents", 50, "agents")
	flag.IntVar(&o.orders, "orders", 500, "certificates that are requested at once")
	flag.IntVar(&o.samples, "samples", 200, "certificates that are requested one after the other")
	flag.StringVar(&o.engine, "engine", "", "sqlite or postgres; both when left out")
	flag.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile of the whole run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.profile != "" {
		file, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Printf("%-10s %8s %8s %12s %14s %10s %10s\n", "engine", "agents", "orders", "orders/s", "samples", "p50", "p99")
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		if o.engine != "" && o.engine != string(engine) {
			continue
		}
		if err := measure(ctx, engine, o); err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
	}
	return nil
}

func measure(ctx context.Context, engine db.Engine, o options) error {
	w, err := newWorld(ctx, engine, o.agents)
	if err != nil {
		return err
	}
	defer w.close()
	took, err := w.burst(ctx, o.orders)
	if err != nil {
		return err
	}
	latencies, err := w.oneByOne(ctx, o.samples)
	if err != nil {
		return err
	}
	slices.Sort(latencies)
	fmt.Printf("%-10s %8d %8d %12.1f %14d %10s %10s\n", engine, o.agents, o.orders, float64(o.orders)/took.Seconds(), len(latencies),
		latencies[len(latencies)/2].Round(time.Millisecond), latencies[len(latencies)*99/100].Round(time.Millisecond))
	return nil
}
