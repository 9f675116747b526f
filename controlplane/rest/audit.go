package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// AuditEntry is one change, or one read that is kept: who did what to which object. Before and After are the object
// as JSON, without secrets; either may be absent.
//
// Why an operation that changes several rows has one entry: it tells of the object that the operation is about, which
// holds or names the others.
type AuditEntry struct {
	bun.BaseModel `bun:"table:audit_entries"`

	ID        string          `bun:"id,pk"`
	AccountID string          `bun:"account_id"`
	CreatedAt time.Time       `bun:"created_at"`
	ActorID   string          `bun:"actor_id"`
	Operation string          `bun:"operation"`
	ObjectID  string          `bun:"object_id"`
	Status    int             `bun:"status"`
	Address   string          `bun:"address"`
	RequestID string          `bun:"request_id"`
	Before    json.RawMessage `bun:"before,type:jsonb,nullzero"`
	After     json.RawMessage `bun:"after,type:jsonb,nullzero"`
}

func (q *request) entry(status int, objectID string) *AuditEntry {
	return &AuditEntry{
		ID: db.NewID("aud"), AccountID: q.who.AccountID, CreatedAt: db.Now(), ActorID: q.who.ActorID(), Operation: q.endpoint.id,
		ObjectID: objectID, Status: status, Address: q.who.Address.String(), RequestID: q.id,
	}
}

// seal writes the entry of what a transaction has changed, in that transaction.
func (q *request) seal(ctx context.Context, tx *db.Tx, changes []db.Altered) error {
	subject := changes[0].ID
	if id := q.pathID(); slices.ContainsFunc(changes, func(c db.Altered) bool { return c.ID == id }) {
		subject = id
	}
	changes = slices.DeleteFunc(changes, func(c db.Altered) bool { return c.ID != subject })
	first, last := changes[0], changes[len(changes)-1]
	entry := q.entry(q.expectedStatus(first.Before == nil), subject)
	var err error
	if entry.Before, err = q.withoutSecrets(first.Type, first.Before); err != nil {
		return err
	}
	if entry.After, err = q.withoutSecrets(last.Type, last.After); err != nil {
		return err
	}
	if _, err = tx.Write().NewInsert().Model(entry).Exec(ctx); err != nil {
		return db.Check(err)
	}
	return q.carriedOut(ctx, tx, subject)
}

// expectedStatus is what the operation will answer when nothing fails: of several statuses 201 for a new object, else
// the lowest other.
func (q *request) expectedStatus(created bool) int {
	if q.endpoint.status != 0 {
		return q.endpoint.status
	}
	if created && q.spec.Responses.Status(http.StatusCreated) != nil {
		return http.StatusCreated
	}
	for status := http.StatusOK; status < http.StatusBadRequest; status++ {
		if status != http.StatusCreated && q.spec.Responses.Status(status) != nil {
			return status
		}
	}
	return http.StatusOK
}

// audit writes the entry of an operation that has changed no row, such as a read that is kept. after is what was
// answered, without secrets; of a read it is not kept.
func (q *request) audit(status int, objectID string, after []byte) error {
	entry := q.entry(status, objectID)
	if q.method != http.MethodGet && len(after) > 0 && (after[0] == '{' || after[0] == '[') {
		entry.After = after
	}
	return q.store(entry)
}

// auditFailure writes that a change which was made has failed in a later step.
func (q *request) auditFailure(journal *db.Journal, cause error) {
	objectID := q.pathID()
	if changes := journal.Changes(); len(changes) > 0 {
		objectID = changes[0].ID
	}
	if err := q.store(q.entry(problem.From(cause).Status, objectID)); err != nil {
		q.cfg.Log.Error("rest.audit_lost", "request_id", q.id, "operation", q.endpoint.id, "object_id", objectID, "error", err.Error())
	}
}

// store writes an entry in a transaction of its own, even when the caller has gone.
func (q *request) store(entry *AuditEntry) error {
	ctx, cancel := q.afterwards()
	defer cancel()
	_, err := q.cfg.DB.Write().NewInsert().Model(entry).Exec(ctx)
	return db.Check(err)
}

// withoutSecrets is an object as the audit may keep it. Without a schema nobody knows what is secret, and nothing is
// kept; nor is what the schema does not describe.
func (q *request) withoutSecrets(goType reflect.Type, object json.RawMessage) (json.RawMessage, error) {
	if object == nil {
		return nil, nil
	}
	schema := q.schemas[goType]
	if schema == nil {
		schema = q.objectSchema()
	}
	if schema == nil {
		return nil, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, err
	}
	for name := range members {
		if schema.Properties[name] == nil && schema.AdditionalProperties.Schema == nil {
			delete(members, name)
		}
	}
	known, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	return rewrite(known, schema, redact)
}

// objectSchema is the schema of the object that this operation is about: what reading its path answers, else what it
// answers itself. It is nil when that is no object with an id.
func (q *request) objectSchema() *openapi3.Schema {
	candidates := []*openapi3.Schema{q.answerSchema(q.expectedStatus(true)), q.answerSchema(q.expectedStatus(false))}
	if read := q.route.PathItem.Get; read != nil {
		candidates = append([]*openapi3.Schema{jsonSchema(read, http.StatusOK)}, candidates...)
	}
	for _, s := range candidates {
		if s != nil && s.Properties["id"] != nil {
			return s
		}
	}
	return nil
}

// objectSchemas finds the schemas of the Go types that operations answer with, alone or in a list.
func objectSchemas(bound map[string]*endpoint) map[reflect.Type]*openapi3.Schema {
	found := map[reflect.Type]*openapi3.Schema{}
	for _, e := range bound {
		s := jsonSchema(e.spec, e.status)
		t := e.fn.out
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if s == nil || t.Kind() != reflect.Struct {
			continue
		}
		if data, ok := t.FieldByName("Data"); ok && data.Type.Kind() == reflect.Slice && strings.HasPrefix(e.id, "list") && s.Properties["data"] != nil {
			t, s = data.Type.Elem(), s.Properties["data"].Value.Items.Value
		}
		found[t] = s
	}
	return found
}
