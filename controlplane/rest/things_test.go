package rest_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

// A small noun, whole: what the pipeline promises is tested through it.

const module = `
tags: [{name: things, description: Things.}]
paths:
  /v1/things:
    get:
      operationId: listThings
      summary: List things
      tags: [things]
      x-permission: things.read
      parameters:
        - $ref: '#/components/parameters/Limit'
        - $ref: '#/components/parameters/Cursor'
        - $ref: '#/components/parameters/Sort'
        - $ref: '#/components/parameters/Search'
        - $ref: '#/components/parameters/IDs'
        - $ref: '#/components/parameters/CreatedFrom'
        - {name: number, in: query, description: Only those with this number., schema: {type: string}}
      responses: &page
        '200':
          description: A page.
          content:
            application/json:
              schema:
                type: object
                required: [data]
                properties:
                  data: {type: array, items: {$ref: '#/components/schemas/Thing'}}
                  next_cursor: {type: string}
                  total: {type: integer}
              example: {data: []}
    post:
      operationId: createThing
      summary: Create a thing
      tags: [things]
      x-permission: things.write
      parameters:
        - $ref: '#/components/parameters/IdempotencyKey'
      requestBody: &body
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/ThingDraft'}
            example: {name: A, number: '+8613800138000', pin: '1234'}
      responses:
        '201': &thing
          description: The thing.
          content:
            application/json:
              schema: {$ref: '#/components/schemas/Thing'}
              example:
                id: thing_1
                metadata: {}
                created_at: 2026-01-31T08:00:00Z
                updated_at: 2026-01-31T08:00:00Z
                etag: '1'
                name: A
                size: 60
  /v1/things/search:
    post:
      operationId: searchThings
      summary: Search things
      tags: [things]
      x-permission: things.read
      requestBody: {$ref: '#/components/requestBodies/Search'}
      responses: *page
  /v1/things/by/external_id/{external_id}:
    put:
      operationId: upsertThing
      summary: Create or replace a thing
      tags: [things]
      x-permission: things.write
      parameters:
        - $ref: '#/components/parameters/ByExternalID'
        - $ref: '#/components/parameters/IfMatch'
      requestBody: *body
      responses:
        '200': *thing
        '201': *thing
  /v1/things/{thing_id}/copies:
    parameters:
      - {name: thing_id, in: path, required: true, description: Its id., schema: {type: string}}
    post:
      operationId: copyThing
      summary: Copy a thing
      tags: [things]
      x-permission: things.write
      parameters:
        - $ref: '#/components/parameters/IdempotencyKey'
      responses:
        '200': *thing
  /v1/boxes:
    get:
      operationId: listBoxes
      summary: List boxes
      tags: [things]
      x-permission: boxes.read
      parameters:
        - $ref: '#/components/parameters/Limit'
        - $ref: '#/components/parameters/Cursor'
        - $ref: '#/components/parameters/Sort'
        - $ref: '#/components/parameters/IDs'
      responses:
        '200':
          description: A page.
          content:
            application/json:
              schema:
                type: object
                required: [data]
                properties:
                  data: {type: array, items: {$ref: '#/components/schemas/Box'}}
                  next_cursor: {type: string}
                  total: {type: integer}
              example: {data: []}
  /v1/things/{thing_id}:
    parameters:
      - {name: thing_id, in: path, required: true, description: Its id., schema: {type: string}}
    get:
      operationId: getThing
      summary: Get a thing
      tags: [things]
      x-permission: things.read
      responses:
        '200': *thing
    patch:
      operationId: updateThing
      summary: Change a thing
      tags: [things]
      x-permission: things.write
      parameters:
        - $ref: '#/components/parameters/IfMatch'
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              properties:
                name: {type: string, minLength: 1}
                number: {type: [string, 'null']}
                box_id: {type: [string, 'null']}
                external_id: {type: [string, 'null']}
                metadata: {$ref: '#/components/schemas/Metadata'}
            example: {name: B}
      responses:
        '200': *thing
    delete:
      operationId: deleteThing
      summary: Delete a thing
      tags: [things]
      x-permission: things.write
      parameters:
        - $ref: '#/components/parameters/IfMatch'
      responses:
        '204': {description: Deleted.}
  /v1/things/{thing_id}/file:
    parameters:
      - {name: thing_id, in: path, required: true, description: Its id., schema: {type: string}}
    get:
      operationId: getThingFile
      summary: Fetch a thing's file
      tags: [things]
      x-permission: things.read
      x-audit: true
      parameters:
        - {name: as, in: query, description: json for the URL itself., schema: {type: string, enum: [json, redirect], default: redirect}}
      responses:
        '200':
          description: Where it is.
          content:
            application/json:
              schema: {type: object, required: [url], properties: {url: {type: string}}}
              example: {url: https://example.com/}
        '302':
          description: To the file.
          headers: {Location: {description: Where., schema: {type: string}}}
    put:
      operationId: replaceThingFile
      summary: Store a thing's file
      tags: [things]
      x-permission: things.write
      parameters:
        - $ref: '#/components/parameters/IfMatch'
      requestBody:
        required: true
        content:
          application/octet-stream: {schema: {type: string, contentMediaType: application/octet-stream}}
      responses:
        '200':
          description: Its size.
          content:
            application/json:
              schema: {type: object, required: [size], properties: {size: {type: integer}}}
              example: {size: 3}
  /v1/ping:
    get:
      operationId: getPing
      summary: Is anyone there
      tags: [things]
      x-permission: none
      security: []
      responses:
        '200':
          description: Yes.
          content:
            application/json:
              schema: {type: object, required: [pong], properties: {pong: {type: boolean}}}
              example: {pong: true}
components:
  schemas:
    ThingDraft:
      type: object
      additionalProperties: false
      required: [name]
      properties: &fields
        external_id: {$ref: '#/components/schemas/ExternalID'}
        metadata: {$ref: '#/components/schemas/Metadata'}
        name: {type: string, minLength: 1, maxLength: 40}
        number: {type: string, x-mask: number}
        size: {type: integer, minimum: 1, default: 60}
        pin: {type: string, writeOnly: true}
        until: {type: string, format: date-time}
        box_id: {type: [string, 'null'], x-expand: listBoxes}
        owner_id: {type: string}
        department_id: {type: string}
    Box:
      type: object
      required: [id, metadata, created_at, updated_at, etag, number]
      properties:
        id: {type: string}
        external_id: {type: string}
        metadata: {$ref: '#/components/schemas/Metadata'}
        created_at: {type: string, format: date-time}
        updated_at: {type: string, format: date-time}
        etag: {type: string}
        number: {type: string, x-mask: number}
        owner_id: {type: string}
        department_id: {type: string}
    Thing:
      type: object
      required: [id, metadata, created_at, updated_at, etag, name, size]
      properties:
        <<: *fields
        id: {type: string}
        created_at: {type: string, format: date-time}
        updated_at: {type: string, format: date-time}
        etag: {type: string}
        token: {type: string, x-secret: true}
`

const table = `CREATE TABLE boxes (
	id text PRIMARY KEY, account_id text NOT NULL REFERENCES accounts (id), external_id text, metadata jsonb NOT NULL,
	created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, etag text NOT NULL, owner_id text, department_id text, number text NOT NULL);
CREATE TABLE things (
	id text PRIMARY KEY, account_id text NOT NULL REFERENCES accounts (id), external_id text, metadata jsonb NOT NULL,
	created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, etag text NOT NULL,
	owner_id text, department_id text, name text NOT NULL, number text NOT NULL, size bigint NOT NULL, pin text NOT NULL, until timestamptz, box_id text,
	UNIQUE (account_id, external_id), UNIQUE (account_id, name))`

type Draft struct {
	Name   string     `bun:"name" json:"name"`
	Number string     `bun:"number" json:"number,omitempty"`
	Size   int64      `bun:"size" json:"size"`
	Until  *time.Time `bun:"until" json:"until,omitempty"`
	BoxID  string     `bun:"box_id,nullzero" json:"box_id,omitempty"`
}

type box struct {
	bun.BaseModel `bun:"table:boxes" json:"-"`
	db.Row
	db.Owned
	Number string `bun:"number" json:"number"`
}

type thing struct {
	bun.BaseModel `bun:"table:things" json:"-"`
	db.Row
	db.Owned
	Draft
	PIN   string `bun:"pin" json:"-"`
	Token string `bun:"-" json:"token,omitempty"`
}

// body is what a caller writes of a thing.
type body struct {
	rest.Keys
	db.Owned
	Draft
	PIN string `json:"pin,omitempty"`
}

type things struct {
	db      *db.DB
	created atomic.Int64
	// before, when set, runs at the beginning of every create.
	before func(ctx context.Context) error
	// storing, when set, runs at the beginning of every upload.
	storing func()
	// copied, when set, runs when a copy was stored and committed.
	copied func() error
	token  string // that a created thing shows
}

func thingTable() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{
		"name": {Sort: true}, "number": {Mask: true, Sort: true}, "size": {Type: list.Int}, "box_id": {},
	}), Search: []string{"number"}}
}

func (s *things) resource() rest.Resource[thing, body] {
	return rest.Resource[thing, body]{
		DB: s.db, One: "Thing", Many: "Things", Prefix: "thing", Table: thingTable(),
		Draft: func(t *thing) body { return body{Owned: t.Owned, Draft: t.Draft, PIN: t.PIN} },
		Put: func(_ context.Context, _ *db.Tx, _ auth.Caller, t *thing, b body) error {
			if t.Etag == "" {
				t.Token = s.token
			}
			t.Owned, t.Draft, t.PIN = b.Owned, b.Draft, b.PIN
			return nil
		},
	}
}

func (s *things) operations() map[string]rest.Operation {
	all := rest.Operations(s.resource())
	maps.Copy(all, map[string]rest.Operation{
		"createThing": rest.Op(s.create), "getThingFile": rest.Op(s.file), "replaceThingFile": rest.Op(s.store), "getPing": rest.Op(s.ping), "copyThing": rest.Op(s.copy),
		"listBoxes": rest.List[box](s.db, list.Table{Fields: list.Common(nil)}),
	})
	return all
}

type one struct {
	ID      string `path:"thing_id"`
	IfMatch string `header:"If-Match"`
}

func (s *things) create(ctx context.Context, who auth.Caller, in struct {
	Body body `body:"json"`
}) (*thing, error) {
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return nil, err
		}
	}
	s.created.Add(1)
	return rest.Insert(ctx, s.db, s.resource(), who, in.Body)
}

// copy stores a copy and then does something that no transaction can undo.
func (s *things) copy(ctx context.Context, who auth.Caller, in rest.ByID) (*thing, error) {
	t, err := db.Get[thing](ctx, s.db, who.Scope, in.ID)
	if err != nil {
		return nil, err
	}
	t.ID, t.Name = db.NewID("thing"), t.Name+"'"
	if err := db.Insert(ctx, s.db, who.Scope, t); err != nil || s.copied == nil {
		return t, err
	}
	return t, s.copied()
}

func (s *things) file(ctx context.Context, who auth.Caller, in struct {
	ID string `path:"thing_id"`
	As string `query:"as"`
}) (rest.Answer, error) {
	if _, err := db.Get[thing](ctx, s.db, who.Scope, in.ID); err != nil {
		return rest.Answer{}, err
	}
	if in.As == "json" {
		return rest.Answer{Status: 200, Body: map[string]string{"url": "https://example.com/file"}}, nil
	}
	return rest.Redirect("https://example.com/file"), nil
}

type size struct {
	Size int64 `json:"size"`
}

func (s *things) store(ctx context.Context, who auth.Caller, in struct {
	one
	Upload rest.Upload `body:"stream"`
}) (size, error) {
	if _, err := db.Change(ctx, s.db, who.Scope, in.ID, in.IfMatch, func(*thing) error { return nil }); err != nil {
		return size{}, err
	}
	if s.storing != nil {
		s.storing()
	}
	n, err := io.Copy(io.Discard, in.Upload.Body)
	return size{n}, err
}

func (s *things) ping(context.Context, auth.Caller, struct{}) (struct {
	Pong bool `json:"pong"`
}, error) {
	return struct {
		Pong bool `json:"pong"`
	}{true}, nil
}

func specification(t *testing.T) *openapi.Spec {
	t.Helper()
	spec, err := openapi.Parse(openapi.Base(), fstest.MapFS{"things.yaml": {Data: []byte(module)}})
	if err != nil {
		t.Fatal(err)
	}
	if lines := spec.Lint(); len(lines) > 0 {
		t.Fatal(lines)
	}
	return spec
}

// start mounts the noun on a database whose tables it makes.
func start(t *testing.T, d *db.DB) (*resttest.Server, *things) {
	t.Helper()
	makeTables(t, d)
	s := &things{db: d, token: "secret-token"}
	return resttest.Mount(t, d, specification(t), s.operations()), s
}

func makeTables(t *testing.T, d *db.DB) {
	t.Helper()
	for _, statement := range strings.Split(table, ";") {
		if _, err := d.Write().NewRaw(statement).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

var errRefused = problem.Refused("not today")

var errBroken = errors.New("SELECT * FROM secrets: the disk is on fire")
