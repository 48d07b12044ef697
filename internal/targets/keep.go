package targets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// mendTimeout is for one look at a record and putting it right.
	mendTimeout = time.Minute
	// After a record was put right it is left alone for a while, which grows
	// while somebody else keeps on changing it.
	firstRest   = time.Second
	longestRest = 10 * time.Second
	calmAfter   = time.Minute
	// The pauses between watches that fail.
	firstPauseOfWatch   = time.Second
	longestPauseOfWatch = 30 * time.Second
	// rescan is how often the targets are listed anew without a reason, as
	// another process may have deployed to one.
	rescan = 5 * time.Minute
)

// keptRecord is a record that is to stay as the last deployment left it.
type keptRecord struct{ targetID, store, path string }

// Wanted tells whether a target is still to stay as it was deployed. An error
// means that it is not known.
type Wanted func(ctx context.Context, targetID string) (bool, error)

// Keep sees to it that the records of the targets stay as they were deployed:
// whoever changes or removes one finds it right again within seconds. Before
// anything is put right, wanted is asked: a target that was given up is
// forgotten, and one of which that is not known is kept. Keep ends when ctx
// does. Files are not kept so: on a host, who may change them may change
// anything.
func (e *Engine) Keep(ctx context.Context, wanted Wanted, log *slog.Logger) {
	if len(e.stores) == 0 {
		return
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watched := map[keptRecord]context.CancelFunc{}
	for ctx.Err() == nil {
		kept, err := e.keptRecords()
		if err != nil {
			log.ErrorContext(ctx, "the records to keep cannot be listed", "error", err)
		}
		for record, stop := range watched {
			if err == nil && !kept[record] {
				stop()
				delete(watched, record)
			}
		}
		for record := range kept {
			if watched[record] == nil {
				within, stop := context.WithCancel(ctx)
				watched[record] = stop
				watching.Go(func() { e.watch(within, record, wanted, log.With("target_id", record.targetID, "record", record.path)) })
			}
		}
		select {
		case <-ctx.Done():
		case <-e.keptChanged:
		case <-time.After(rescan):
		}
	}
}

// keptRecords lists what is to be kept.
func (e *Engine) keptRecords() (map[keptRecord]bool, error) {
	folders, err := os.ReadDir(filepath.Join(e.stateDir, "targets"))
	if err != nil {
		return nil, err
	}
	kept := map[keptRecord]bool{}
	var damaged []error
	for _, folder := range folders {
		j, err := stateFolder{dir: filepath.Join(e.stateDir, "targets", folder.Name())}.read()
		damaged = append(damaged, err)
		for _, saved := range j.Kept {
			kept[keptRecord{targetID: folder.Name(), store: saved.Store, path: saved.Path}] = true
		}
	}
	return kept, errors.Join(damaged...)
}

// watch looks at a record each time that its store tells of a change.
func (e *Engine) watch(ctx context.Context, record keptRecord, wanted Wanted, log *slog.Logger) {
	store, err := e.store(record.store)
	if err != nil {
		log.ErrorContext(ctx, "a record cannot be watched", "error", err)
		return
	}
	rest, rested, told := firstRest, time.Time{}, ""
	check := func() error {
		mended, err := e.mend(ctx, record, wanted)
		if err != nil {
			return err
		}
		told = ""
		if !mended {
			return nil
		}
		log.WarnContext(ctx, "a record was changed or removed by somebody else and is right again")
		rest = min(2*rest, longestRest)
		if time.Since(rested) > calmAfter {
			rest = firstRest
		}
		pause(ctx, rest)
		rested = time.Now()
		return nil
	}
	for wait := firstPauseOfWatch; ctx.Err() == nil; {
		err := store.Watch(ctx, recordName(record), check)
		switch {
		case err == nil || ctx.Err() != nil:
			wait = firstPauseOfWatch
		case err.Error() != told:
			told = err.Error()
			log.ErrorContext(ctx, "a record cannot be kept as it was deployed; it is tried again", "error", err)
			fallthrough
		default:
			wait = min(2*wait, longestPauseOfWatch)
		}
		pause(ctx, wait)
	}
}

func recordName(r keptRecord) string { return r.path[len(r.store)+1:] }

// keep remembers the records of a deployment that had nothing to write.
func (d *deployment) keep() error {
	j, err := d.state.keepSet(d.journal, d.wantedRecords())
	if err != nil || j.KeptGeneration == d.journal.KeptGeneration {
		return err
	}
	if err := d.state.save(j); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	d.journal = j
	d.engine.wakeKeeper()
	return nil
}

func (e *Engine) wakeKeeper() {
	select {
	case e.keptChanged <- struct{}{}:
	default: // it has been told already
	}
}

// mend makes a record what the last deployment made of it, and reports whether
// it was something else. While a deployment is under way, or was interrupted
// and will come again, nothing is done.
func (e *Engine) mend(ctx context.Context, record keptRecord, wanted Wanted) (mended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	state, j, release, err := e.open(ctx, record.targetID)
	if err != nil {
		return false, err
	}
	defer release()
	if j.open() {
		return false, nil
	}
	releasePath, err := e.locks.acquire(ctx, record.path)
	if err != nil {
		return false, stopped(err)
	}
	defer releasePath()
	i := slices.IndexFunc(j.Kept, func(saved snapshot) bool { return saved.Path == record.path })
	if i < 0 {
		return false, nil
	}
	saved := j.Kept[i]
	if saved.data, err = state.copyOf(saved, state.kept(j.KeptGeneration), i); err != nil {
		return false, err
	}
	if now, err := e.lookAt(ctx, record.targetID, record.store, record.path); err != nil || now.same(saved) {
		return false, err
	}
	if still, err := wanted(ctx, record.targetID); err == nil && !still {
		return false, e.forget(state, j)
	}
	if mended, err = e.settle(ctx, record.targetID, saved); err != nil {
		return false, fmt.Errorf("put %s right: %w", saved.Path, err)
	}
	return mended, nil
}

// forget keeps the records of a target no longer.
func (e *Engine) forget(state stateFolder, j journal) error {
	j.Kept = nil
	if err := state.save(j); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	e.wakeKeeper()
	return state.sweep(j)
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, span time.Duration) {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
