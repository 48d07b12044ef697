package kubernetes_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fakeAPI is the part of an API server that a Secret needs, as strict as the
// real one about field managers, preconditions and forms: server-side apply,
// merge patches, deletes and watches. TestMain can put a real one in its place.
type fakeAPI struct {
	mu         sync.Mutex
	namespaces map[string]bool
	secrets    map[string]*fakeSecret // by namespace/name
	version    int
	changed    chan struct{} // closed at the next change
}

type fakeSecret struct {
	uid     string
	version int
	values  map[string]string          // by the path of a field
	owners  map[string]map[string]bool // paths by manager and operation
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{namespaces: map[string]bool{}, secrets: map[string]*fakeSecret{}, changed: make(chan struct{})}
}

type refusal struct {
	code    int
	message string
}

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces"), "/")
	var answer any
	var err *refusal
	switch {
	case token != adminToken && token != agentToken:
		err = refuse(http.StatusUnauthorized, "Unauthorized")
	case len(parts) == 1 && token == adminToken:
		err = f.createNamespace(r)
	case len(parts) < 3 || parts[2] != "secrets":
		err = refuse(http.StatusForbidden, "no access to %s", r.URL.Path)
	case token == agentToken && parts[1] == closedNamespace:
		err = refuse(http.StatusForbidden, `secrets is forbidden: User "agent" cannot do this in the namespace %q`, parts[1])
	case r.URL.Query().Get("watch") == "true":
		f.watch(w, r, parts[1])
		return
	case len(parts) == 3 && r.Method == http.MethodPost && token == adminToken:
		answer, err = f.create(r, parts[1])
	case len(parts) == 4:
		answer, err = f.one(r, parts[1], parts[1]+"/"+parts[3])
	default:
		err = refuse(http.StatusForbidden, "%s %s", r.Method, r.URL)
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(err.code)
		answer = map[string]any{"kind": "Status", "code": err.code, "reason": http.StatusText(err.code), "message": err.message}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (f *fakeAPI) createNamespace(r *http.Request) *refusal {
	var o struct {
		Metadata struct{ Name string } `json:"metadata"`
	}
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.namespaces[o.Metadata.Name] = true
	return nil
}

// one serves the requests about one Secret.
func (f *fakeAPI) one(r *http.Request, namespace, at string) (any, *refusal) {
	var body map[string]any
	if r.Method != http.MethodGet && r.ContentLength != 0 {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return nil, refuse(http.StatusBadRequest, "%v", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.secrets[at]
	apply := r.Header.Get("Content-Type") == "application/apply-patch+yaml"
	if s == nil && (r.Method != http.MethodPatch || !apply || !f.namespaces[namespace]) {
		return nil, refuse(http.StatusNotFound, "secrets or namespace of %q not found", at)
	}
	var err *refusal
	switch {
	case r.Method == http.MethodGet:
	case r.Method == http.MethodPatch && apply:
		err = f.apply(r, at, body)
	case r.Method == http.MethodPatch:
		err = f.merge(at, r.URL.Query().Get("fieldManager"), body)
	case r.Method == http.MethodDelete:
		err = f.remove(at, body)
	default:
		err = refuse(http.StatusMethodNotAllowed, "%s", r.Method)
	}
	if err != nil || r.Method == http.MethodDelete {
		return map[string]any{"kind": "Status"}, err
	}
	return f.secrets[at].object(at), nil
}

func (f *fakeAPI) create(r *http.Request, namespace string) (any, *refusal) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	values, _, err := flatten(body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := namespace + "/" + body["metadata"].(map[string]any)["name"].(string)
	if f.secrets[at] != nil {
		return nil, refuse(http.StatusConflict, "secrets %q already exists", at)
	}
	s := f.newSecret()
	for path, text := range values {
		s.set(path, text, "admin Update")
	}
	f.secrets[at] = s
	f.touch(s)
	return s.object(at), nil
}

func (f *fakeAPI) newSecret() *fakeSecret {
	return &fakeSecret{uid: "uid-" + strconv.Itoa(f.version), values: map[string]string{}, owners: map[string]map[string]bool{}}
}

func (f *fakeAPI) touch(s *fakeSecret) {
	f.version++
	s.version = f.version
	close(f.changed)
	f.changed = make(chan struct{})
}

// apply is a server-side apply.
func (f *fakeAPI) apply(r *http.Request, at string, body map[string]any) *refusal {
	query := r.URL.Query()
	manager := query.Get("fieldManager") + " Apply"
	wanted, meta, err := flatten(body)
	if err != nil {
		return err
	}
	if body["apiVersion"] != "v1" || body["kind"] != "Secret" || query.Get("fieldManager") == "" || meta["managedFields"] != nil {
		return refuse(http.StatusBadRequest, "not a configuration to apply")
	}
	s := f.secrets[at]
	if (s == nil && (meta["uid"] != nil || meta["resourceVersion"] != nil)) || s != nil && !s.meets(meta) {
		return refuse(http.StatusConflict, "the object has been modified")
	}
	fresh := s == nil
	if fresh {
		s = f.newSecret()
	}
	next := s.clone()
	for path, text := range wanted {
		for other, paths := range s.owners {
			if other != manager && paths[path] && s.values[path] != text && query.Get("force") != "true" {
				return refuse(http.StatusConflict, "Apply failed with 1 conflict: conflict with %q: .%s", other, path)
			}
		}
	}
	for path := range s.owners[manager] {
		delete(next.owners[manager], path)
		if _, stays := wanted[path]; !stays && !next.owned(path) {
			delete(next.values, path)
		}
	}
	for path, text := range wanted {
		if next.values[path] != text {
			next.disown(path)
		}
		next.set(path, text, manager)
	}
	if err := next.valid(s, fresh); err != nil {
		return err
	}
	if !fresh && maps.Equal(next.values, s.values) && maps.EqualFunc(next.owners, s.owners, maps.Equal) {
		return nil
	}
	f.secrets[at] = next
	f.touch(next)
	return nil
}

// merge is a merge patch, as kubectl edit sends one.
func (f *fakeAPI) merge(at, manager string, body map[string]any) *refusal {
	wanted, _, err := flatten(body)
	if err != nil {
		return err
	}
	s := f.secrets[at]
	next := s.clone()
	for path, text := range wanted {
		if text == null {
			next.disown(path)
			delete(next.values, path)
		} else if next.values[path] != text {
			next.disown(path)
			next.set(path, text, manager+" Update")
		}
	}
	if err := next.valid(s, false); err != nil {
		return err
	}
	f.secrets[at] = next
	f.touch(next)
	return nil
}

func (f *fakeAPI) remove(at string, body map[string]any) *refusal {
	s := f.secrets[at]
	if conditions, ok := body["preconditions"].(map[string]any); ok && !s.meets(conditions) {
		return refuse(http.StatusConflict, "the precondition is not met")
	}
	delete(f.secrets, at)
	f.touch(s)
	return nil
}

// watch tells of the present state and of each change.
func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request, namespace string) {
	name, named := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	seconds, err := strconv.Atoi(r.URL.Query().Get("timeoutSeconds"))
	if !named || err != nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	end := time.NewTimer(time.Duration(seconds) * time.Second)
	defer end.Stop()
	events := json.NewEncoder(w)
	_ = http.NewResponseController(w).Flush()
	for seen := 0; ; {
		f.mu.Lock()
		at, changed := namespace+"/"+name, f.changed
		kind, version, object := "DELETED", 0, any(nil)
		if s := f.secrets[at]; s != nil {
			kind, version, object = "MODIFIED", s.version, s.object(at)
		}
		f.mu.Unlock()
		if version != seen {
			if err := events.Encode(map[string]any{"type": kind, "object": object}); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			seen = version
		}
		select {
		case <-changed:
		case <-end.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// null stands for a value that a merge patch removes.
const null = "\x00"

// flatten gives the fields of a Secret by their paths, and its metadata.
func flatten(body map[string]any) (fields map[string]string, meta map[string]any, err *refusal) {
	fields = map[string]string{}
	meta, _ = body["metadata"].(map[string]any)
	add := func(prefix string, group any) {
		members, _ := group.(map[string]any)
		for key, value := range members {
			text, isText := value.(string)
			if !isText {
				text = null
			}
			fields[prefix+"|"+key] = text
		}
	}
	add("data", body["data"])
	add("metadata|labels", meta["labels"])
	add("metadata|annotations", meta["annotations"])
	if text, ok := body["type"].(string); ok {
		fields["type"] = text
	}
	for key := range body {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata", "data", "type"}, key) {
			return nil, nil, refuse(http.StatusBadRequest, "unknown field %q", key)
		}
	}
	return fields, meta, nil
}

func (s *fakeSecret) clone() *fakeSecret {
	c := &fakeSecret{uid: s.uid, version: s.version, values: maps.Clone(s.values), owners: map[string]map[string]bool{}}
	for manager, paths := range s.owners {
		c.owners[manager] = maps.Clone(paths)
	}
	return c
}

func (s *fakeSecret) set(path, text, manager string) {
	s.values[path] = text
	if s.owners[manager] == nil {
		s.owners[manager] = map[string]bool{}
	}
	s.owners[manager][path] = true
}

func (s *fakeSecret) owned(path string) bool {
	for _, paths := range s.owners {
		if paths[path] {
			return true
		}
	}
	return false
}

func (s *fakeSecret) disown(path string) {
	for _, paths := range s.owners {
		delete(paths, path)
	}
}

func (s *fakeSecret) meets(conditions map[string]any) bool {
	uid, version := conditions["uid"], conditions["resourceVersion"]
	return (uid == nil || uid == s.uid) && (version == nil || version == strconv.Itoa(s.version))
}

func (s *fakeSecret) valid(was *fakeSecret, fresh bool) *refusal {
	if !fresh && s.values["type"] != was.values["type"] {
		return refuse(http.StatusUnprocessableEntity, "type: field is immutable")
	}
	for path, text := range s.values {
		if _, err := base64.StdEncoding.DecodeString(text); err != nil && strings.HasPrefix(path, "data|") {
			return refuse(http.StatusBadRequest, "illegal base64 data")
		}
	}
	for _, key := range []string{"data|tls.crt", "data|tls.key"} {
		if _, ok := s.values[key]; !ok && s.values["type"] == "kubernetes.io/tls" {
			return refuse(http.StatusUnprocessableEntity, "%s: Required value", key)
		}
	}
	return nil
}

// object gives the Secret as the API does.
func (s *fakeSecret) object(at string) map[string]any {
	namespace, name, _ := strings.Cut(at, "/")
	groups := map[string]map[string]string{"data": {}, "metadata|labels": {}, "metadata|annotations": {}}
	for path, text := range s.values {
		if i := strings.LastIndex(path, "|"); i >= 0 {
			groups[path[:i]][path[i+1:]] = text
		}
	}
	var managed []any
	for _, manager := range slices.Sorted(maps.Keys(s.owners)) {
		tree := map[string]any{}
		for path := range s.owners[manager] {
			node := tree
			for name := range strings.SplitSeq(path, "|") {
				inner, ok := node["f:"+name].(map[string]any)
				if !ok {
					inner = map[string]any{}
					node["f:"+name] = inner
				}
				node = inner
			}
		}
		name, operation, _ := strings.Cut(manager, " ")
		managed = append(managed, map[string]any{"manager": name, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": tree})
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": s.values["type"], "data": groups["data"],
		"metadata": map[string]any{
			"namespace": namespace, "name": name, "uid": s.uid, "resourceVersion": strconv.Itoa(s.version),
			"labels": groups["metadata|labels"], "annotations": groups["metadata|annotations"], "managedFields": managed,
		},
	}
}
