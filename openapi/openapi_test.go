package openapi_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/openapi"
)

func TestTheSpecificationKeepsTheHouseRules(t *testing.T) {
	s, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range s.Lint() {
		t.Error(line)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

const good = `
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
      responses:
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
              example: {data: [{id: thing_1, name: A, colour: null}]}
    post:
      operationId: createThing
      summary: Create a thing
      tags: [things]
      x-permission: things.write
      parameters:
        - $ref: '#/components/parameters/IdempotencyKey'
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/ThingDraft'}
            example: {name: A}
      responses:
        '201':
          description: The thing.
          content:
            application/json:
              schema: {$ref: '#/components/schemas/Thing'}
              example: {id: thing_1, name: A, colour: red}
  /v1/things/{thing_id}:
    delete:
      operationId: deleteThing
      summary: Delete a thing
      tags: [things]
      x-permission: things.write
      parameters:
        - {name: thing_id, in: path, required: true, description: Its id., schema: {type: string}}
        - $ref: '#/components/parameters/IfMatch'
      responses:
        '204': {description: Deleted.}
components:
  schemas:
    ThingDraft: &draft
      type: object
      additionalProperties: false
      required: [name]
      properties: &fields
        name: {type: string, minLength: 1}
        colour: {type: [string, 'null'], enum: [red, green, null]}
        size: {type: integer, exclusiveMinimum: 0}
        kind: {const: plain}
        either: {oneOf: [{type: string}, {type: integer}, {type: 'null'}]}
    Thing:
      <<: *draft
      required: [id, name]
      properties:
        <<: *fields
        id: {type: string}
`

func parse(module string) (*openapi.Spec, error) {
	return openapi.Parse(openapi.Base(), fstest.MapFS{"things.yaml": {Data: []byte(module)}})
}

func mustParse(t *testing.T, module string) *openapi.Spec {
	t.Helper()
	s, err := parse(module)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAModuleJoinsTheBase(t *testing.T) {
	s := mustParse(t, good)
	if lines := s.Lint(); len(lines) > 0 {
		t.Fatal(lines)
	}
	if text := string(s.YAML); strings.Contains(text, "<<") || strings.Contains(text, "*draft") {
		t.Error("anchors are left in the joined document")
	}
	again, err := openapi3.NewLoader().LoadFromData(s.YAML)
	if err != nil {
		t.Fatal(err)
	}
	if again.OpenAPI != "3.1.0" {
		t.Errorf("the served document is %s", again.OpenAPI)
	}
	thing := s.View.Components.Schemas["Thing"].Value
	if !slices.Equal(thing.Required, []string{"id", "name"}) || thing.Properties["size"] == nil || thing.Properties["id"] == nil {
		t.Errorf("merged as %v %v", thing.Required, thing.Properties)
	}
}

func TestEveryOperationSaysHowItFails(t *testing.T) {
	s := mustParse(t, good)
	for _, c := range []struct {
		operation *openapi3.Operation
		want      []string
	}{
		{s.View.Paths.Value("/v1/things").Get, []string{"200", "400", "401", "403", "429", "503"}},
		{s.View.Paths.Value("/v1/things").Post, []string{"201", "400", "401", "403", "409", "413", "415", "422", "429", "503"}},
		{s.View.Paths.Value("/v1/things/{thing_id}").Delete, []string{"204", "400", "401", "403", "404", "412", "429", "503"}},
	} {
		var got []string
		for status := range c.operation.Responses.Map() {
			got = append(got, status)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.operation.OperationID, got, c.want)
		}
	}
}

func TestTheViewValidatesAsTheDocumentSays(t *testing.T) {
	draft := mustParse(t, good).View.Components.Schemas["ThingDraft"].Value
	for text, want := range map[string]bool{
		`{"name":"A"}`: true, `{"name":"A","colour":null}`: true, `{"name":"A","colour":"red"}`: true,
		`{"name":"A","size":1,"kind":"plain"}`: true, `{"name":"A","either":1}`: true, `{"name":"A","either":null}`: true,
		`{}`: false, `{"name":null}`: false, `{"name":""}`: false, `{"name":"A","colour":"blue"}`: false,
		`{"name":"A","size":0}`: false, `{"name":"A","kind":"other"}`: false, `{"name":"A","more":1}`: false, `{"name":"A","either":[]}`: false,
	} {
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		if err := draft.VisitJSON(value, openapi3.DisableSchemaErrorDetails()); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// change replaces the one occurrence of old in good.
func change(t *testing.T, old, with string) string {
	t.Helper()
	if strings.Count(good, old) != 1 {
		t.Fatalf("%q is there %d times", old, strings.Count(good, old))
	}
	return strings.Replace(good, old, with, 1)
}

func TestParseRefusesWhatTheViewCannotCarry(t *testing.T) {
	for name, with := range map[string]string{
		"if":               "{type: string, if: {minLength: 2}, then: {maxLength: 3}}",
		"prefixItems":      "{type: array, prefixItems: [{type: string}]}",
		"unevaluated":      "{type: object, unevaluatedProperties: false}",
		"two types":        "{type: [string, integer]}",
		"null alone":       "{type: 'null'}",
		"$ref with more":   "{$ref: '#/components/schemas/Metadata', description: More.}",
		"$ref to nothing":  "{$ref: '#/components/schemas/Nothing'}",
		"$ref to a file":   "{$ref: 'openapi.yaml#/components/schemas/Metadata'}",
		"nullable":         "{type: string, nullable: true}",
		"a boolean schema": "true",
	} {
		if _, err := parse(change(t, "{const: plain}", with)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTheViewIsWiderOnlyWhereItSaysSo(t *testing.T) {
	for _, c := range []struct {
		schema, pass string
	}{
		{"{type: object, additionalProperties: false, patternProperties: {'^a': {type: string}}}", `{"b":1}`},
		{"{x-checked-by: things.Check, type: array, prefixItems: [{type: string}]}", `[1]`},
	} {
		s := mustParse(t, change(t, "{const: plain}", c.schema))
		var value any
		if err := json.Unmarshal([]byte(`{"name":"A","kind":`+c.pass+`}`), &value); err != nil {
			t.Fatal(err)
		}
		if err := s.View.Components.Schemas["ThingDraft"].Value.VisitJSON(value); err != nil {
			t.Errorf("%s: %v", c.schema, err)
		}
		if strings.Contains(c.schema, "pattern") && !strings.Contains(string(s.YAML), "patternProperties") {
			t.Errorf("%s: lost from the served document", c.schema)
		}
	}
}

func TestParseRefusesTwoDefinitions(t *testing.T) {
	for _, twice := range []string{
		"components: {schemas: {Thing: {type: object}}}",
		"paths: {/v1/things: {get: {}}}",
		"info: {title: Mine}",
	} {
		_, err := openapi.Parse(openapi.Base(), fstest.MapFS{"a.yaml": {Data: []byte(good)}, "b.yaml": {Data: []byte(twice)}})
		if err == nil {
			t.Errorf("%s: no error", twice)
		}
	}
}

func TestParseRefusesAnAnchorInsideItself(t *testing.T) {
	if _, err := parse("components: &a {schemas: *a}"); err == nil {
		t.Error("no error")
	}
}

func TestAnExampleThatDoesNotFitIsFound(t *testing.T) {
	for _, c := range [][2]string{
		{"example: {name: A}", "example: {name: 1}"},
		{"example: {id: thing_1, name: A, colour: red}", "example: {id: thing_1}"},
	} {
		if err := mustParse(t, change(t, c[0], c[1])).Check(); err == nil {
			t.Errorf("%s: no error", c[1])
		}
	}
	if err := mustParse(t, good).Check(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNotOpenAPIIsFound(t *testing.T) {
	for _, c := range [][2]string{
		{"'204': {description: Deleted.}", "'204': {}"},
		{"in: path, required: true", "in: path"},
		{"operationId: deleteThing", "operationId: createThing"},
		{"{type: string, minLength: 1}", "{type: text}"},
	} {
		if err := mustParse(t, change(t, c[0], c[1])).Check(); err == nil {
			t.Errorf("%s: no error", c[1])
		}
	}
}

func TestLintNamesWhatIsMissing(t *testing.T) {
	for _, c := range []struct{ old, with, want string }{
		{"operationId: createThing", "operationId: things_create", "operationId"},
		{"summary: Create a thing\n", "description: More.\n", "summary"},
		{"summary: Delete a thing\n      tags: [things]", "summary: Delete a thing\n      tags: [other]", "tag"},
		{"summary: Delete a thing\n      tags: [things]\n      x-permission: things.write", "summary: Delete a thing\n      tags: [things]", "x-permission"},
		{"x-permission: things.read", "x-permission: none", "security"},
		{"        - $ref: '#/components/parameters/Cursor'\n", "", "cursor"},
		{"        - $ref: '#/components/parameters/IfMatch'\n", "", "IfMatch"},
		{"      parameters:\n        - $ref: '#/components/parameters/IdempotencyKey'\n", "", "IdempotencyKey"},
		{"            example: {name: A}\n", "", "example"},
		{"              example: {id: thing_1, name: A, colour: red}\n", "", "example"},
		{"      additionalProperties: false\n", "", "additionalProperties"},
		{"kind: {const: plain}", "kindOf: {const: plain}", "snake_case"},
		{"                  next_cursor: {type: string}\n", "", "next_cursor"},
	} {
		lines := mustParse(t, change(t, c.old, c.with)).Lint()
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, c.want) }) {
			t.Errorf("%s: got %q", c.want, lines)
		}
	}
}

func TestTheReferencePageLoadsNothingFromOutside(t *testing.T) {
	s, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	page := fetch("/docs")
	if page.Code != http.StatusOK || !strings.Contains(page.Header().Get("Content-Security-Policy"), "default-src 'self'") {
		t.Fatalf("got %d %q", page.Code, page.Header())
	}
	found := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page.Body.String(), -1)
	if len(found) < 4 {
		t.Fatalf("found %q", found)
	}
	for _, f := range found {
		if !strings.HasPrefix(f[1], "/docs/") {
			t.Errorf("%s is outside", f[1])
		}
		if w := fetch(f[1]); w.Code != http.StatusOK {
			t.Errorf("%s: %d", f[1], w.Code)
		}
	}
	if w := fetch("/openapi.yaml"); w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), "openapi: 3.1.0") {
		t.Errorf("openapi.yaml: %d", w.Code)
	}
	for _, path := range []string{"/docs/assets/problems.html", "/docs/assets/..%2fopenapi.yaml", "/docs/assets/none.js"} {
		if w := fetch(path); w.Code == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

func TestBaseIsOneFile(t *testing.T) {
	names, err := fs.Glob(openapi.Base(), "*.yaml")
	if err != nil || !slices.Equal(names, []string{"openapi.yaml"}) {
		t.Errorf("got %v %v", names, err)
	}
}
