package inventory

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

// Create makes a certificate and starts orders for the agents of its targets.
// What is left out takes its default from the profile.
func (s *Service) Create(ctx context.Context, change Change) (Standing, error) {
	now := s.now()
	fresh := Certificate{ID: id.New("crt"), Revision: 1, Tags: map[string]string{}, Renewal: Renewal{Auto: true}, CreatedAt: now, UpdatedAt: now}
	if change.Names == nil {
		change.Names = &[]string{}
	}
	var made Standing
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		c, err := s.apply(ctx, tx, fresh, change)
		if err != nil {
			return err
		}
		if err := s.store.insert(ctx, tx, c); err != nil {
			return named(c.Name, err)
		}
		if err := s.record(ctx, tx, c, "certificate.created", "The certificate was created."); err != nil {
			return err
		}
		if change.Targets != nil {
			if err := s.targets.Assign(ctx, tx, c.ID, *change.Targets); err != nil {
				return err
			}
		}
		if err := s.orders.Reconcile(ctx, tx, c.ID, Requested); err != nil {
			return err
		}
		if made, err = s.standing(ctx, tx, c); err != nil {
			return err
		}
		return s.audit(ctx, tx, "certificate.create", Standing{}, made)
	})
	return made, err
}

// named explains the refusal of a name that is taken.
func named(name string, err error) error {
	switch {
	case db.IsUnique(err, "certificate", "name"):
		taken := problem.Conflict("there is a certificate %q already", name).
			Hint("choose another name, or change that certificate; it may be archived")
		taken.Field = "name"
		return taken
	case db.IsForeignKey(err):
		return problem.Conflict("the profile or the issuer was deleted meanwhile").Hint("name another one")
	}
	return err
}

// Update changes a certificate if match accepts its revision. Where what it
// asks for changes, new orders start. A change to what is so already does
// nothing.
func (s *Service) Update(ctx context.Context, ref string, match func(revision int) error, change Change) (Standing, error) {
	var updated Standing
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		c, err := s.store.lockRef(ctx, tx, ref)
		if err != nil {
			return err
		}
		if err := match(c.Revision); err != nil {
			return err
		}
		before, err := s.standing(ctx, tx, c)
		if err != nil {
			return err
		}
		after, err := s.changed(ctx, tx, before, change)
		if err != nil {
			return err
		}
		if updated, err = s.standing(ctx, tx, after); err != nil {
			return err
		}
		fields := differences(before, updated)
		if len(fields) == 0 {
			return nil
		}
		updated.Revision++
		updated.UpdatedAt = s.now()
		if err := s.saveChange(ctx, tx, before, updated, fields); err != nil {
			return err
		}
		updated, err = s.standing(ctx, tx, updated.Certificate)
		return err
	})
	return updated, err
}

// changed gives the certificate after a change, which is not stored yet except
// for its targets.
func (s *Service) changed(ctx context.Context, tx *db.Tx, before Standing, change Change) (Certificate, error) {
	restored := change.Archived != nil && !*change.Archived
	switch {
	case change.Archived != nil && *change.Archived && before.ArchivedAt == nil:
		return Certificate{}, problem.Invalid("archived", "a change does not archive a certificate").Hint("delete it, which archives it")
	case before.ArchivedAt != nil && !restored:
		return Certificate{}, archived(before.Certificate)
	}
	after, err := s.apply(ctx, tx, before.Certificate, change)
	if err != nil {
		return Certificate{}, err
	}
	if restored {
		after.ArchivedAt = nil
	}
	if change.Targets != nil {
		err = s.targets.Assign(ctx, tx, before.ID, *change.Targets)
	}
	return after, err
}

func archived(c Certificate) error {
	return problem.Conflict("certificate %q is archived", c.Name).Hint("restore it first: certctl restore %s, or set archived to false", c.Name)
}

func (s *Service) saveChange(ctx context.Context, tx *db.Tx, before, after Standing, fields []string) error {
	if err := s.store.update(ctx, tx, after.Certificate); err != nil {
		return named(after.Name, err)
	}
	if err := s.record(ctx, tx, after.Certificate, "certificate.changed", "The certificate was changed: "+strings.Join(fields, ", ")+"."); err != nil {
		return err
	}
	if err := s.audit(ctx, tx, "certificate.update", before, after); err != nil {
		return err
	}
	if after.Renewal != before.Renewal {
		if err := s.reschedule(ctx, tx, after.Certificate); err != nil {
			return err
		}
	}
	targets := !slices.Equal(before.Targets, after.Targets)
	switch {
	case !after.sameWish(before.Certificate) || after.Renewal != before.Renewal || before.ArchivedAt != nil:
		return s.orders.Reconcile(ctx, tx, after.ID, Requested)
	case targets:
		return s.orders.Reconcile(ctx, tx, after.ID, TargetAdded)
	}
	return nil
}

// differences gives the fields in which two states of a certificate differ.
func differences(before, after Standing) []string {
	var fields []string
	for _, field := range []struct {
		name string
		same bool
	}{
		{"name", before.Name == after.Name},
		{"names", before.Names.Equal(after.Names)},
		{"common_name", before.CommonName == after.CommonName},
		{"key_type", before.KeyType == after.KeyType},
		{"lifetime", before.Lifetime == after.Lifetime},
		{"profile", before.ProfileID == after.ProfileID},
		{"issuer", before.IssuerID == after.IssuerID},
		{"owner", before.Owner == after.Owner},
		{"tags", maps.Equal(before.Tags, after.Tags)},
		{"targets", slices.Equal(before.Targets, after.Targets)},
		{"renewal", before.Renewal == after.Renewal},
		{"archived", (before.ArchivedAt == nil) == (after.ArchivedAt == nil)},
	} {
		if !field.same {
			fields = append(fields, field.name)
		}
	}
	return fields
}

// reschedule moves the renewal of what is in use to where the policy wants it.
func (s *Service) reschedule(ctx context.Context, tx *db.Tx, c Certificate) error {
	versions, err := s.store.ActiveVersions(ctx, tx, c.ID)
	if err != nil {
		return err
	}
	for _, v := range versions {
		jitter, err := v.jitter()
		if err != nil {
			return err
		}
		v.RenewAt = c.Renewal.At(v.NotBefore, v.NotAfter, jitter)
		v.ExpiringAt = ExpiringAt(v.NotBefore, v.RenewAt, v.NotAfter)
		if err := s.store.reschedule(ctx, tx, v); err != nil {
			return err
		}
	}
	return nil
}

// jitter is a number from 0 to 1 that is the version's own: its fingerprint is
// as good as random.
func (v Version) jitter() (float64, error) {
	digits, err := hex.DecodeString(v.Fingerprint)
	if err != nil || len(digits) < 4 {
		return 0, fmt.Errorf("version %s has the fingerprint %q", v.ID, v.Fingerprint)
	}
	return float64(binary.BigEndian.Uint32(digits)) / math.MaxUint32, nil
}

// Archive ends a certificate if match accepts its revision: its targets are
// released and it is not renewed any more. What is deployed stays.
func (s *Service) Archive(ctx context.Context, ref string, match func(revision int) error) error {
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		c, err := s.store.lockRef(ctx, tx, ref)
		if err != nil || c.ArchivedAt != nil {
			return err
		}
		if err := match(c.Revision); err != nil {
			return err
		}
		before, err := s.standing(ctx, tx, c)
		if err != nil {
			return err
		}
		if err := s.targets.Assign(ctx, tx, c.ID, nil); err != nil {
			return err
		}
		now := s.now()
		c.ArchivedAt, c.UpdatedAt = &now, now
		c.Revision++
		if err := s.store.update(ctx, tx, c); err != nil {
			return err
		}
		if err := s.record(ctx, tx, c, "certificate.archived", "The certificate was archived; it is not renewed any more."); err != nil {
			return err
		}
		if err := s.orders.Reconcile(ctx, tx, c.ID, Requested); err != nil {
			return err
		}
		return s.audit(ctx, tx, "certificate.delete", before, Standing{})
	})
}

func (s *Service) record(ctx context.Context, tx *db.Tx, c Certificate, kind, message string) error {
	return Record(ctx, tx, Event{At: s.now(), CertificateID: c.ID, Kind: kind, Message: message})
}

// audit records what a person changed; a zero state stands for none.
func (s *Service) audit(ctx context.Context, tx *db.Tx, action string, before, after Standing) error {
	change := audit.Change{Action: action, ObjectKind: "certificate", ObjectID: max(before.ID, after.ID)}
	if before.ID != "" {
		change.Before = before.wishView()
	}
	if after.ID != "" {
		change.After = after.wishView()
	}
	return audit.Append(ctx, tx, change)
}
