package cli

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/client"
)

// The resources and their columns, what matters first.

func certificates() resource[client.Certificate] {
	return resource[client.Certificate]{
		name: "certificate", path: "certificates",
		ref:    func(c client.Certificate) string { return c.Name },
		titles: []string{"NAME", "STATUS", "EXPIRES", "RENEWS", "TARGETS", "NAMES"},
		wide:   []string{"PROFILE", "ISSUER", "KEY", "OWNER", "ID"},
		row: func(c client.Certificate, now time.Time) []string {
			return []string{
				c.Name, c.Status, ifTime(c.NotAfter, now), renews(c, now), few(c.Targets, 2), few(c.Names, 3),
				c.Profile, c.Issuer, c.KeyType, c.Owner, c.ID,
			}
		},
	}
}

func versions() resource[client.Version] {
	return resource[client.Version]{
		name: "version", path: "versions",
		ref:    func(v client.Version) string { return v.ID },
		titles: []string{"ID", "AGENT", "STATE", "EXPIRES", "RENEWS", "SERIAL"},
		wide:   []string{"FINGERPRINT", "ISSUED"},
		row: func(v client.Version, now time.Time) []string {
			return []string{
				v.ID, v.Agent, v.State, relative(v.NotAfter, now), relative(v.RenewAt, now), v.Serial,
				v.Fingerprint, relative(v.CreatedAt, now),
			}
		},
	}
}

func orders() resource[client.Order] {
	return resource[client.Order]{
		name: "order", path: "orders",
		ref:    func(o client.Order) string { return o.ID },
		titles: []string{"ID", "CERTIFICATE", "AGENT", "STATE", "WHY", "STARTED", "TOOK", "REASON"},
		wide:   []string{"ATTEMPTS", "VERSION"},
		row: func(o client.Order, now time.Time) []string {
			return []string{
				o.ID, o.Certificate, o.Agent, o.State, spaced(o.Reason), relative(o.CreatedAt, now), elapsed(o.CreatedAt, o.FinishedAt),
				o.StateReason, strconv.Itoa(o.Attempts), o.VersionID,
			}
		},
	}
}

func deployments() resource[client.Deployment] {
	return resource[client.Deployment]{
		name: "deployment", path: "deployments",
		ref:    func(d client.Deployment) string { return d.ID },
		titles: []string{"ID", "TARGET", "CERTIFICATE", "STATE", "STARTED", "TOOK", "REASON"},
		wide:   []string{"AGENT", "ATTEMPTS", "VERSION"},
		row: func(d client.Deployment, now time.Time) []string {
			return []string{
				d.ID, d.Target, d.Certificate, d.State, relative(d.CreatedAt, now), elapsed(d.CreatedAt, d.FinishedAt),
				d.StateReason, d.Agent, strconv.Itoa(d.Attempts), d.VersionID,
			}
		},
	}
}

func agents() resource[client.Agent] {
	return resource[client.Agent]{
		name: "agent", path: "agents",
		ref:    func(a client.Agent) string { return a.Name },
		titles: []string{"NAME", "STATUS", "SEEN", "LABELS", "VERSION"},
		wide:   []string{"OS", "JOINED", "ID"},
		row: func(a client.Agent, now time.Time) []string {
			return []string{
				a.Name, a.Status, ifTime(a.LastSeenAt, now), pairs(a.Labels), a.Version,
				a.OS, relative(a.CreatedAt, now), a.ID,
			}
		},
	}
}

func targets() resource[client.Target] {
	return resource[client.Target]{
		name: "target", path: "targets",
		ref:    func(t client.Target) string { return t.Name },
		titles: []string{"NAME", "AGENT", "KIND", "CERTIFICATE"},
		wide:   []string{"CHANGED", "ID"},
		row: func(t client.Target, now time.Time) []string {
			return []string{t.Name, t.Agent, t.Kind, t.Certificate, relative(t.UpdatedAt, now), t.ID}
		},
	}
}

func profiles() resource[client.Profile] {
	return resource[client.Profile]{
		name: "profile", path: "profiles",
		ref:    func(p client.Profile) string { return p.Name },
		titles: []string{"NAME", "MAX LIFETIME", "KEY TYPES", "USAGES"},
		wide:   []string{"CHANGED", "ID"},
		row: func(p client.Profile, now time.Time) []string {
			return []string{p.Name, p.MaxLifetime, few(p.KeyTypes, 9), few(p.Usages, 9), relative(p.UpdatedAt, now), p.ID}
		},
	}
}

func issuers() resource[client.Issuer] {
	return resource[client.Issuer]{
		name: "issuer", path: "issuers",
		ref:    func(i client.Issuer) string { return i.Name },
		titles: []string{"NAME", "TYPE", "STATE", "CHECKED", "PROBLEM"},
		wide:   []string{"ID"},
		row: func(i client.Issuer, now time.Time) []string {
			state := "enabled"
			if !i.Enabled {
				state = "disabled"
			}
			return []string{i.Name, i.Type, state, ifTime(i.CheckedAt, now), i.CheckError, i.ID}
		},
	}
}

func jobs() resource[client.Job] {
	return resource[client.Job]{
		name: "job", path: "jobs",
		ref:    func(j client.Job) string { return strconv.FormatInt(j.ID, 10) },
		titles: []string{"ID", "KIND", "STATE", "ATTEMPT", "RUNS", "ERROR"},
		wide:   []string{"QUEUE", "CREATED"},
		row: func(j client.Job, now time.Time) []string {
			attempt := strconv.Itoa(j.Attempt) + "/" + strconv.Itoa(j.MaxAttempts)
			return []string{
				strconv.FormatInt(j.ID, 10), j.Kind, j.State, attempt, relative(j.ScheduledAt, now), j.Error,
				j.Queue, relative(j.CreatedAt, now),
			}
		},
	}
}

func tokens() resource[client.EnrolmentToken] {
	return resource[client.EnrolmentToken]{
		name: "enrolment token", path: "enrolment-tokens",
		ref:    func(t client.EnrolmentToken) string { return t.ID },
		titles: []string{"ID", "STATUS", "USES", "EXPIRES", "LABELS", "DESCRIPTION"},
		wide:   []string{"CREATED"},
		row: func(t client.EnrolmentToken, now time.Time) []string {
			uses := strconv.Itoa(t.Uses)
			if t.MaxUses > 0 {
				uses += "/" + strconv.Itoa(t.MaxUses)
			}
			return []string{t.ID, t.Status, uses, ifTime(t.ExpiresAt, now), pairs(t.Labels), t.Description, relative(t.CreatedAt, now)}
		},
	}
}

func apiKeys() resource[client.APIKey] {
	return resource[client.APIKey]{
		name: "API key", path: "api-keys",
		ref:    func(k client.APIKey) string { return k.ID },
		titles: []string{"NAME", "ROLE", "STATUS", "USED", "EXPIRES", "ID"},
		wide:   []string{"CREATED"},
		row: func(k client.APIKey, now time.Time) []string {
			return []string{k.Name, k.Role, k.Status, ifTime(k.LastUsedAt, now), ifTime(k.ExpiresAt, now), k.ID, relative(k.CreatedAt, now)}
		},
	}
}

func auditEvents() resource[client.AuditEvent] {
	return resource[client.AuditEvent]{
		name: "audit event", path: "audit-events",
		ref:    func(e client.AuditEvent) string { return e.ID },
		titles: []string{"AT", "WHO", "ACTION", "OBJECT", "FROM"},
		wide:   []string{"REQUEST", "ID"},
		row: func(e client.AuditEvent, _ time.Time) []string {
			return []string{stamp(e.At), e.Actor.Kind + ":" + e.Actor.Name, e.Action, e.ObjectID, e.Actor.Address, e.RequestID, e.ID}
		},
	}
}

// renews says when a certificate is replaced.
func renews(c client.Certificate, now time.Time) string {
	switch {
	case !c.Renewal.Auto:
		return "by hand"
	case c.RenewAt == nil:
		return ""
	default:
		return relative(*c.RenewAt, now)
	}
}

// elapsed is how long something took, empty while it has not ended.
func elapsed(from time.Time, to *time.Time) string {
	if to == nil {
		return ""
	}
	return took(to.Sub(from))
}

func ifTime(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return relative(*t, now)
}

// spaced writes a word of the API as people do: "target added".
func spaced(word string) string { return strings.ReplaceAll(word, "_", " ") }

// few joins the first values and counts the rest.
func few(values []string, n int) string {
	if len(values) <= n {
		return strings.Join(values, ", ")
	}
	return strings.Join(values[:n], ", ") + " +" + strconv.Itoa(len(values)-n)
}

// pairs writes a map as "a=b, c=d", sorted.
func pairs(m map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+m[key])
	}
	return strings.Join(out, ", ")
}

func mark(yes bool) string {
	if yes {
		return "*"
	}
	return ""
}
