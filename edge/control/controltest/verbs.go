package controltest

import (
	"context"
	"net/netip"
	"testing"

	"github.com/hookswitch/hookswitch/edge/control"
)

// Verbs is the part of a Control that voicemail, survey, message, park and unpark ask.
type Verbs struct {
	OnMailbox     func(context.Context, control.MailboxQuery) (control.Mailbox, error)
	OnSurvey      func(context.Context, control.SurveyQuery) (control.Survey, error)
	OnSendMessage func(context.Context, control.TextMessage) (control.MessageTaken, error)
	OnPark        func(context.Context, control.Park) (control.Parked, error)
	OnLeavePark   func(context.Context, control.ParkLeave) error
	OnFindParked  func(context.Context, control.ParkedQuery) (control.ParkedCall, error)
}

var _ control.Verbs = (*Verbs)(nil)

// Mailbox and the others run the function scripted for them.
func (v *Verbs) Mailbox(ctx context.Context, q control.MailboxQuery) (control.Mailbox, error) {
	return call(ctx, v.OnMailbox, q)
}
func (v *Verbs) Survey(ctx context.Context, q control.SurveyQuery) (control.Survey, error) {
	return call(ctx, v.OnSurvey, q)
}
func (v *Verbs) SendMessage(ctx context.Context, m control.TextMessage) (control.MessageTaken, error) {
	return call(ctx, v.OnSendMessage, m)
}
func (v *Verbs) Park(ctx context.Context, p control.Park) (control.Parked, error) {
	return call(ctx, v.OnPark, p)
}
func (v *Verbs) LeavePark(ctx context.Context, l control.ParkLeave) error {
	return told(ctx, v.OnLeavePark, l)
}
func (v *Verbs) FindParked(ctx context.Context, q control.ParkedQuery) (control.ParkedCall, error) {
	return call(ctx, v.OnFindParked, q)
}

func everyVerb(t *testing.T, join Join) {
	var half Control
	c, _ := join(t, &half, &Edge{})
	said := program(t, `[{"verb":"say","text":"你好"},{"verb":"play","media_id":"sys_hold","loop":0}]`)
	owner := control.Owner{EdgeID: "edge_1", BootID: "b1", Epoch: 2, AccountID: "acc_1", CallID: "call_1"}

	way := control.Way{SIP: netip.MustParseAddrPort("192.0.2.2:5060"), Ticket: "link_1"}
	exchange(t, "PlaceConference",
		control.ConferenceQuery{Owner: owner, Name: "晨会", ID: "conf_2", Not: "conf_0"},
		control.ConferencePlace{ConferenceID: "conf_1", EdgeID: "edge_2", Way: way},
		func(fn func(context.Context, control.ConferenceQuery) (control.ConferencePlace, error)) {
			half.OnPlaceConference = fn
		}, c.PlaceConference)
	exchange(t, "PlaceConference",
		control.ConferenceQuery{Owner: owner, Name: "x", ID: "conf_2"}, control.ConferencePlace{ConferenceID: "conf_2", EdgeID: "edge_1"},
		func(fn func(context.Context, control.ConferenceQuery) (control.ConferencePlace, error)) {
			half.OnPlaceConference = fn
		}, c.PlaceConference)
	exchange(t, "RedeemLink",
		control.Ticket{EdgeID: "edge_2", ID: "link_1"},
		control.Link{Kind: control.LinkConference, AccountID: "acc_1", CallID: "call_1", EdgeID: "edge_1", Name: "晨会"},
		func(fn func(context.Context, control.Ticket) (control.Link, error)) { half.OnRedeemLink = fn }, c.RedeemLink)
	exchange(t, "FindLeg",
		control.LegQuery{EdgeID: "edge_1", AccountID: "acc_1", CallID: "call_1", Leg: "call_2"}, control.LegPlace{EdgeID: "edge_2", Way: way},
		func(fn func(context.Context, control.LegQuery) (control.LegPlace, error)) { half.OnFindLeg = fn }, c.FindLeg)
	exchange(t, "Mailbox",
		control.MailboxQuery{AccountID: "acc_1", Mailbox: "王芳"},
		control.Mailbox{ID: "mbx_1", Greeting: said, MinLength: 1.5, MaxLength: 60, Silence: 2, FinishOnKey: "#*"},
		func(fn func(context.Context, control.MailboxQuery) (control.Mailbox, error)) { half.OnMailbox = fn }, c.Mailbox)
	exchange(t, "Survey",
		control.SurveyQuery{AccountID: "acc_1", Survey: "满意度"},
		control.Survey{ID: "sur_1", Version: 3, Invite: said, Thanks: said, Questions: []control.SurveyQuestion{
			{Name: "service", Prompt: said, InvalidPrompt: said, Keys: "12*", Attempts: 2, Timeout: 2.5}, {Name: "solved", Prompt: said, Keys: "1", Attempts: 1, Timeout: 5},
		}},
		func(fn func(context.Context, control.SurveyQuery) (control.Survey, error)) { half.OnSurvey = fn }, c.Survey)
	exchange(t, "SendMessage",
		control.TextMessage{
			AccountID: "acc_1", CallID: "call_1", Key: "key_1", To: "+8613800138000", From: "10690", TemplateID: "mtp_1",
			Data: map[string]any{"name": "王芳", "n": 2.5}, StatusURL: "https://example.com/s",
		},
		control.MessageTaken{MessageID: "msg_1"},
		func(fn func(context.Context, control.TextMessage) (control.MessageTaken, error)) {
			half.OnSendMessage = fn
		}, c.SendMessage)
	exchange(t, "Park",
		control.Park{Owner: owner, ID: "park_1", Slot: "701"}, control.Parked{Slot: "701"},
		func(fn func(context.Context, control.Park) (control.Parked, error)) { half.OnPark = fn }, c.Park)
	exchange(t, "LeavePark",
		control.ParkLeave{AccountID: "acc_1", ID: "park_1"}, struct{}{},
		func(fn func(context.Context, control.ParkLeave) (struct{}, error)) {
			half.OnLeavePark = func(ctx context.Context, l control.ParkLeave) error { _, err := fn(ctx, l); return err }
		},
		func(ctx context.Context, l control.ParkLeave) (struct{}, error) {
			return struct{}{}, c.LeavePark(ctx, l)
		})
	exchange(t, "FindParked",
		control.ParkedQuery{EdgeID: "edge_1", AccountID: "acc_1", CallID: "call_2", Slot: "701"},
		control.ParkedCall{CallID: "call_1", EdgeID: "edge_2", Waited: 2.5, Way: way},
		func(fn func(context.Context, control.ParkedQuery) (control.ParkedCall, error)) {
			half.OnFindParked = fn
		}, c.FindParked)
}
