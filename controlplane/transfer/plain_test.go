package transfer_test

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/transfer"
)

// A plain resource, whose rows need nothing but to be stored.

const plainYAML = `
tags: [{name: plains, description: Plains.}]
paths:
  /v1/plains:
    get:
      operationId: listPlains
      summary: List plains
      tags: [plains]
      x-permission: plains.read
      parameters:
        - $ref: '#/components/parameters/Limit'
        - $ref: '#/components/parameters/Cursor'
        - $ref: '#/components/parameters/Sort'
      responses: &page
        '200':
          description: A page.
          content:
            application/json:
              schema:
                type: object
                required: [data]
                properties:
                  data: {type: array, items: {$ref: '#/components/schemas/Plain'}}
                  next_cursor: {type: string}
                  total: {type: integer}
              example: {data: []}
    post:
      operationId: createPlain
      summary: Create a plain
      tags: [plains]
      x-permission: plains.write
      parameters: [{$ref: '#/components/parameters/IdempotencyKey'}]
      requestBody: &body
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/PlainDraft'}
            example: {number: '+8613800138000'}
      responses:
        '201': &plain
          description: The plain.
          content:
            application/json:
              schema: {$ref: '#/components/schemas/Plain'}
              example:
                id: plain_1
                metadata: {}
                created_at: 2026-01-31T08:00:00Z
                updated_at: 2026-01-31T08:00:00Z
                etag: '1'
                number: '+8613800138000'
                note: x
                level: 1
  /v1/plains/search:
    post:
      operationId: searchPlains
      summary: Search plains
      tags: [plains]
      x-permission: plains.read
      requestBody: {$ref: '#/components/requestBodies/Search'}
      responses: *page
  /v1/plains/by/external_id/{external_id}:
    parameters: [{$ref: '#/components/parameters/ByExternalID'}]
    put:
      operationId: upsertPlain
      summary: Add or replace a plain
      tags: [plains]
      x-permission: plains.write
      parameters: [{$ref: '#/components/parameters/IfMatch'}]
      requestBody: *body
      responses:
        '200': *plain
        '201': *plain
  /v1/plains/{plain_id}:
    parameters: [{name: plain_id, in: path, required: true, description: Its id., schema: {type: string}}]
    get:
      operationId: getPlain
      summary: Get a plain
      tags: [plains]
      x-permission: plains.read
      responses: {'200': *plain}
    patch:
      operationId: updatePlain
      summary: Change a plain
      tags: [plains]
      x-permission: plains.write
      parameters: [{$ref: '#/components/parameters/IfMatch'}]
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              properties:
                <<: &fields
                  external_id: {$ref: '#/components/schemas/ExternalID'}
                  metadata: {$ref: '#/components/schemas/Metadata'}
                  note: {type: string, maxLength: 40}
                  level: {type: integer, minimum: 1, maximum: 9}
            example: {note: x}
      responses: {'200': *plain}
    delete:
      operationId: deletePlain
      summary: Delete a plain
      tags: [plains]
      x-permission: plains.write
      parameters: [{$ref: '#/components/parameters/IfMatch'}]
      responses:
        '204': {description: Deleted.}
components:
  schemas:
    PlainDraft:
      type: object
      additionalProperties: false
      required: [number]
      properties:
        <<: *fields
        number: {type: string, minLength: 3, maxLength: 40, x-mask: number}
        level: {type: integer, minimum: 1, maximum: 9, default: 5}
    Plain:
      type: object
      required: [id, metadata, created_at, updated_at, etag, number, note, level]
      properties:
        <<: *fields
        number: {type: string, x-mask: number}
        id: {type: string}
        created_at: {type: string, format: date-time}
        updated_at: {type: string, format: date-time}
        etag: {type: string}
`

const plainSQL = `CREATE TABLE plains (
	id text PRIMARY KEY, account_id text NOT NULL REFERENCES accounts (id), external_id text, metadata jsonb NOT NULL,
	created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, etag text NOT NULL,
	number text NOT NULL, note text NOT NULL, level bigint NOT NULL,
	UNIQUE (account_id, external_id), UNIQUE (account_id, number))`

type plain struct {
	bun.BaseModel `bun:"table:plains" json:"-"`
	db.Row
	plainDraft
}

type plainDraft struct {
	Number string `bun:"number" json:"number"`
	Note   string `bun:"note" json:"note"`
	Level  int64  `bun:"level" json:"level"`
}

type plainBody struct {
	rest.Keys
	plainDraft
}

func plains(d *db.DB) rest.Resource[plain, plainBody] {
	return rest.Resource[plain, plainBody]{
		DB: d, One: "Plain", Many: "Plains", Prefix: "plain",
		Table: list.Table{Fields: list.Common(map[string]list.Field{"number": {Mask: true}, "level": {Type: list.Int}})},
		Draft: func(p *plain) plainBody { return plainBody{plainDraft: p.plainDraft} },
		Put: func(_ context.Context, _ *db.Tx, _ auth.Caller, p *plain, b plainBody) error {
			if b.Note == "forbidden" {
				return problem.RefusedField("/note", "forbidden", "must be another")
			}
			p.plainDraft = b.plainDraft
			return nil
		},
	}
}

// plainImport makes the import of plains.
func plainImport(d *db.DB, direct func() *rest.Direct, together bool) transfer.Resource {
	return transfer.Of(direct, plains(d), transfer.Shape{
		Name: "plains", Label: transfer.Label{Chinese: "普通", English: "Plains"}, Key: "number", Together: together,
		Members: []transfer.Member{
			{Column: transfer.Column{Name: "number", Label: transfer.Label{Chinese: "号码", English: "Number"}, Required: true, Example: "+8613800138000"}},
			{Column: transfer.Column{Name: "note", Label: transfer.Label{Chinese: "备注", English: "Note"}}},
			{Column: transfer.Column{Name: "level", Label: transfer.Label{Chinese: "级别", English: "Level"}}, Type: transfer.Integer},
			transfer.ExternalID(),
		},
	})
}
