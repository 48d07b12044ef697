package inventory

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// Filter narrows a list of certificates; empty fields do not.
type Filter struct {
	Status        Status
	Name          string // part of what it is called, or of one of its names
	Issuer        string // id or name
	Profile       string // id or name
	Owner         string
	Tags          []string // key:value, all must hold
	ExpiresBefore time.Time
}

// byEnd is the order that starts from versions; it has a query of its own.
const byEnd = "not_after"

// listRow is a certificate of a list.
type listRow struct {
	row
	EndsAt time.Time `db:"ends_at"` // in the order byEnd only
}

var sorts = db.Sorts[listRow]{
	"id":   {Column: "c.id", Key: func(r listRow) any { return r.ID }},
	"name": {Column: "c.name", Key: func(r listRow) any { return r.Name }},
	// An id begins with the time at which it was made.
	"created_at": {Column: "c.id", Key: func(r listRow) any { return r.ID }},
	byEnd:        {Column: "v.not_after", Key: func(r listRow) any { return r.EndsAt }},
}

// selectByEnd reads each certificate with an active version once, with the one
// that ends first. CROSS keeps SQLite from beginning with another table: the
// index on the end of versions gives the order.
const selectByEnd = "SELECT " + certificateColumns + `, v.not_after AS ends_at
	FROM version v CROSS JOIN certificate c JOIN profile p ON p.id = c.profile_id JOIN issuer i ON i.id = c.issuer_id`

const endsFirst = `c.id = v.certificate_id AND ` + isActive + ` AND NOT EXISTS (SELECT 1 FROM version s
	WHERE s.certificate_id = v.certificate_id AND s.activated_at IS NOT NULL AND s.superseded_at IS NULL
		AND (s.not_after, s.id) < (v.not_after, v.id))`

func (Store) list(ctx context.Context, q db.Querier, f Filter, now time.Time, page db.Page) ([]Certificate, string, error) {
	query := db.Select(selectCertificate)
	if strings.TrimPrefix(page.Sort, "-") == byEnd {
		query = db.Select(selectByEnd).Where(endsFirst)
	}
	if err := f.narrow(query, now); err != nil {
		return nil, "", err
	}
	rows, next, err := db.List(ctx, q, query, page, sorts)
	if err != nil {
		return nil, "", err
	}
	certificates := make([]Certificate, len(rows))
	for i, r := range rows {
		certificates[i] = r.certificate()
	}
	return certificates, next, nil
}

func (f Filter) narrow(query *db.Query, now time.Time) error {
	if err := f.check(); err != nil {
		return err
	}
	whereStatus(query, f.Status, now)
	whereRef(query, "issuer", "iss", f.Issuer)
	whereRef(query, "profile", "prf", f.Profile)
	if f.Name != "" {
		query.Where(`c.id IN (SELECT certificate_id FROM certificate_name WHERE name LIKE ? ESCAPE '\')`, "%"+escapeLike(searched(f.Name))+"%")
	}
	if f.Owner != "" {
		query.Where("c.owner = ?", f.Owner)
	}
	for _, tag := range f.Tags {
		key, value, _ := strings.Cut(tag, ":")
		query.Where("c.id IN (SELECT certificate_id FROM certificate_tag WHERE key = ? AND value = ?)", key, value)
	}
	if !f.ExpiresBefore.IsZero() {
		query.Where("c.id IN (SELECT v.certificate_id FROM version v WHERE "+isActive+" AND v.not_after < ?)", f.ExpiresBefore)
	}
	return nil
}

func (f Filter) check() error {
	var wrong []*problem.Error
	if f.Status != "" {
		if _, err := ParseStatus(string(f.Status)); err != nil {
			found, _ := problem.As(err)
			wrong = append(wrong, found)
		}
	}
	for i, tag := range f.Tags {
		if !strings.Contains(tag, ":") {
			wrong = append(wrong, problem.Invalid(fmt.Sprintf("tag[%d]", i), "%q is not a tag", tag).Hint("use key:value, such as team:web"))
		}
	}
	for field, text := range map[string]string{
		"name": f.Name, "issuer": f.Issuer, "profile": f.Profile, "owner": f.Owner, "tag": strings.Join(f.Tags, ""),
	} {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			wrong = append(wrong, problem.Invalid(field, "it is not text in UTF-8"))
		}
	}
	return problem.Join(wrong...)
}

// whereRef filters by an object that is named by its id or its name.
func whereRef(query *db.Query, object, prefix, ref string) {
	switch {
	case ref == "":
	case id.Is(prefix, ref):
		query.Where("c."+object+"_id = ?", ref)
	default:
		query.Where("c."+object+"_id = (SELECT id FROM "+object+" WHERE name = ?)", ref)
	}
}

// searched brings what a person searches to the form in which names are kept,
// as far as the part allows.
func searched(part string) string {
	if names, err := pki.ParseNames([]string{part}); err == nil {
		return names.List()[0]
	}
	return strings.ToLower(part)
}

func escapeLike(text string) string {
	return strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(text)
}

// rowsOf is a query of facts about certificates.
type rowsOf struct {
	from, where string
	certificate string // the column with the certificate's id
	timed       bool   // whether it compares with the time
}

const heldVersions = "version v JOIN target t ON t.certificate_id = v.certificate_id AND t.agent_id = v.agent_id"

// statusConditions are the cases of Facts.Status in SQL, in the same order, for
// certificates that are not archived: a status holds when one of its queries
// gives the certificate and none of a status before it does. The test compares
// both.
var statusConditions = []struct {
	status Status
	facts  []rowsOf
}{
	{StatusRevoked, []rowsOf{{from: heldVersions, where: isActive + " AND v.revoked_at IS NOT NULL", certificate: "v.certificate_id"}}},
	{StatusExpired, []rowsOf{{from: heldVersions, where: isActive + " AND v.not_after <= ?", certificate: "v.certificate_id", timed: true}}},
	{StatusFailing, []rowsOf{
		{from: "target t JOIN agent a ON a.id = t.agent_id", where: "a.revoked_at IS NOT NULL", certificate: "t.certificate_id"},
		{
			from:  "cert_order o JOIN target t ON t.certificate_id = o.certificate_id AND t.agent_id = o.agent_id",
			where: lastOrderFailed, certificate: "o.certificate_id",
		},
		{
			from:  "deployment d JOIN target t ON t.id = d.target_id AND t.certificate_id = d.certificate_id",
			where: lastDeploymentFailed, certificate: "d.certificate_id",
		},
	}},
	{StatusPending, []rowsOf{{from: "target t", where: `NOT EXISTS (SELECT 1 FROM version v
		WHERE v.certificate_id = t.certificate_id AND v.agent_id = t.agent_id AND ` + isActive + ")", certificate: "t.certificate_id"}}},
	{StatusExpiring, []rowsOf{{from: heldVersions, where: isActive + " AND v.expiring_at <= ?", certificate: "v.certificate_id", timed: true}}},
}

// whereStatus filters by status; without one, it leaves out what is archived.
func whereStatus(query *db.Query, status Status, now time.Time) {
	if status == StatusArchived {
		query.Where("c.archived_at IS NOT NULL")
		return
	}
	query.Where("c.archived_at IS NULL")
	switch status {
	case "":
		return
	case StatusUnassigned:
		query.Where("NOT EXISTS (SELECT 1 FROM target t WHERE t.certificate_id = c.id)")
		return
	}
	for _, worse := range statusConditions {
		if worse.status == status {
			whereAny(query, worse.facts, now)
			return
		}
		for _, facts := range worse.facts {
			query.Where("NOT EXISTS (SELECT 1 FROM "+facts.from+" WHERE "+facts.certificate+" = c.id AND "+facts.where+")", facts.args(now)...)
		}
	}
	query.Where("EXISTS (SELECT 1 FROM target t WHERE t.certificate_id = c.id)")
}

// whereAny asks for certificates that one of the queries gives. IN lets the
// engines begin with the facts, which are few.
func whereAny(query *db.Query, queries []rowsOf, now time.Time) {
	var parts []string
	var args []any
	for _, facts := range queries {
		parts = append(parts, "SELECT "+facts.certificate+" FROM "+facts.from+" WHERE "+facts.where)
		args = append(args, facts.args(now)...)
	}
	query.Where("c.id IN ("+strings.Join(parts, " UNION ALL ")+")", args...)
}

func (r rowsOf) args(now time.Time) []any {
	if r.timed {
		return []any{now}
	}
	return nil
}
