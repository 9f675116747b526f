package webhooks

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/openapi"
)

var update = flag.Bool("update", false, "write the tables of deploy/docs/call-control.md anew")

// page is where developers read the contract. Its tables stand between marks and are made here, of the tables of this
// package and of the specification; the rest of it is written by hand.
const page = "../deploy/docs/call-control.md"

var madeMark = regexp.MustCompile(`(?s)<!-- made: ([^>]+) -->\n(.*?)<!-- end of ([^>]+) -->`)

func TestThePageHasTheTablesOfTheContract(t *testing.T) {
	made := pageTables(t)
	seen := map[string]bool{}
	before := readPage(t)
	after := madeMark.ReplaceAllStringFunc(before, func(all string) string {
		parts := madeMark.FindStringSubmatch(all)
		name := parts[1]
		text, ok := made[name]
		switch {
		case name != parts[3]:
			t.Errorf("%s: the mark %q ends as %q", page, name, parts[3])
			return all
		case strings.HasPrefix(name, "edge "): // by the tests of edge/session
			return all
		case !ok:
			t.Errorf("%s: nothing is made for the mark %q", page, name)
			return all
		case parts[2] != text && !*update:
			t.Errorf("%s: %q is not what the contract says; write it anew with go test ./webhooks -run Page -update", page, name)
		}
		seen[name] = true
		return "<!-- made: " + name + " -->\n" + text + "<!-- end of " + name + " -->"
	})
	for name := range made {
		if !seen[name] {
			t.Errorf("%s has no marks of %q", page, name)
		}
	}
	if *update && after != before {
		if err := os.WriteFile(page, []byte(after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func readPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pageTables are what stands between the marks of the page, by their names.
func pageTables(t *testing.T) map[string]string {
	spec := loadSpecification(t)
	made := map[string]string{
		"request": spec.memberTable(t, "CallRequest", reflect.TypeFor[CallRequest]()), "call": spec.memberTable(t, "LiveCall", reflect.TypeFor[Call]()),
		"waiting": spec.memberTable(t, "Waiting", reflect.TypeFor[Waiting]()), "cdr": spec.memberTable(t, "CDR", reflect.TypeFor[CDR]()),
		"guard":     attributeTable(reflect.TypeFor[Guard](), spec.schema(t, "Guard"), nil, nil),
		"target":    attributeTable(reflect.TypeFor[DialTarget](), spec.schema(t, "DialTarget"), targetKinds, nil),
		"detection": attributeTable(reflect.TypeFor[MachineDetection](), spec.schema(t, "MachineDetection"), nil, nil),
		"tuning":    attributeTable(reflect.TypeFor[Tuning](), spec.schema(t, "DetectionTuning"), nil, nil),
		"limits":    limitsTable(), "breaker": breakerText(), "bounds": boundsTable(), "later": laterText(), "places": placesTable(),
		"ops": opsTable(t, spec), "causes": causesTable(), "events": eventsTable(t), "journal": journalTable(t),
	}
	for _, name := range Verbs() {
		made["verb "+name] = verbText(t, spec, name)
	}
	return made
}

// code is a word as the page writes those of the contract.
func code(s string) string { return "`" + s + "`" }

func codes[S ~string](list []S) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = code(string(s))
	}
	return strings.Join(out, ", ")
}

// described is the description of a schema, or of one of its properties, in one line.
func described(v any) string {
	object, _ := v.(map[string]any)
	text, _ := object["description"].(string)
	return strings.Join(strings.Fields(text), " ")
}

func propertyOf(schema map[string]any, name string) any {
	given, _ := schema["properties"].(map[string]any)
	return given[name]
}

// memberTable lists the members of an object that we send, in the order in which they are written down.
func (s *specification) memberTable(t *testing.T, name string, of reflect.Type) string {
	schema := s.schema(t, name)
	always := words(schema["required"])
	var out strings.Builder
	out.WriteString("| member | | |\n|---|---|---|\n")
	for _, f := range reflect.VisibleFields(of) {
		member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		when := ""
		if slices.Contains(always, member) {
			when = "always"
		}
		about := propertyOf(schema, member)
		text := described(about)
		if object, _ := about.(map[string]any); object != nil {
			if enum := words(object["enum"]); len(enum) > 0 {
				text = strings.TrimSpace(text + " " + codes(unsorted(object["enum"])))
			}
			if value, ok := object["const"]; ok {
				text = strings.TrimSpace(text + " " + code(fmt.Sprint(value)))
			}
			if inner, _ := object["properties"].(map[string]any); inner != nil {
				text = strings.TrimSpace(text + " With " + codes(slices.Sorted(maps.Keys(inner))) + ".")
			}
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", code(member), when, text)
	}
	return out.String()
}

// unsorted is a list of texts in its own order.
func unsorted(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, one := range list {
		if text, ok := one.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// attributeTable lists what an object of a program may have. Of those in oneOf exactly one is given; those in without stand
// elsewhere.
func attributeTable(of reflect.Type, schema map[string]any, oneOf, without []string) string {
	var out strings.Builder
	out.WriteString("| attribute | takes | default | |\n|---|---|---|---|\n")
	for _, f := range reflect.VisibleFields(of) { // in the order in which they are written down
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || slices.Contains(without, name) {
			continue
		}
		standard := ""
		text, has := f.Tag.Lookup("default")
		switch {
		case slices.Contains(oneOf, name):
			standard = "one of"
		case hasRule(f.Tag, "required"):
			standard = "required"
		case has && f.Type.Kind() == reflect.String:
			standard = code(strconv.Quote(text))
		case has:
			standard = code(text)
		case f.Type.Kind() == reflect.Bool:
			standard = code("false")
		case hasRule(f.Tag, "deny"):
			standard = code(`"deny"`)
		}
		about := described(propertyOf(schema, name))
		if about == "Seconds." { // as it takes says
			about = ""
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", code(name), takes(f), standard, about)
	}
	return out.String()
}

// subNames are what the page calls the kinds of sub-program.
var subNames = map[SubKind]string{SubAny: "program", SubPrompt: "prompt", SubScreen: "screen", SubWait: "wait program"}

// takes is what an attribute may be.
func takes(f reflect.StructField) string {
	of := f.Type
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	enum := strings.Split(f.Tag.Get("enum"), "|")
	if f.Tag.Get("enum") == "" {
		enum = nil
	}
	switch {
	case of == reflect.TypeFor[Sub]():
		return subNames[SubKind(f.Tag.Get("sub"))]
	case of == reflect.TypeFor[Target]() && hasRule(f.Tag, "deny"):
		return "URL, or " + code(`"deny"`)
	case of == reflect.TypeFor[Target]():
		return "URL"
	case of == reflect.TypeFor[DialTarget]():
		return "[target](#targets)"
	case of == reflect.TypeFor[[]DialTarget]():
		return bounded(f.Tag, " ") + "[targets](#targets)"
	case of == reflect.TypeFor[MachineDetection]():
		return "[machine detection](#machine-detection)"
	case of == reflect.TypeFor[Tuning]():
		return "[tuning](#machine-detection)"
	case of == reflect.TypeFor[map[string]string]():
		return "object of strings"
	case of.Kind() == reflect.Map:
		return "object"
	case of.Kind() == reflect.Slice:
		return "list of " + codes(enum)
	case enum != nil:
		return codes(enum)
	case of.Kind() == reflect.Bool:
		return "boolean"
	case of == reflect.TypeFor[Seconds]():
		return bounded(f.Tag, " ") + "seconds"
	case of.Kind() == reflect.Float64:
		return strings.TrimSpace("number " + bounded(f.Tag, ""))
	case of.Kind() == reflect.Int:
		return strings.TrimSpace("integer " + bounded(f.Tag, ""))
	}
	return textTakes(f.Tag)
}

// textTakes is takes of a text.
func textTakes(tag reflect.StructTag) string {
	var parts []string
	for _, rule := range rules(tag) {
		switch format, ok := formats[rule]; {
		case ok:
			parts = append(parts, strings.TrimPrefix(format.want, "must be "))
		case rule == "url":
			parts = append(parts, "URL")
		case rule == "regex":
			parts = append(parts, "regular expression (RE2), at most 512 characters")
		}
	}
	if size := bounded(tag, " "); size != "" {
		parts = append(parts, size+"characters")
	}
	if len(parts) == 0 {
		return "text"
	}
	return strings.Join(parts, "; ")
}

// bounded is a range, followed by after, or "" for none.
func bounded(tag reflect.StructTag, after string) string {
	low, high, ok := bounds(tag)
	number := func(n float64) string { return strings.Replace(strconv.FormatFloat(n, 'f', -1, 64), "-", "−", 1) }
	switch {
	case !ok:
		return ""
	case low > -1e18 && high < 1e18 && low < 0:
		return number(low) + " to " + number(high) + after
	case low > -1e18 && high < 1e18:
		return number(low) + "–" + number(high) + after
	case high < 1e18:
		return "at most " + number(high) + after
	}
	return "at least " + number(low) + after
}

// verbText is what the page says of a verb: what it does, its attributes, and how it ends.
func verbText(t *testing.T, spec *specification, name string) string {
	mapping := spec.schema(t, "Instruction")["discriminator"].(map[string]any)["mapping"].(map[string]any)
	ref, ok := mapping[name].(string)
	if !ok {
		t.Fatalf("the specification has no schema of %s", name)
	}
	schema := spec.schema(t, strings.TrimPrefix(ref, "#/components/schemas/"))
	row := verbs[name]
	var out strings.Builder
	out.WriteString(described(schema) + "\n\n")
	of := reflect.TypeOf(row.make()).Elem()
	if len(fieldsOf(of)) > len(fieldsOf(reflect.TypeFor[Step]())) {
		out.WriteString(attributeTable(of, schema, row.oneOf, []string{"id", "on"}) + "\n")
	}
	if len(row.outcomes) == 0 {
		out.WriteString("No outcomes.\n")
		return out.String()
	}
	out.WriteString("Outcomes: " + outcomesText(name) + "\n")
	return out.String()
}

// outcomesText lists a verb's own outcomes with what their triggers carry; those that carry the same stand together.
func outcomesText(name string) string {
	var members []string
	of := map[string][]Outcome{}
	for _, o := range verbs[name].outcomes {
		text := triggerMembers[name][o]
		if of[text] == nil {
			members = append(members, text)
		}
		of[text] = append(of[text], o)
	}
	var parts []string
	for _, text := range members {
		part := codes(of[text])
		if text != "" {
			part += " {" + strings.Join(strings.Fields(text), ", ") + "}"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " · ") + "."
}

func limitsTable() string {
	seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
	var out strings.Builder
	out.WriteString("| | application's setting | default | bounds |\n|---|---|---|---|\n")
	row := func(what, setting string, standard, low, high time.Duration) {
		fmt.Fprintf(&out, "| %s | %s | %s s | %s–%s s |\n", what, code(setting), seconds(standard), seconds(low), seconds(high))
	}
	row("connection, with DNS and TLS", "connect_timeout_ms", DefaultConnectTimeout, MinConnectTimeout, MaxConnectTimeout)
	row("all attempts and redirects of one request", "budget_ms", DefaultBudget, MinBudget, MaxBudget)
	fmt.Fprintf(&out, "| further attempts | %s | %d | 0–%d |\n", code("retries"), DefaultRetries, MaxRetries)
	row("the fallback, in all", "fallback_timeout_ms", DefaultFallbackTimeout, MinBudget, MaxBudget)
	return out.String()
}

func breakerText() string {
	return fmt.Sprintf("Of one account and origin, %d failures in a row, or %d %% of at least %d requests within %d s, open the circuit for %d s.\n",
		breakerInARow, breakerPercent, breakerSample, int(breakerWindow.Seconds()), int(breakerOpenFor.Seconds())) +
		fmt.Sprintf("Per account, %d requests are on their way at a time. Each edge counts for itself.\n", defaultInFlight)
}

func boundsTable() string {
	return fmt.Sprintf("| of an answer | at most |\n|---|---|\n| its body | %d KiB |\n| `state`, as JSON | %d KiB |\n", MaxProgramBytes>>10, MaxStateBytes>>10) +
		fmt.Sprintf("| instructions, those in sub-programs included | %d |\n| sub-programs within sub-programs | %d |\n", MaxInstructions, maxProgramDepth) +
		fmt.Sprintf("| instructions without one second of media, input or waiting between them | %d |\n| characters of a text that is said | %d |\n", MaxSilentStretch, maxSaid)
}

// laterText names what is refused because this version does not do it.
func laterText() string {
	parts := []string{"the verbs " + codes(laterVerbs)}
	for _, verb := range slices.Sorted(maps.Keys(laterAttributes)) {
		parts = append(parts, codes(laterAttributes[verb])+" of "+code(verb))
	}
	for _, verb := range slices.Sorted(maps.Keys(verbs)) {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(verbs[verb].make()).Elem()) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if values := f.Tag.Get("later"); values != "" {
				parts = append(parts, codes(strings.Split(values, "|"))+" in "+code(name)+" of "+code(verb))
			}
		}
	}
	return "Refused by name, as not available yet: " + strings.Join(parts, "; ") + ".\n"
}

func placesTable() string {
	var out strings.Builder
	out.WriteString("| kind | attributes | verbs |\n|---|---|---|\n")
	where := map[SubKind][]string{}
	note := func(at string, of reflect.Type) {
		for _, f := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if kind := f.Tag.Get("sub"); kind != "" {
				where[SubKind(kind)] = append(where[SubKind(kind)], code(at+"."+name))
			}
		}
	}
	note("guard", reflect.TypeFor[Guard]())
	note("target", reflect.TypeFor[DialTarget]())
	for _, verb := range slices.Sorted(maps.Keys(verbs)) {
		note(verb, reflect.TypeOf(verbs[verb].make()).Elem())
	}
	for _, op := range Ops() {
		note("op "+op, reflect.TypeOf(ops[op].make()).Elem())
	}
	for _, kind := range []SubKind{SubPrompt, SubScreen, SubWait} {
		fmt.Fprintf(&out, "| %s | %s | %s |\n", subNames[kind], strings.Join(where[kind], ", "), codes(subVerbs[kind]))
	}
	return out.String()
}

// opSchema is the schema of an op.
func opSchema(t *testing.T, spec *specification, name string) map[string]any {
	list, _ := spec.schema(t, "LiveAction")["oneOf"].([]any)
	for _, one := range list {
		object, _ := one.(map[string]any)
		ref, ok := object["$ref"].(string)
		if !ok {
			continue
		}
		schema := spec.schema(t, strings.TrimPrefix(ref, "#/components/schemas/"))
		if is, _ := propertyOf(schema, "op").(map[string]any); is["const"] == name {
			return schema
		}
	}
	t.Fatalf("the specification has no schema of the op %s", name)
	return nil
}

func opsTable(t *testing.T, spec *specification) string {
	var out strings.Builder
	out.WriteString("| `op` | attributes | |\n|---|---|---|\n")
	for _, name := range Ops() {
		row := ops[name]
		var attributes []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(row.make()).Elem()) {
			attribute, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			text := code(attribute) + ": " + takes(f)
			switch standard, has := f.Tag.Lookup("default"); {
			case slices.Contains(row.oneOf, attribute):
				text += " (one of)"
			case hasRule(f.Tag, "required"):
				text += " (required)"
			case has:
				text += " (" + code(standard) + ")"
			}
			attributes = append(attributes, text)
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", code(name), strings.Join(attributes, "<br>"), described(opSchema(t, spec, name)))
	}
	return out.String()
}

func causesTable() string {
	var out strings.Builder
	out.WriteString("| cause | | answered | unanswered: status, SIP | Q.850 | usually ended by |\n|---|---|---|---|---|---|\n")
	for _, c := range []Cause{ // in the order of the contract
		CauseProgramEnd, CauseCallerHangup, CauseCalleeHangup, CauseAPIHangup, CauseRejected, CauseBusy, CauseNoAnswer, CauseCanceled, CauseDeclined,
		CauseUnreachable, CauseNotFound, CauseNotAllowed, CauseNoCodec, CauseLoop, CauseWebhookFailed, CauseMediaTimeout, CauseTimeLimit, CauseOverload,
		CauseEdgeDrain, CauseEdgeLost, CauseError,
	} {
		info, answered := c.Info(), ""
		if info.Answered {
			answered = "yes"
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s, %d | %d | %s |\n", code(string(c)), info.English, answered, code(string(info.Status)), info.SIP, info.Q850, code(string(info.EndedBy)))
	}
	return out.String()
}

// eventMeanings are what the page says of each event.
var eventMeanings = map[EventType]string{
	EventCallInitiated: "A leg begins.",
	EventCallRinging:   "It rings; with `early_media` its network can be heard before an answer.",
	EventCallAnswered:  "It is answered.",
	EventCallDetected:  "What machine detection, or a `detect` on an answered leg, has found.",
	EventCallBridged:   "It speaks with another leg from now on.",
	EventCallHeld:      "It is held, or taken back: by its phone, or by a live change.",
	EventCallParked:    "It waits in a slot.",
	EventCallUnparked:  "It was picked up, where there is a peer; else it waits there no more.",
	EventCallEnded:     "It is over: the one final event of a leg.",

	EventActionCompleted: "A live change was made.",
	EventActionFailed:    "A live change was not made.",

	EventGatherCompleted: "A gather has ended; without `digits` where it is masked.",
	EventDTMF:            "A key that no gather wanted.",

	EventRecordingStarted:   "A recording begins; with `mailbox` it is a voicemail.",
	EventRecordingCompleted: "It is stored and can be fetched.",
	EventRecordingFailed:    "There is none; with `code` `empty` nothing was said.",

	EventQueueJoined:    "The call waits in a queue.",
	EventQueueOffered:   "An agent is rung for it.",
	EventQueueConnected: "It speaks with who took it.",
	EventQueueLeft:      "It is out of the queue; `outcome` says why.",

	EventSurveyCompleted: "A survey has ended, also by a hang-up.",

	EventConferenceStarted:            "The room has begun; of the leg that began it.",
	EventConferenceEnded:              "The room is gone; of the leg that ended it.",
	EventConferenceJoined:             "The leg has come into the room.",
	EventConferenceLeft:               "The leg has left it.",
	EventConferenceMuted:              "Nobody hears it any more.",
	EventConferenceUnmuted:            "It is heard again.",
	EventConferenceHeld:               "It is cut off from the room.",
	EventConferenceUnheld:             "It is in the room again.",
	EventConferenceModified:           "It takes part in another way: see `mode`.",
	EventConferenceSpeechStarted:      "It began to speak.",
	EventConferenceSpeechStopped:      "It stopped speaking.",
	EventConferenceAnnouncementEnded:  "What was played to the whole room is over.",
	EventConferenceAnnouncementFailed: "It could not be played.",

	EventWebhookRejected: "An answer was refused: `pointer` says where, `message` what to change.",
	EventWebhookFailed:   "There was no usable answer.",
}

func eventsTable(t *testing.T) string {
	var out strings.Builder
	out.WriteString("| type | | `data` |\n|---|---|---|\n")
	for _, kind := range EventTypes() {
		meaning, ok := eventMeanings[kind]
		if !ok {
			t.Errorf("the page does not say what %s is", kind)
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", code(string(kind)), meaning, strings.Join(strings.Fields(eventMembers[kind]), ", "))
	}
	return out.String()
}

// journalTable is that of the kinds of entries, as the specification has it.
func journalTable(t *testing.T) string {
	text, _ := loadFiles(t, slices.Concat(contractFiles, []string{"journal.yaml"})).schema(t, "JournalEntry")["description"].(string)
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// block is a fenced block of the page.
type block struct {
	section, sub, kind, text string
}

func pageBlocks(t *testing.T) []block {
	t.Helper()
	var out []block
	var now block
	inside := false
	for line := range strings.Lines(readPage(t)) {
		switch fence, is := strings.CutPrefix(line, "```"); {
		case is && !inside:
			now.kind, now.text, inside = strings.TrimSpace(fence), "", true
		case is:
			inside = false
			out = append(out, now)
		case inside:
			now.text += line
		case strings.HasPrefix(line, "## "):
			now.section, now.sub = strings.TrimSpace(line[3:]), ""
		case strings.HasPrefix(line, "### "):
			now.sub = strings.TrimSpace(line[4:])
		}
	}
	if inside {
		t.Fatalf("%s: a block does not end", page)
	}
	return out
}

// pageChecks read each kind of block as whoever gets it would.
func pageChecks(t *testing.T) map[string]func(block) error {
	whole, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	spec := specificationOf(t, whole)
	valid := func(schema string) func([]byte) error { return spec.validator(t, schema) }
	program, action, request, event := valid("Program"), valid("LiveAction"), valid("CallRequest"), valid("Event")
	fitting := func(kind SubKind) func(block) error {
		return func(b block) error {
			p, err := ParseProgram([]byte(b.text))
			if err != nil {
				return err
			}
			return p.Fits(kind)
		}
	}
	strict := func(text string, v any) error {
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		return dec.Decode(v)
	}
	elsewhere := func(block) error { return nil } // run, or parsed, by the tests of webhooks/conformance
	return map[string]func(block) error{
		"json program": func(b block) error {
			if _, err := ParseProgram([]byte(b.text)); err != nil {
				return err
			}
			return program([]byte(b.text))
		},
		"json screen": fitting(SubScreen), "json wait": fitting(SubWait), "json prompt": fitting(SubPrompt),
		"json action": func(b block) error {
			if _, err := ParseAction([]byte(b.text)); err != nil {
				return err
			}
			return action([]byte(b.text))
		},
		"json request": func(b block) error {
			var r CallRequest
			if err := strict(b.text, &r); err != nil {
				return err
			}
			if r.Trigger != nil {
				if err := r.Trigger.Check(); err != nil {
					return err
				}
			}
			return request([]byte(b.text))
		},
		"json event": func(b block) error {
			var e Event
			if err := strict(b.text, &e); err != nil {
				return err
			}
			if err := e.Check(); err != nil {
				return err
			}
			return event([]byte(b.text))
		},
		"json answer":  func(b block) error { return valid("ActionsTaken")([]byte(b.text)) },
		"json journal": func(b block) error { return valid("JournalPage")([]byte(b.text)) },
		"sh":           func(b block) error { return checkShell(b, spec, t) },
		"http":         checkSigned,
		"js":           elsewhere, "xml": elsewhere,
	}
}

// requestBodies are the schemas of what the page's commands post, by the end of their URLs.
var requestBodies = []struct{ path, schema string }{
	{"/actions", "LiveAction"}, {"/v1/calls", "CallDraft"}, {"/v1/applications", "ApplicationDraft"}, {"/v1/queues", "QueueDraft"},
	{"/v1/mailboxes", "MailboxDraft"}, {"/v1/surveys", "SurveyDraft"},
}

var shellBody = regexp.MustCompile(`(?s)http://127\.0\.0\.1:8080(/v1/[^\s'?]*)[^\n]*?-d '([^']*)'`)

// checkShell checks the bodies of the commands of a block.
func checkShell(b block, spec *specification, t *testing.T) error {
	commands := strings.ReplaceAll(b.text, "\\\n", " ")
	found := shellBody.FindAllStringSubmatch(commands, -1)
	if len(found) != strings.Count(commands, "-d '") {
		return fmt.Errorf("%d bodies were found of %d", len(found), strings.Count(commands, "-d '"))
	}
	for _, one := range found {
		known := false
		for _, r := range requestBodies {
			if !strings.HasSuffix(one[1], r.path) {
				continue
			}
			known = true
			if err := spec.validator(t, r.schema)([]byte(one[2])); err != nil {
				return fmt.Errorf("%s: %w", one[1], err)
			}
			if r.path == "/actions" {
				if _, err := ParseAction([]byte(one[2])); err != nil {
					return fmt.Errorf("%s: %w", one[1], err)
				}
			}
		}
		if !known {
			return fmt.Errorf("nobody knows what is posted to %s", one[1])
		}
	}
	return nil
}

// The page's signed request: its secret is that of Standard Webhooks' own examples.
const (
	pageSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	pageTime   = 1769846400
)

func checkSigned(b block) error {
	head, body, ok := strings.Cut(strings.TrimSuffix(b.text, "\n"), "\n\n")
	if !ok || !strings.Contains(head, pageSecret) {
		return fmt.Errorf("it has no body, or not the secret %s", pageSecret)
	}
	headers := http.Header{}
	for line := range strings.Lines(head) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			headers.Set(name, value)
		}
	}
	return Verify(headers, []byte(body), time.Unix(pageTime, 0), pageSecret)
}

func TestTheExamplesOfThePageAreRight(t *testing.T) {
	checks := pageChecks(t)
	blocks := pageBlocks(t)
	has := map[string]bool{}
	for _, b := range blocks {
		has[b.section] = true
		check, ok := checks[b.kind]
		if !ok {
			t.Errorf("%s, %s %s: nothing checks a block of the kind %q", page, b.section, b.sub, b.kind)
			continue
		}
		if err := check(b); err != nil {
			t.Errorf("%s, %s %s: %v\n%s", page, b.section, b.sub, err, b.text)
		}
		if b.kind == "json program" && b.sub != "" {
			has[b.sub] = has[b.sub] || strings.Contains(b.text, `"verb": "`+strings.Trim(b.sub, "`")+`"`)
		}
	}
	for line := range strings.Lines(readPage(t)) {
		if title, ok := strings.CutPrefix(line, "## "); ok && !has[strings.TrimSpace(title)] {
			t.Errorf("%s: the section %q has no example", page, strings.TrimSpace(title))
		}
	}
	for _, name := range Verbs() {
		if !has[code(name)] {
			t.Errorf("%s: %s has no example of its own", page, name)
		}
	}
}
