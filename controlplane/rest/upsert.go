package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

const (
	byExternalID = "/by/external_id/"
	externalID   = "external_id"
)

// isUpsert reports whether an operation is PUT /v1/things/by/external_id/{external_id}.
func isUpsert(method, path string) bool {
	return method == http.MethodPut && strings.HasSuffix(path, byExternalID+"{"+externalID+"}")
}

// withExternalID puts the external id of the path into the body, where it may stand too if it is the same.
func withExternalID(body []byte, id string) ([]byte, error) {
	if len(body) == 0 {
		return body, nil // a stream
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, decodeProblem(err)
	}
	if members == nil {
		return body, nil // null, which no draft is
	}
	text, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	if given, ok := members[externalID]; ok {
		var same string
		if err := json.Unmarshal(given, &same); err != nil || same != id {
			return nil, problem.InvalidField("/"+externalID, "path", "must be the one in the path, or be left out")
		}
	}
	members[externalID] = text
	return json.Marshal(members)
}

// UpsertIn is the In of an upsert. D is the body of the resource's create operation; its external_id, if it has one, is
// that of the path, whether or not it was sent.
type UpsertIn[D any] struct {
	ExternalID string `path:"external_id"`
	IfMatch    string `header:"If-Match"`
	Body       D      `body:"json"`
}

// Upsert is the function of PUT /v1/things/by/external_id/{external_id}: it answers 201 with the object that create has
// written (with db.Insert, and with this external id), or 200 with the one there was, after replace has made it what
// the body says as a whole. What a body leaves out becomes what it would be in a new object. See db.Upsert for what
// happens when two come at once. A row of the account that the caller may not see is a Conflict.
func Upsert[T any, P db.Entity[T]](ctx context.Context, conn db.Conn, who auth.Caller, externalID, ifMatch string,
	create func(ctx context.Context, tx *db.Tx) (*T, error), replace func(ctx context.Context, tx *db.Tx, object *T) error,
) (Answer, error) {
	return upserted(db.Upsert[T, P](ctx, conn, who.Scope, externalID, ifMatch, create, func(ctx context.Context, tx *db.Tx, id string) (*T, error) {
		return db.ChangeTx[T, P](ctx, tx, who.Scope, id, ifMatch, replace)
	}))
}

// upserted is the answer to what db.Upsert did.
func upserted[T any](object *T, created bool, err error) (Answer, error) {
	switch {
	case err != nil:
		return Answer{}, err
	case created:
		return Answer{Status: http.StatusCreated, Body: object}, nil
	}
	return Answer{Status: http.StatusOK, Body: object}, nil
}
