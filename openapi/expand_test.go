package openapi_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// boxed is good, whose things lie in boxes that are listed.
func boxed(t *testing.T) string {
	t.Helper()
	module := change(t, "        id: {type: string}\n", "        id: {type: string}\n        box_id: {type: string, x-expand: listBoxes}\n        other_id: {type: string, x-expand: listNothing}\n")
	return strings.Replace(module, "components:\n", `  /v1/things/search:
    post:
      operationId: searchThings
      summary: Search things
      tags: [things]
      x-permission: things.read
      requestBody: {$ref: '#/components/requestBodies/Search'}
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
              example: {data: []}
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
              example: {data: []}
components:
`, 1) + "    Box: {type: object, required: [id], properties: {id: {type: string}, thing_id: {type: string, x-expand: listThings}}}\n"
}

func TestWhatRefersCanBeExpanded(t *testing.T) {
	s := mustParse(t, boxed(t))
	for path, want := range map[string]bool{"/v1/things": true, "/v1/boxes": true} {
		list := s.View.Paths.Value(path).Get
		if got := list.Parameters.GetByInAndName(openapi3.ParameterInQuery, "expand") != nil; got != want {
			t.Errorf("%s takes expand: %t", path, got)
		}
	}
	if s.View.Paths.Value("/v1/things/search").Post.Parameters.GetByInAndName(openapi3.ParameterInQuery, "expand") == nil {
		t.Error("the search does not take expand")
	}
	if s.View.Paths.Value("/v1/things").Post.Parameters.GetByInAndName(openapi3.ParameterInQuery, "expand") != nil {
		t.Error("a creation takes expand")
	}
	thing := s.View.Components.Schemas["Thing"].Value
	if box := thing.Properties["box"]; box == nil || len(box.Value.AllOf) != 1 || box.Value.AllOf[0].Ref != "#/components/schemas/Box" || box.Value.Extensions["x-expanded"] != "box_id" {
		t.Errorf("box is %+v", box)
	}
	if thing.Properties["other"] != nil || s.View.Components.Schemas["ThingDraft"].Value.Properties["box"] != nil {
		t.Error("something else was made expandable")
	}
	lines := s.Lint()
	if len(lines) != 2 || !strings.Contains(lines[0], "listThings") || !strings.Contains(lines[1], "listNothing") {
		t.Errorf("got %q; want that listNothing is not there, and that listThings takes no id[in]", lines)
	}
}

func TestExpandIsRefusedWhereItCannotBe(t *testing.T) {
	for old, with := range map[string]string{
		"box_id: {type: string,":          "box: {type: string,",
		"box_id: {type: string, x-expand": "box: {type: string}\n        box_id: {type: string, x-expand",
	} {
		if _, err := parse(strings.Replace(boxed(t), old, with, 1)); err == nil {
			t.Errorf("%s: no error", with)
		}
	}
}

func TestASearchIsARead(t *testing.T) {
	search := "      operationId: searchThings\n      summary: Search things\n      tags: [things]\n      x-permission: things.read"
	for with, want := range map[string]string{
		strings.Replace(search, "things.read", "things.write", 1): "read",
		strings.Replace(search, "searchThings", "findThings", 1):  "search",
	} {
		lines := mustParse(t, strings.Replace(boxed(t), search, with, 1)).Lint()
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) && strings.Contains(line, "/search") }) {
			t.Errorf("%s: got %q", with, lines)
		}
	}
}
