package targets

import (
	"context"
	"fmt"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// Record is content of a plan that goes into a store and not into a file of
// this host.
type Record struct {
	Store string // as in AddStore, such as "kubernetes"
	Name  string // in the store, such as "shop/web-tls"
	Data  []byte `json:"-"` // in the store's own form; may hold a private key
}

// Format prints a record without its content, under every verb.
func (r Record) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%s (%d bytes)", recordPath(r.Store, r.Name), len(r.Data))
}

// Store keeps records outside of this host, such as the Secrets of a cluster.
// Records belong to targets: what does not belong to the owner that is given is
// never changed, and an error says whose it is. Each call has a time limit of
// its own.
type Store interface {
	// Read gives the record, in the same bytes as it was written as long as
	// nobody has changed it.
	Read(ctx context.Context, owner, name string) (data []byte, found bool, err error)
	// Write makes the record hold exactly the data.
	Write(ctx context.Context, owner, name string, data []byte) error
	// Remove removes the record. One that is not there is removed already.
	Remove(ctx context.Context, owner, name string) error
	// Watch calls changed once watching has begun, and again after each change
	// of the record. It ends with ctx, with an error of changed, or when the
	// store tells of no more changes, which is no error.
	Watch(ctx context.Context, name string, changed func() error) error
}

// AddStore makes a store known to the engine, before its first deployment.
func (e *Engine) AddStore(name string, store Store) { e.stores[name] = store }

// recordPath stands for a record where a file has its path: in locks, in the
// journal and in what people read. No path of a file looks like it.
func recordPath(store, name string) string { return store + ":" + name }

// store gives the store of a record.
func (e *Engine) store(name string) (Store, error) {
	store, ok := e.stores[name]
	if !ok {
		return nil, problem.Conflict("this agent has no store %q", name).Hint("upgrade the agent to the version of its server")
	}
	return store, nil
}

// lookAt tells what a record holds now.
func (e *Engine) lookAt(ctx context.Context, owner, store, path string) (snapshot, error) {
	keeper, err := e.store(store)
	if err != nil {
		return snapshot{}, err
	}
	data, found, err := keeper.Read(ctx, owner, strings.TrimPrefix(path, store+":"))
	if err != nil || !found {
		return snapshot{Path: path, Store: store}, err
	}
	return snapshot{Path: path, Store: store, Existed: true, SHA256: sum(data), data: data}, nil
}

// settle makes a record what the snapshot says and reports whether it was
// something else.
func (e *Engine) settle(ctx context.Context, owner string, wanted snapshot) (changed bool, err error) {
	now, err := e.lookAt(ctx, owner, wanted.Store, wanted.Path)
	if err != nil || now.same(wanted) {
		return false, err
	}
	keeper, err := e.store(wanted.Store)
	if err != nil {
		return false, err
	}
	name := strings.TrimPrefix(wanted.Path, wanted.Store+":")
	if !wanted.Existed {
		return true, keeper.Remove(ctx, owner, name)
	}
	return true, keeper.Write(ctx, owner, name, wanted.data)
}

// confirmRecord reads a record back: it is to be what the snapshot says.
func (e *Engine) confirmRecord(ctx context.Context, owner string, wanted snapshot) error {
	now, err := e.lookAt(ctx, owner, wanted.Store, wanted.Path)
	if err == nil && !now.same(wanted) {
		err = problem.Temporary(fmt.Errorf("%s does not hold what was written: somebody else changes it too", wanted.Path), 0)
	}
	return err
}

// wantedRecords are the records of the plan as they are to be.
func (d *deployment) wantedRecords() []snapshot {
	var wanted []snapshot
	for _, r := range d.files {
		if r.store != "" {
			wanted = append(wanted, snapshot{Path: r.path, Store: r.store, Existed: true, SHA256: sum(r.data), data: r.data})
		}
	}
	return wanted
}

// writeRecords puts the records into their stores.
func (d *deployment) writeRecords(ctx context.Context) error {
	for _, wanted := range d.wantedRecords() {
		if _, err := d.engine.settle(ctx, d.job.TargetID, wanted); err != nil {
			return err
		}
		d.engine.reached("recorded")
	}
	return nil
}

// readBack sees that the stores hold what was written, and says so.
func (d *deployment) readBack(ctx context.Context) (string, error) {
	var notes []string
	for _, wanted := range d.wantedRecords() {
		if err := d.engine.confirmRecord(ctx, d.job.TargetID, wanted); err != nil {
			return "", err
		}
		notes = append(notes, wanted.Path+" was read back and holds certificate "+d.job.Fingerprint)
	}
	return strings.Join(notes, "\n"), nil
}

// content is what the plan writes, in words.
func (p Plan) content() string {
	if len(p.Files) == 0 {
		return "content"
	}
	return "files"
}
