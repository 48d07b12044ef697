package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
)

const fakeKey = "certctl_test_key"

type object = map[string]any

// fakeAPI is a server of the API's form with its rules left out: objects in
// memory, found by id or name, with revisions, pages and problems. It brings
// names and durations into the form in which the real server keeps them.
type fakeAPI struct {
	*httptest.Server
	mu      sync.Mutex
	lists   map[string][]object
	made    int
	reads   map[string]int // of single objects, by id
	changes []string       // the calls that were not reads
}

func newFakeAPI(t testing.TB) *fakeAPI {
	f := &fakeAPI{lists: map[string][]object{}, reads: map[string]int{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse its CA
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339Nano) }
	in := func(d time.Duration) string { return ago(-d) }
	// The times are far from where "60 days" would become "59 days", so that a
	// slow machine prints the same.
	const day, hour = 24 * time.Hour, time.Hour
	f.lists["profiles"] = []object{{
		"id": "prf_1", "name": "default", "key_types": []string{"ecdsa-p256"}, "max_lifetime": "398d", "default_lifetime": "90d",
		"usages": []string{"server_auth"}, "names": object{"dns": []string{"**"}}, "revision": 1,
	}}
	f.lists["agents"] = []object{
		{
			"id": "agt_1", "name": "web-1", "status": "online", "version": "1.0.0", "os": "linux/amd64", "last_seen_at": ago(65 * time.Minute),
			"labels": object{"site": "berlin"}, "created_at": ago(3 * day), "revision": 4,
		},
		{"id": "agt_2", "name": "web-2", "status": "offline", "version": "1.0.0", "os": "linux/arm64", "created_at": ago(30 * day), "revision": 1},
	}
	f.lists["certificates"] = []object{{
		"id": "crt_1", "name": "www.example.com", "names": []string{"www.example.com", "example.com"}, "key_type": "ecdsa-p256",
		"lifetime": "90d", "profile": "default", "issuer": "local", "targets": []string{"web-1-nginx"}, "renewal": object{"auto": true},
		"status": "active", "status_reason": "served on 1 target", "not_after": in(60*day + 6*hour), "renew_at": in(30*day + 6*hour), "revision": 2,
		"tags": object{"team": "web"}, "created_at": ago(30 * day), "updated_at": ago(time.Hour),
	}}
	f.lists["targets"] = []object{{
		"id": "tgt_0193d5b2a86c7f0c9e0d6c1b4a2f8e37", "name": "web-1-nginx", "agent": "web-1", "kind": "nginx", "certificate": "www.example.com", "revision": 1,
		"settings":   object{"certificate": "/etc/nginx/www.crt", "probe": object{"address": "127.0.0.1:443"}, "password": "[redacted]"},
		"created_at": ago(30 * day), "updated_at": ago(2*day + 6*hour),
	}}
	f.lists["orders"] = []object{
		{
			"id": "ord_1", "certificate": "www.example.com", "agent": "web-1", "reason": "renewal", "state": "done", "attempts": 1,
			"created_at": "2026-05-01T10:00:00Z", "finished_at": "2026-05-01T10:00:01.4Z",
		},
		{
			"id": "ord_2", "certificate": "www.example.com", "agent": "web-1", "reason": "renewal", "state": "failed", "attempts": 3,
			"state_reason": "nginx refuses its configuration", "created_at": "2026-05-01T11:00:00Z", "finished_at": "2026-05-01T11:00:02Z",
		},
	}
	f.lists["deployments"] = []object{{
		"id": "dep_1", "target": "web-1-nginx", "agent": "web-1", "certificate": "www.example.com", "order": "ord_2", "order_id": "ord_2",
		"state": "failed", "state_reason": "nginx refuses its configuration", "reason": "order", "attempts": 1,
		"created_at": "2026-05-01T11:00:00Z", "updated_at": ago(65 * time.Minute), "finished_at": "2026-05-01T11:00:02Z",
		"report": object{"outcome": "rolled_back", "steps": []object{
			{"name": "write", "ok": true, "duration_ms": 3},
			{"name": "validate", "ok": false, "duration_ms": 41, "output": "nginx: [emerg] unknown directive \"sserver\"\x1b[31m\nnginx: configuration file test failed\n"},
		}},
	}}
	f.lists["certificates/crt_1/events"] = []object{
		{"id": "evt_3", "at": "2026-05-01T11:00:02Z", "kind": "deployment.failed", "message": "nginx refuses its configuration", "order_id": "ord_2", "deployment_id": "dep_1"},
		{"id": "evt_2", "at": "2026-05-01T11:00:00.5Z", "kind": "order.issued", "message": "version stored", "order_id": "ord_2"},
		{"id": "evt_1", "at": "2026-05-01T10:00:00Z", "kind": "order.done", "message": "served on web-1-nginx", "order_id": "ord_1"},
	}
	f.lists["target-kinds"] = []object{{"name": "file"}, {"name": "nginx"}}
	f.lists["issuers"] = []object{{"id": "iss_1", "name": "local", "type": "local", "enabled": true, "revision": 1}}
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

// ServeHTTP answers a call.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+fakeKey {
		refuse(w, http.StatusUnauthorized, "unauthenticated", "", "the API key is not good", "make a new one")
		return
	}
	if r.Method != http.MethodGet {
		f.changes = append(f.changes, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/api/v1"))
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/"), "/")
	switch {
	case len(parts) == 1 && parts[0] == "info":
		answer(w, http.StatusOK, object{"version": "9.9.9", "server_id": "srv_1", "caller": object{"name": "admin", "role": "admin"}})
	case len(parts) == 1 && r.Method == http.MethodGet:
		f.list(w, r, parts[0])
	case len(parts) == 1:
		f.create(w, r, parts[0])
	case len(parts) == 3 && r.Method == http.MethodGet && parts[2] != "chain":
		if c := f.find(parts[0], parts[1]); c != nil {
			f.list(w, r, parts[0]+"/"+c["id"].(string)+"/"+parts[2])
		}
	default:
		f.one(w, r, parts)
	}
}

// takeChanges gives the calls that changed something since the last time, a
// line each.
func (f *fakeAPI) takeChanges() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := ""
	for _, call := range f.changes {
		text += call + "\n"
	}
	f.changes = nil
	return text
}

func (f *fakeAPI) find(list, ref string) object {
	for _, o := range f.lists[list] {
		if o["id"] == ref || o["name"] == ref {
			return o
		}
	}
	return nil
}

func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request, list string) {
	items := []object{}
	for _, o := range f.lists[list] {
		if matches(o, r.URL.Query()) {
			items = append(items, o)
		}
	}
	start, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	next := ""
	if start+limit < len(items) {
		next = strconv.Itoa(start + limit)
	}
	answer(w, http.StatusOK, object{"items": items[start:min(start+limit, len(items))], "next_cursor": next})
}

func matches(o object, query map[string][]string) bool {
	for name, values := range query {
		switch have := o[name].(type) {
		case string:
			if name == "certificate" || name == "agent" || name == "target" {
				continue // they are asked for by id, too
			}
			if have != values[0] {
				return false
			}
		}
	}
	return true
}

func (f *fakeAPI) create(w http.ResponseWriter, r *http.Request, list string) {
	var o object
	_ = json.NewDecoder(r.Body).Decode(&o)
	if names, isList := o["names"].([]any); isList && o["name"] == nil {
		o["name"] = names[0]
	}
	if name, _ := o["name"].(string); name != "" && f.find(list, name) != nil {
		refuse(w, http.StatusConflict, "conflict", "name", "there is one named "+name+" already", "")
		return
	}
	if o["key_type"] == "dsa" {
		refuse(w, http.StatusUnprocessableEntity, "invalid", "key_type", `"dsa" is not a key type`, "use ecdsa-p256")
		return
	}
	f.made++
	o["id"] = fmt.Sprintf("%s_new%d", strings.TrimRight(list, "s")[:3], f.made)
	o["revision"] = 1
	o["created_at"], o["updated_at"] = time.Now().UTC(), time.Now().UTC()
	switch list {
	case "certificates":
		o["status"], o["status_reason"] = "pending", "waits for web-1"
		defaults := object{"profile": "default", "issuer": "local", "targets": []string{}, "renewal": object{"auto": true}, "key_type": "ecdsa-p256"}
		for name, value := range defaults {
			if o[name] == nil {
				o[name] = value
			}
		}
	case "targets":
		if c := f.find("certificates", fmt.Sprint(o["certificate"])); c != nil {
			c["targets"] = []any{o["name"]}
		}
	case "enrolment-tokens":
		o["token"], o["status"] = "cet_secret", "active"
	case "api-keys":
		o["key"], o["status"] = "certctl_secret", "active"
	}
	normal(o)
	f.lists[list] = append(f.lists[list], o)
	answer(w, http.StatusCreated, o)
	delete(o, "token")
	delete(o, "key")
}

// normal brings values into the form in which the server keeps them.
func normal(o object) {
	for _, name := range []string{"lifetime", "max_lifetime"} {
		if text, _ := o[name].(string); text != "" {
			if d, err := duration.Parse(text); err == nil {
				o[name] = d.String()
			}
		}
	}
	if names, isList := o["names"].([]any); isList {
		texts := make([]string, len(names))
		for i, name := range names {
			texts[i] = name.(string)
		}
		if parsed, err := pki.ParseNames(texts); err == nil {
			o["names"] = slices.Concat(parsed.DNS, parsed.IP, parsed.URI, parsed.Email)
		}
	}
	if settings, ok := o["settings"].(object); ok && settings["password"] != nil {
		settings["password"] = "[redacted]"
	}
}

func (f *fakeAPI) one(w http.ResponseWriter, r *http.Request, parts []string) {
	o := f.find(parts[0], parts[1])
	if o == nil {
		what := strings.TrimSuffix(strings.ReplaceAll(parts[0], "-", " "), "s")
		refuse(w, http.StatusNotFound, "not_found", "", fmt.Sprintf("there is no %s %q", what, parts[1]), "")
		return
	}
	switch {
	case len(parts) == 3:
		f.act(w, r, parts[0], o, parts[2])
	case r.Method == http.MethodGet:
		f.read(w, o)
	case r.Method == http.MethodDelete && parts[0] == "certificates":
		o["status"] = "archived"
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		f.lists[parts[0]] = slices.DeleteFunc(f.lists[parts[0]], func(other object) bool { return other["id"] == o["id"] })
		w.WriteHeader(http.StatusNoContent)
	default:
		if match := r.Header.Get("If-Match"); match != "" && match != strconv.Quote(fmt.Sprint(o["revision"])) {
			refuse(w, http.StatusPreconditionFailed, "stale", "", "it changed meanwhile", "read it again")
			return
		}
		var patch object
		_ = json.NewDecoder(r.Body).Decode(&patch)
		if patch["archived"] == false {
			o["status"] = "active"
			delete(patch, "archived")
		}
		maps.Copy(o, patch)
		o["revision"] = o["revision"].(int) + 1
		normal(o)
		answer(w, http.StatusOK, o)
	}
}

// read gives one object. What is under way moves on each time it is looked at.
func (f *fakeAPI) read(w http.ResponseWriter, o object) {
	id := o["id"].(string)
	if f.reads[id]++; f.reads[id] > 1 && o["status"] == "pending" {
		o["status"], o["status_reason"] = "active", "served"
	}
	if f.reads[id] > 1 && o["state"] == "pending" {
		o["state"] = "done"
	}
	answer(w, http.StatusOK, o)
}

func (f *fakeAPI) act(w http.ResponseWriter, r *http.Request, list string, o object, action string) {
	switch list + " " + action {
	case "issuers chain":
		answer(w, http.StatusOK, object{"pem": "-----BEGIN CERTIFICATE-----\n"})
	case "certificates renew":
		f.made++
		order := object{"id": fmt.Sprintf("ord_new%d", f.made), "certificate": o["name"], "agent": "web-1", "state": "pending", "created_at": time.Now().UTC()}
		f.lists["orders"] = append(f.lists["orders"], order)
		answer(w, http.StatusAccepted, object{"orders": []any{order["id"]}})
	case "certificates deploy":
		answer(w, http.StatusAccepted, object{"deployments": []any{"dep_1"}})
	case "certificates revoke", "agents revoke":
		o["status"] = "revoked"
		answer(w, http.StatusOK, o)
	case "orders retry":
		o["state"], f.reads[o["id"].(string)] = "pending", 0
		answer(w, http.StatusOK, o)
	case "orders cancel":
		refuse(w, http.StatusConflict, "conflict", "", fmt.Sprintf("order %s is %s already", o["id"], o["state"]), "")
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, code, field, message, remedy string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object{
		"title": http.StatusText(status), "detail": message, "code": code, "field": field, "remedy": remedy, "request_id": "req_1",
	})
}
