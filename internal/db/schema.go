package db

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/certctl-io/certctl/internal/db/migrations"
)

// SchemaVersion is the number of the newest migration that a database has.
func SchemaVersion(ctx context.Context, q Querier) (int64, error) {
	version, err := One[int64](ctx, q, "SELECT max(version_id) FROM schema_migration")
	if err != nil {
		return 0, fmt.Errorf("read the schema version: %w", err)
	}
	return version, nil
}

// KnownSchema is the number of the newest migration that this program has.
func KnownSchema(engine Engine) (int64, error) {
	files, err := fs.Glob(migrations.FS, string(engine)+"/*.sql")
	if err != nil {
		return 0, fmt.Errorf("find migrations: %w", err)
	}
	var newest int64
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return 0, fmt.Errorf("read the number of migration %s: %w", file, err)
		}
		newest = max(newest, version)
	}
	return newest, nil
}
