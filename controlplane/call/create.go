package call

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Target is who is to be called: exactly one of Number, Extension, SIP and CustomerID.
type Target struct {
	Number    string `json:"number,omitempty"`
	Extension string `json:"extension,omitempty"`
	SIP       string `json:"sip,omitempty"`
	Username  string `json:"username,omitempty"` // with SIP, for its challenge
	Password  string `json:"password,omitempty"`
	// CustomerID is a customer, and Phone which of the customer's numbers, from 0; nil for the first.
	CustomerID string `json:"customer_id,omitempty"`
	Phone      *int   `json:"phone,omitempty"`
}

// Draft is a call to be started. Exactly one of ApplicationID, URL and Program (with, for a URL, FallbackInstructions) says
// what happens when it is answered; or Connect, with whom the called party speaks.
type Draft struct {
	To                   Target            `json:"to"`
	From                 string            `json:"from,omitempty"`
	ApplicationID        string            `json:"application_id,omitempty"`
	URL                  string            `json:"url,omitempty"`
	Program              json.RawMessage   `json:"program,omitempty"`
	FallbackInstructions json.RawMessage   `json:"fallback_instructions,omitempty"`
	TrunkID              string            `json:"trunk_id,omitempty"`
	Timeout              webhooks.Seconds  `json:"timeout,omitempty"`
	TimeLimit            webhooks.Seconds  `json:"time_limit,omitempty"`
	CallerName           string            `json:"caller_name,omitempty"`
	Headers              map[string]string `json:"headers,omitempty"`
	SendDigits           string            `json:"send_digits,omitempty"`
	Record               bool              `json:"record,omitempty"`
	Data                 map[string]any    `json:"data,omitempty"`
	Connect              *Connect          `json:"connect,omitempty"`
	StatusURL            string            `json:"status_url,omitempty"`
	QueueFor             webhooks.Seconds  `json:"queue_for,omitempty"` // how long it waits while the account starts too many a second
	MachineDetection     json.RawMessage   `json:"machine_detection,omitempty"`
	ExternalID           *string           `json:"external_id,omitempty"`
	Metadata             map[string]any    `json:"metadata,omitempty"`
}

// MaxData is the most bytes of JSON that a call's data may have.
const MaxData = 16 << 10

// one is an error unless exactly one of several things is given.
func one(given ...bool) error {
	n := 0
	for _, is := range given {
		if is {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("%d are given", n)
	}
	return nil
}

// check says what a schema cannot. The party and how it is called are a dial's, and have a dial's rules.
func (d *Draft) check() error {
	switch {
	case one(d.ApplicationID != "", d.URL != "", given(d.Program), d.Connect != nil) != nil:
		return problem.Invalid("give exactly one of application_id, url, program and connect")
	case d.Connect != nil && one(d.Connect.AgentID != "", d.Connect.Extension != "") != nil:
		return problem.InvalidField("/connect", "one", "give exactly one of agent_id and extension")
	case given(d.FallbackInstructions) && d.URL == "":
		return problem.InvalidField("/fallback_instructions", "alone", "goes with url; an application has its own")
	case d.TrunkID != "" && d.To.Number == "":
		return problem.InvalidField("/trunk_id", "alone", "goes with a number to call")
	}
	if err := errors.Join(app.CheckURL("/url", d.URL), app.CheckURL("/status_url", d.StatusURL)); err != nil {
		return err
	}
	if err := bounded("/data", d.Data, MaxData); err != nil {
		return err
	}
	if err := bounded("/metadata", d.Metadata, db.MaxMetadata); err != nil {
		return err
	}
	_, err := d.dial()
	return err
}

// given reports whether JSON is there and not null.
func given(text json.RawMessage) bool { return len(text) > 0 && string(text) != "null" }

func bounded(at string, object map[string]any, most int) error {
	text, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if len(text) > most {
		return problem.RefusedField(at, "size", "may have at most %d bytes as JSON, has %d", most, len(text))
	}
	return nil
}

// dial reads the party and how it is called as a dial's attributes, with their defaults.
func (d *Draft) dial() (*webhooks.Dial, error) {
	dial := map[string]any{"verb": "dial", "to": []Target{d.To}}
	optional := map[string]any{"caller_id": d.From, "caller_name": d.CallerName}
	if d.Timeout != 0 {
		dial["timeout"] = d.Timeout
	}
	if d.TimeLimit != 0 {
		dial["time_limit"] = d.TimeLimit
	}
	if d.Headers != nil {
		dial["headers"] = d.Headers
	}
	if given(d.MachineDetection) {
		dial["machine_detection"] = d.MachineDetection
	}
	maps.DeleteFunc(optional, func(_ string, v any) bool { return v == "" })
	maps.Copy(dial, optional)
	program := []any{dial}
	if d.SendDigits != "" {
		program = append(program, map[string]any{"verb": "send_digits", "digits": d.SendDigits})
	}
	text, err := json.Marshal(program)
	if err != nil {
		return nil, fmt.Errorf("call: %w", err)
	}
	parsed, err := webhooks.ParseProgram(text)
	if e, ok := errors.AsType[*webhooks.ProgramError](err); ok {
		return nil, problem.InvalidField(pointerOf(e.Pointer), "dial", "%s", e.Message)
	}
	if err != nil {
		return nil, err
	}
	as := parsed.Instructions[0].(*webhooks.Dial)
	if m := as.MachineDetection; m != nil {
		err = app.CheckURL("/machine_detection/status_url", m.StatusURL)
	}
	return as, err
}

// pointerOf leads from the instructions that checkDial wrote back to the body.
func pointerOf(pointer string) string {
	names := []struct{ from, to string }{
		{"/0/to/0", "/to"}, {"/0/caller_id", "/from"}, {"/1/digits", "/send_digits"}, {"/1", "/send_digits"}, {"/0", ""},
	}
	for _, n := range names {
		if rest, ok := strings.CutPrefix(pointer, n.from); ok {
			return n.to + rest
		}
	}
	return pointer
}

type createIn struct {
	Body Draft `body:"json"`
}

// create writes the record of a queued call and hands the call to an edge. The record is there first, so that the
// call's events find it.
func (s *Service) create(ctx context.Context, who auth.Caller, in createIn) (*Call, error) {
	d := in.Body
	customerID, err := s.find(ctx, who, &d)
	if err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	o, err := d.origination(who)
	if err != nil {
		return nil, err
	}
	o.CustomerID = customerID
	before, err := s.waitingOf(ctx, o.AccountID)
	if err != nil {
		return nil, err
	}
	o.Behind = before > 0
	prepared, err := s.Edges.Prepare(ctx, o)
	waits := errors.Is(err, ErrRate) && d.QueueFor > 0 && before < maxWaiting
	if err != nil && !waits {
		return nil, err
	}
	c := queued(d, o, prepared)
	if err := s.give(ctx, c, who); err != nil {
		return nil, err
	}
	if waits {
		o.Behind = false
		return c, s.enqueue(ctx, c, o, d.QueueFor)
	}
	if err := s.insert(ctx, c); err != nil {
		return nil, err
	}
	err = prepared.Send(ctx)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, ErrBusy), errors.Is(err, ErrAway):
		// Nothing has happened, and so there is nothing to record.
		_, dropped := s.DB.Write().NewDelete().Model(c).WherePK().Where("next_sequence = 1").Exec(ctx)
		return nil, errors.Join(problem.Unavailable("no edge takes new calls at the moment; repeat the request shortly", 5*time.Second), dropped)
	}
	return nil, fmt.Errorf("originate %s: %w", c.ID, errors.Join(err, problem.Unavailable(
		"the edge did not say whether it took the call "+c.ID+"; its record will tell", time.Second)))
}

// insert writes a record as it is, for its etag and its times are not those of other rows.
func (s *Service) insert(ctx context.Context, c *Call) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Write().NewInsert().Model(c).Exec(ctx); err != nil {
			return db.Check(err)
		}
		return db.Record(ctx, c.ID, nil, c)
	})
}

func (d *Draft) origination(who auth.Caller) (o Origination, err error) {
	o = Origination{
		CallID: webhooks.NewCallID(), AccountID: webhooks.AccountID(who.AccountID), ApplicationID: webhooks.ApplicationID(d.ApplicationID),
		URL: d.URL, From: d.From, CallerName: d.CallerName, Timeout: d.Timeout, TimeLimit: d.TimeLimit,
		Headers: d.Headers, SendDigits: d.SendDigits, Record: d.Record, Data: d.Data, StartedAt: db.Now(),
		Connect: d.Connect, StatusURL: d.StatusURL,
		Target: webhooks.DialTarget{
			Number: d.To.Number, Extension: d.To.Extension, SIP: d.To.SIP, Username: d.To.Username, Password: d.To.Password, Trunk: d.TrunkID,
		},
	}
	if d.ExternalID != nil {
		o.ExternalID = *d.ExternalID
	}
	if o.Program, err = app.ParseProgram("/program", d.Program); err != nil {
		return o, err
	}
	if o.Fallback, err = app.ParseProgram("/fallback_instructions", d.FallbackInstructions); err != nil {
		return o, err
	}
	dial, err := d.dial()
	if err == nil {
		o.MachineDetection = dial.MachineDetection
	}
	return o, err
}

func queued(d Draft, o Origination, p Prepared) *Call {
	c := &Call{
		Row: db.Row{ID: string(o.CallID), AccountID: string(o.AccountID), ExternalID: d.ExternalID, Metadata: d.Metadata,
			CreatedAt: o.StartedAt, UpdatedAt: o.StartedAt, Etag: "0"},
		From: d.From, To: o.Target.Name(), Dialed: o.Target.Name(), Direction: webhooks.OutboundAPI, Status: webhooks.StatusQueued,
		ApplicationID: p.ApplicationID, CustomerID: o.CustomerID, StartedAt: o.StartedAt, Data: d.Data,
		EdgeID: p.EdgeID, BootID: p.BootID, Epoch: 1, EdgeExpects: 1, NextSequence: 1,
	}
	if c.Metadata == nil {
		c.Metadata = map[string]any{}
	}
	if d.Connect != nil {
		c.From, c.To, c.Dialed = p.From, p.To, p.To
	}
	return c
}
