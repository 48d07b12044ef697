// Package migrations holds the schema of both engines: one folder each, with
// the same numbers. Migrations go forward only; a change that removes or
// renames is made in two releases (expand, then contract), so that two
// versions can run side by side during an upgrade.
package migrations

import "embed"

// FS holds the folders "postgres" and "sqlite".
//
//go:embed postgres/*.sql sqlite/*.sql
var FS embed.FS
