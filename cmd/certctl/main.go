// Command certctl is the server and the command line of certctl.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/certctl-io/certctl/internal/app"
	"github.com/certctl-io/certctl/internal/cli"
	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/telemetry"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, serve)) }

// serve runs the server. Its log goes to standard error, so that standard
// output holds only what a person must read.
func serve(ctx context.Context, settings *config.Effective, stdout io.Writer) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(settings.LogLevel)); err != nil {
		return err
	}
	format := settings.LogFormat
	if format == "auto" {
		format = telemetry.JSON
		if term.IsTerminal(int(os.Stderr.Fd())) {
			format = telemetry.Text
		}
	}
	log := telemetry.NewLogger(os.Stderr, format, level)
	for _, warning := range settings.Warnings() {
		log.WarnContext(ctx, warning)
	}
	return app.Run(ctx, app.Options{Settings: &settings.Server, Logger: log, Now: time.Now}, stdout)
}
