// Command demo shows certctl's main job for real: it starts a server, an agent
// and an nginx, and follows one certificate from the request to the handshake
// that proves it, through a renewal under load and through a deployment that
// goes wrong. It prints what it measures and ends with an error when a step
// does not hold.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	once := flag.Bool("once", false, "end when everything was shown, instead of waiting for Ctrl-C")
	bin := flag.String("bin", "bin", "directory of the binaries certctl and certctl-agent")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *bin, *once)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "\nThe demo failed: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, once bool) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "certctl-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s := &stage{bin: bin, dir: dir}
	defer s.clear()
	for _, act := range []func(context.Context) error{s.setUp, s.request, s.renew, s.fail, s.mend, s.tell} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	if once {
		return nil
	}
	s.linger()
	<-ctx.Done()
	return nil
}
