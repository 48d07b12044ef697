package inventory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/profile"
)

// Change is what is written about a certificate; nil leaves a field as it is.
// An empty text takes the default.
type Change struct {
	Name       *string            `json:"name,omitempty" doc:"Unique name; empty for the first of names."`
	CommonName *string            `json:"common_name,omitempty" doc:"One of the names; empty for none."`
	Names      *[]string          `json:"names,omitempty" doc:"All names; they replace the ones before."`
	KeyType    *pki.KeyType       `json:"key_type,omitempty" doc:"Empty for the default of the profile."`
	Lifetime   *duration.Duration `json:"lifetime,omitempty" doc:"Empty for the default of the profile."`
	Profile    *string            `json:"profile,omitempty" doc:"Id or name of the profile."`
	Issuer     *string            `json:"issuer,omitempty" doc:"Id or name of the issuer."`
	Owner      *string            `json:"owner,omitempty"`
	Tags       *map[string]string `json:"tags,omitempty" doc:"All tags; they replace the ones before."`
	Targets    *[]string          `json:"targets,omitempty" doc:"All targets, by id or name; they replace the ones before."`
	Renewal    *RenewalSpec       `json:"renewal,omitempty" doc:"The whole policy; it replaces the one before."`
	Archived   *bool              `json:"archived,omitempty" doc:"False takes a certificate out of the archive."`
}

// RenewalSpec is a renewal policy as a caller writes it.
type RenewalSpec struct {
	Auto   *bool             `json:"auto,omitempty" doc:"Whether certctl renews the certificate by itself; left out, it does."`
	Before duration.Duration `json:"before,omitempty" doc:"How long before its end a version is renewed, such as 30d; left out, at two thirds of its lifetime."`
}

func (r RenewalSpec) renewal() Renewal {
	return Renewal{Auto: r.Auto == nil || *r.Auto, Before: r.Before}
}

// draft is a certificate that is being written, with all that is wrong in it.
type draft struct {
	Certificate
	wrong    []*problem.Error
	badNames bool // what the names are is not known
}

// refuse takes a problem that the caller can do something about into the draft
// and gives back any other error.
func (d *draft) refuse(err error) error {
	found, ok := problem.As(err)
	if !ok || found.Kind != problem.KindInvalid && found.Kind != problem.KindConflict {
		return err
	}
	d.wrong = append(append(d.wrong, found), found.More...)
	found.More = nil
	return nil
}

// apply gives the certificate after a change, with defaults for what is empty,
// or everything that is wrong with it.
func (s *Service) apply(ctx context.Context, tx *db.Tx, before Certificate, change Change) (Certificate, error) {
	d := draft{Certificate: before}
	rules, err := s.applyProfile(ctx, tx, &d, change)
	if err != nil {
		return Certificate{}, err
	}
	if err := s.applyIssuer(ctx, tx, &d, change); err != nil {
		return Certificate{}, err
	}
	d.applyNames(change)
	set(&d.Owner, change.Owner)
	if change.Tags != nil {
		d.Tags = map[string]string{}
		maps.Copy(d.Tags, *change.Tags)
	}
	if change.Renewal != nil {
		d.Renewal = change.Renewal.renewal()
	}
	if rules != nil {
		d.applyRules(before, *rules, change)
	}
	d.checkLabels()
	if err := problem.Join(d.wrong...); err != nil {
		return Certificate{}, err
	}
	return d.Certificate, nil
}

func set[T any](field, change *T) {
	if change != nil {
		*field = *change
	}
}

// applyProfile finds the profile that rules over the certificate, nil when it
// names one that does not exist.
func (s *Service) applyProfile(ctx context.Context, tx *db.Tx, d *draft, change Change) (*profile.Profile, error) {
	ref := d.ProfileID
	if change.Profile != nil || ref == "" {
		ref = cmp.Or(deref(change.Profile), profile.Default)
	}
	p, err := s.profiles.ByRef(ctx, tx, ref)
	if problem.KindOf(err) == problem.KindNotFound {
		return nil, d.refuse(problem.Invalid("profile", "there is no profile %q", ref).Hint("see certctl list profiles"))
	}
	if err != nil {
		return nil, err
	}
	d.ProfileID, d.Profile = p.ID, p.Name
	return &p, nil
}

// applyIssuer finds the issuer. One that stays may be disabled by now.
func (s *Service) applyIssuer(ctx context.Context, tx *db.Tx, d *draft, change Change) error {
	ref := deref(change.Issuer)
	if d.IssuerID != "" && (change.Issuer == nil || ref == d.Issuer || ref == d.IssuerID) {
		return nil
	}
	issuerID, name, err := s.issuers.Issuer(ctx, tx, ref)
	if err != nil {
		return d.refuse(err)
	}
	d.IssuerID, d.Issuer = issuerID, name
	return nil
}

func deref[T any](p *T) T {
	var value T
	set(&value, p)
	return value
}

// applyNames takes the names, the common name, and what the certificate is
// called.
func (d *draft) applyNames(change Change) {
	if change.Names != nil {
		names, err := pki.ParseNames(*change.Names)
		d.badNames = err != nil
		_ = d.refuse(err) // it is always about the input
		d.Names = names
	}
	if change.CommonName != nil {
		d.CommonName = canonical(*change.CommonName)
	}
	set(&d.Name, change.Name)
	if d.Name == "" {
		if d.badNames || d.Names.Empty() {
			return // there is nothing to call it by, which is said about the names
		}
		d.Name = called(d.firstName(change))
	}
	if wrong := id.CheckName("crt", d.Name); wrong != nil {
		d.wrong = append(d.wrong, wrong)
	}
}

// firstName is the name that a person wrote first.
func (d *draft) firstName(change Change) string {
	if change.Names != nil {
		return canonical((*change.Names)[0])
	}
	return d.Names.List()[0]
}

// canonical gives the form in which a name is kept, if it has one.
func canonical(name string) string {
	if names, err := pki.ParseNames([]string{name}); err == nil {
		return names.List()[0]
	}
	return name
}

// called makes what a certificate is called of one of its names: the name
// itself where that is possible.
func called(name string) string {
	word := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, strings.ToLower(strings.Replace(name, "*.", "wildcard.", 1)))
	const most = 100 // of id.CheckName
	return strings.Trim(word[:min(len(word), most)], ".-_")
}

// applyRules fills what is empty from the profile and checks what the
// certificate asks for, unless none of that changes: a profile that became
// stricter does not keep anybody from changing the owner.
func (d *draft) applyRules(before Certificate, rules profile.Profile, change Change) {
	set(&d.KeyType, change.KeyType)
	if d.KeyType == "" {
		d.KeyType = rules.Spec.DefaultKeyType
	}
	if change.Lifetime != nil {
		d.Lifetime = change.Lifetime.Std()
	}
	if d.Lifetime == 0 {
		d.Lifetime = rules.Spec.DefaultLifetime.Std()
	}
	if d.sameWish(before) {
		return
	}
	found, _ := problem.As(rules.Check(d.wish()))
	if found == nil {
		return
	}
	for _, e := range append([]*problem.Error{found}, found.More...) {
		if d.badNames && (e.Field == "names" || e.Field == "common_name") {
			continue
		}
		e.More = nil
		d.wrong = append(d.wrong, e)
	}
}

func (c Certificate) wish() profile.Wish {
	return profile.Wish{CommonName: c.CommonName, Names: c.Names, KeyType: c.KeyType, Lifetime: c.Lifetime}
}

// sameWish reports whether both ask for the same.
func (c Certificate) sameWish(o Certificate) bool {
	return c.CommonName == o.CommonName && c.Names.Equal(o.Names) && c.KeyType == o.KeyType && c.Lifetime == o.Lifetime &&
		c.ProfileID == o.ProfileID && c.IssuerID == o.IssuerID
}

const (
	maxOwner    = 200
	maxTags     = 50
	maxTagKey   = 63
	maxTagValue = 255
)

// tagKey has no colon, which separates a key from its value in filters.
var tagKey = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)

// checkLabels checks what does not go into what is issued.
func (d *draft) checkLabels() {
	add := func(e *problem.Error) { d.wrong = append(d.wrong, e) }
	if !plain(d.Owner, maxOwner) {
		add(problem.Invalid("owner", "it is not usable").Hint("use at most %d characters on one line", maxOwner))
	}
	if len(d.Tags) > maxTags {
		add(problem.Invalid("tags", "there are %d tags, a certificate has at most %d", len(d.Tags), maxTags))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(d.Tags)) {
		switch {
		case len(key) > maxTagKey || !tagKey.MatchString(key):
			add(problem.Invalid("tags", "%q is not usable as the key of a tag", key).
				Hint("use at most %d letters, digits, dots, hyphens, underscores and slashes, with a letter or digit at both ends", maxTagKey))
		case !plain(d.Tags[key], maxTagValue):
			add(problem.Invalid(fmt.Sprintf("tags.%s", key), "the value is not usable").Hint("use at most %d characters on one line", maxTagValue))
		}
	}
	if d.Lifetime >= time.Minute { // else that is what is wrong
		add(d.Renewal.check(d.Lifetime))
	}
}

// plain reports whether a text can be shown on one line.
func plain(text string, most int) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= most && !strings.ContainsFunc(text, unicode.IsControl)
}
