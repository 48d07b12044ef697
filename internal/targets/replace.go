package targets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// replacement is a file on its way to its path.
type replacement struct {
	path     string // links resolved; of a record, see recordPath
	store    string // of a record; "" for a file
	data     []byte
	mode     fs.FileMode
	uid, gid int      // wanted; keep leaves what the system gives
	was      snapshot // the previous set's file, which a rollback would have to make again
}

// tempPath gives the one name in the folder of path under which this target
// prepares that file. It is the same at each run, so that a leftover is found
// and never another target's file is taken for one. It starts with a dot, as
// servers that load whole folders pass over such files.
func tempPath(targetID, path string) string {
	digest := sha256.Sum256([]byte(targetID + "\x00" + path))
	return filepath.Join(filepath.Dir(path), ".certctl-"+hex.EncodeToString(digest[:8])+".tmp")
}

// stage writes the complete file beside its path and syncs it. Who may read it
// is settled while it is still empty.
func (r replacement) stage(temp string) (err error) {
	if err := removeBeside(temp); err != nil {
		return denied(err)
	}
	f, err := openBeside(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return denied(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = removeBeside(temp) // the error that counts is known
		}
	}()
	if r.was.Existed {
		// The previous owner must be possible too, or there is no way back.
		if err := chown(f, r.path, r.was.UID, r.was.GID); err != nil {
			return err
		}
	}
	if err := chown(f, r.path, r.uid, r.gid); err != nil {
		return err
	}
	if err := copyAccess(r.path, f); err != nil {
		return fmt.Errorf("keep the access rules of %s: %w", r.path, err)
	}
	if err := f.Chmod(r.mode); err != nil {
		return err
	}
	if _, err := f.Write(r.data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// restore makes path what the snapshot says, changing nothing when it is that
// already, and removes what staging left beside it.
func restore(targetID string, s snapshot) error {
	temp := tempPath(targetID, s.Path)
	if err := removeBeside(temp); err != nil {
		return denied(err)
	}
	now, err := takeSnapshot(s.Path)
	if err != nil {
		return err
	}
	if now.same(s) {
		return nil
	}
	if s.Existed {
		back := replacement{path: s.Path, data: s.data, mode: s.Mode, uid: s.UID, gid: s.GID}
		if err := back.stage(temp); err != nil {
			return err
		}
		err = renameBeside(temp, s.Path)
	} else {
		err = removeBeside(s.Path)
	}
	if err != nil {
		return denied(err)
	}
	return denied(syncFolderOf(s.Path))
}

// syncDir makes renames and removals in a folder survive a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return denied(err)
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
