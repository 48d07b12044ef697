package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/certctl-io/certctl/internal/problem"
)

// The data of a Secret of the type kubernetes.io/tls.
const (
	keyCertificate = "tls.crt"
	keyPrivate     = "tls.key"
	keyCA          = "ca.crt"
)

// changes is how often a change is tried while others change the Secret too.
const changes = 3

// content is what a target wants of its Secret, without what makes it the
// target's: the form of a record.
type content struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Data        map[string][]byte `json:"data"`
}

// Store keeps records as Secrets of the cluster that the agent runs in. The
// name of a record is namespace/name. It implements targets.Store.
type Store struct {
	config Config
	mu     sync.Mutex
	opened *client
}

// NewStore makes a store of the cluster. The cluster is looked for when the
// store is used for the first time.
func NewStore(config Config) *Store { return &Store{config: config} }

func (s *Store) client() (*client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != nil {
		return s.opened, nil
	}
	opened, err := newClient(s.config)
	s.opened = opened
	return opened, err
}

// Read implements targets.Store.
func (s *Store) Read(ctx context.Context, owner, name string) ([]byte, bool, error) {
	at := splitName(name)
	_, found, err := s.find(ctx, owner, at)
	if err != nil || found == nil {
		return nil, false, err
	}
	data, err := json.Marshal(found.content())
	return data, true, err
}

// find gives the Secret if it is the owner's, and nil when there is none.
func (s *Store) find(ctx context.Context, owner string, at place) (*client, *object, error) {
	c, err := s.client()
	if err != nil {
		return nil, nil, err
	}
	found, err := c.get(ctx, at)
	if isStatus(err, http.StatusNotFound) {
		return c, nil, nil
	}
	if err != nil {
		return nil, nil, explain("get", at, err)
	}
	return c, found, found.foreign(owner)
}

// foreign tells whose a Secret is when it is not the owner's.
func (o *object) foreign(owner string) error {
	at, by, target := o.place(), o.Metadata.Labels[labelManagedBy], o.Metadata.Annotations[noteTarget]
	var whose string
	switch {
	case by == managedBy && target == owner:
		return nil
	case by == managedBy && target != "":
		whose = "it is kept by certctl for the target " + target
	case by == managedBy:
		whose = "it does not say for which target certctl keeps it"
	case by != "":
		whose = fmt.Sprintf("it is managed by %q", by)
	default:
		whose = "somebody else made it"
	}
	return problem.Conflict("the Secret %s is not this target's: %s", at, whose).
		Hint("name another Secret in the target's settings, or delete this one if nothing needs it: kubectl -n %s delete secret %s", at.namespace, at.name)
}

// Write implements targets.Store.
func (s *Store) Write(ctx context.Context, owner, name string, data []byte) error {
	var wanted content
	if err := json.Unmarshal(data, &wanted); err != nil {
		return fmt.Errorf("read the content of %s: %w", name, err)
	}
	at := splitName(name)
	return retryChange(at, func() error {
		c, found, err := s.find(ctx, owner, at)
		if err != nil {
			return err
		}
		next := newObject(at, owner, wanted)
		if found != nil {
			// Only the Secret that was just seen to be ours is taken over by force.
			next.Metadata.UID, next.Metadata.ResourceVersion = found.Metadata.UID, found.Metadata.ResourceVersion
		}
		return explain("patch", at, c.apply(ctx, at, next, found != nil))
	})
}

// Remove implements targets.Store.
func (s *Store) Remove(ctx context.Context, owner, name string) error {
	at := splitName(name)
	return retryChange(at, func() error {
		c, found, err := s.find(ctx, owner, at)
		if err != nil || found == nil {
			return err
		}
		err = c.remove(ctx, at, found.Metadata.UID, found.Metadata.ResourceVersion)
		if isStatus(err, http.StatusNotFound) {
			return nil
		}
		return explain("delete", at, err)
	})
}

// retryChange tries again when somebody else changed the Secret in between.
func retryChange(at place, change func() error) error {
	var err error
	for range changes {
		if err = change(); !isStatus(err, http.StatusConflict) {
			return err
		}
	}
	return problem.Temporary(fmt.Errorf("the Secret %s is being changed by somebody else: %w", at, err), 0)
}

// Watch implements targets.Store.
func (s *Store) Watch(ctx context.Context, name string, changed func() error) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	at := splitName(name)
	return explain("watch", at, c.watch(ctx, at, changed))
}

// newObject is a Secret as it is applied.
func newObject(at place, owner string, wanted content) object {
	o := object{APIVersion: "v1", Kind: "Secret", Type: "kubernetes.io/tls", Data: wanted.Data}
	o.Metadata.Namespace, o.Metadata.Name = at.namespace, at.name
	o.Metadata.Labels = map[string]string{labelManagedBy: managedBy}
	o.Metadata.Annotations = map[string]string{noteTarget: owner}
	for key, text := range wanted.Labels {
		o.Metadata.Labels[key] = text
	}
	for key, text := range wanted.Annotations {
		o.Metadata.Annotations[key] = text
	}
	return o
}

// content gives what a Secret holds of what we applied. What others added is
// left out, and so is what others have changed, as it is theirs since: then it
// differs from what is wanted. Certificate and key count whoever set them, as
// there is no Secret without them to put back.
func (o *object) content() content {
	owned := o.owned()
	c := content{Labels: map[string]string{}, Annotations: map[string]string{}, Data: map[string][]byte{}}
	for key, text := range o.Metadata.Labels {
		if key != labelManagedBy && owned.has("metadata", "labels", key) {
			c.Labels[key] = text
		}
	}
	for key, text := range o.Metadata.Annotations {
		if key != noteTarget && owned.has("metadata", "annotations", key) {
			c.Annotations[key] = text
		}
	}
	for key, value := range o.Data {
		if key == keyCertificate || key == keyPrivate || owned.has("data", key) {
			c.Data[key] = value
		}
	}
	return c
}

// fields are those that a field manager owns, in the form FieldsV1: a tree
// whose keys begin with f: for names.
type fields map[string]fields

func (f fields) has(path ...string) bool {
	for _, name := range path {
		inner, ok := f["f:"+name]
		if !ok {
			return false
		}
		f = inner
	}
	return true
}

// owned gives the fields that we applied last and that nobody has changed.
func (o *object) owned() fields {
	i := slices.IndexFunc(o.Metadata.ManagedFields, func(m managedFields) bool {
		return m.Manager == fieldManager && m.Operation == "Apply" && m.Subresource == ""
	})
	var owned fields
	if i < 0 || json.Unmarshal(o.Metadata.ManagedFields[i].FieldsV1, &owned) != nil {
		return nil
	}
	return owned
}

// place is where a Secret is.
type place struct{ namespace, name string }

func splitName(record string) place {
	namespace, name, _ := strings.Cut(record, "/")
	return place{namespace, name}
}

func (p place) String() string { return p.namespace + "/" + p.name }

// explain says what an answer of the API server means for a person.
func explain(verb string, at place, err error) error {
	var refused *statusError
	if err == nil || !errors.As(err, &refused) {
		return err
	}
	switch code := refused.code; {
	case code == http.StatusConflict:
		return err // for retryChange
	case code == http.StatusForbidden && refused.namespaceEnds():
		return problem.Temporary(fmt.Errorf("the namespace %s is being deleted: %w", at.namespace, err), 0)
	case code == http.StatusForbidden:
		return problem.Forbidden("the agent may not %s Secrets in the namespace %s: %s", verb, at.namespace, refused.message).
			Hint("give its service account a Role there with the verbs get, watch, create, patch and delete for secrets")
	case code == http.StatusNotFound:
		return problem.Conflict("the cluster has no namespace %s for the Secret %s: %s", at.namespace, at.name, refused.message).
			Hint("create the namespace, or name another one in the target's settings")
	case code == http.StatusUnauthorized, code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		return problem.Temporary(err, refused.after)
	}
	return problem.Conflict("the API server refuses to %s the Secret %s: %s", verb, at, refused.message).
		Hint("see the Secret with: kubectl -n %s get secret %s -o yaml", at.namespace, at.name)
}
