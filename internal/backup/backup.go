// Package backup makes a copy of everything a server knows while it runs, and
// brings it back.
//
// A backup is one tar file, inside an age file when it is encrypted:
//
//	manifest.json     which server this is, and what is needed to restore it
//	master.key        only with WithMasterKey, and then only encrypted
//	database/000001   the dump in parts: what pg_dump writes in its custom
//	database/000002   format, or a SQLite file in gzip
//	end.json          the SHA-256 of all of the above
//
// It is written and read as a stream. Nothing in it counts before end.json was
// read: a file that was cut off or damaged is refused as a whole.
//
// The database is all that a server has, besides the master key: the CA of its
// listener, which agents pin, stands in it, sealed like every other secret.
// Without the master key a backup can be restored only where that key is; so
// the two are kept apart unless the backup itself is encrypted.
package backup

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/db"
)

// formatVersion is that of the file. A reader refuses what is newer.
const formatVersion = 1

// The settings in the database that identify an installation, by the names
// that the server gives them.
const (
	settingServerID = "server_id"
	settingCanary   = "key_canary"
)

// Manifest says what a backup holds. It has no secrets.
type Manifest struct {
	Format        int       `json:"format"`
	Engine        db.Engine `json:"engine"`
	ServerID      string    `json:"server_id"`
	SchemaVersion int64     `json:"schema_version"`
	CreatedAt     time.Time `json:"created_at"`
	Version       string    `json:"version"` // of the certctl that made it
	WithMasterKey bool      `json:"with_master_key"`

	// KeyCanary is a value that only the right master key opens, so that a wrong
	// one is found before anything is written.
	KeyCanary string `json:"key_canary"`
}

const nameTime = "20060102T150405Z"

var ownName = regexp.MustCompile(`^certctl-([a-z]+_[0-9a-z-]+)-(\d{8}T\d{6}Z)\.tar(\.age)?$`)

// fileName is how a backup is called in a directory of several.
func fileName(serverID string, at time.Time, encrypted bool) string {
	name := fmt.Sprintf("certctl-%s-%s.tar", serverID, at.UTC().Format(nameTime))
	if encrypted {
		name += ".age"
	}
	return name
}

// Retention says which backups in a directory may go. With both limits a file
// goes only when it is beyond both.
type Retention struct {
	Keep   int           // the newest that stay; 0 for no such limit
	MaxAge time.Duration // 0 for no such limit
}

// expired gives the names of the backups of one server that may go. What else
// is in the directory is left alone, and so is the newest backup.
func (r Retention) expired(names []string, serverID string, now time.Time) []string {
	if r.Keep <= 0 && r.MaxAge <= 0 {
		return nil
	}
	type file struct {
		name string
		at   time.Time
	}
	var own []file
	for _, name := range names {
		match := ownName.FindStringSubmatch(name)
		if match == nil || match[1] != serverID {
			continue
		}
		if at, err := time.Parse(nameTime, match[2]); err == nil {
			own = append(own, file{name, at})
		}
	}
	slices.SortFunc(own, func(a, b file) int { return b.at.Compare(a.at) })
	var gone []string
	for i, f := range own {
		beyondCount := r.Keep <= 0 || i >= r.Keep
		beyondAge := r.MaxAge <= 0 || now.Sub(f.at) > r.MaxAge
		if i > 0 && beyondCount && beyondAge {
			gone = append(gone, f.name)
		}
	}
	return gone
}
