package call

import (
	"strconv"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// fold puts what an event says into the record. Events that tell nothing about the record leave it as it is.
func (c *Call) fold(e webhooks.Event) {
	at := e.OccurredAt
	switch e.Type {
	case webhooks.EventCallInitiated:
		c.initiated(e)
	case webhooks.EventCallRinging:
		if c.RingingAt == nil {
			c.RingingAt = &at
		}
	case webhooks.EventCallAnswered:
		c.AnsweredAt = &at
		c.touch()
		if c.EndedAt == nil {
			c.Status = webhooks.StatusInProgress
		} else if c.Cause == webhooks.CauseEdgeLost {
			c.ended(c.lost(*c.EndedAt)) // it was answered after all
		}
	case webhooks.EventCallDetected:
		c.AnsweredBy, c.DetectionDuration = e.Data.AnsweredBy, e.Data.DetectionDuration
	case webhooks.EventActionCompleted, webhooks.EventActionFailed:
		c.touch()
	case webhooks.EventCallEnded:
		if e.Data.CDR != nil {
			c.ended(*e.Data.CDR)
		}
	}
}

// touch raises the etag where the edge does: with the answer and with every live change. With the end it is raised
// here alone, for there is no edge left to compare it.
func (c *Call) touch() {
	n, err := strconv.ParseInt(c.Etag, 10, 64)
	if err != nil {
		n = 0
	}
	c.Etag = strconv.FormatInt(n+1, 10)
}

// initiated opens the record, or completes that of a call which the API started.
func (c *Call) initiated(e webhooks.Event) {
	d := e.Data
	c.From, c.To, c.Dialed, c.Direction = d.From, d.To, d.Dialed, d.Direction
	c.ParentCallID, c.ConversationID = d.ParentCallID, e.ConversationID
	if d.ApplicationID != "" {
		c.ApplicationID = d.ApplicationID
	}
	c.NumberID, c.TrunkID, c.CredentialID, c.AgentID = d.NumberID, d.TrunkID, d.CredentialID, d.AgentID
	if d.CustomerID != "" {
		c.CustomerID = d.CustomerID
	}
	c.SIPCallID, c.Source = d.SIPCallID, d.Source
	if c.StartedAt.IsZero() {
		c.StartedAt = e.OccurredAt
	}
	if c.EndedAt == nil {
		c.Status = webhooks.StatusRinging
	}
}

// ended closes the record, or amends one that was closed for want of an edge.
func (c *Call) ended(r webhooks.CDR) {
	c.Status, c.Cause, c.SIPCode, c.EndedBy = r.Status, r.Cause, r.SIPCode, r.EndedBy
	c.Reason, c.ReasonZH, c.Media = r.Reason, r.ReasonZH, r.Media
	end := r.EndedAt.UTC().Truncate(time.Microsecond)
	c.StartedAt, c.EndedAt = r.StartedAt.UTC().Truncate(time.Microsecond), &end
	c.RingingAt, c.AnsweredAt = micros(r.RingingAt), micros(r.AnsweredAt)
	c.Duration, c.RingDuration, c.TalkDuration = &r.Duration, &r.RingTime, &r.TalkTime
	c.touch()
}

// micros is a time as both databases keep it.
func micros(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	t := at.UTC().Truncate(time.Microsecond)
	return &t
}

// lost is the end of a call whose edge was last heard of at a time.
func (c *Call) lost(at time.Time) webhooks.CDR {
	info := webhooks.CauseEdgeLost.Info()
	for _, known := range []*time.Time{&c.StartedAt, c.RingingAt, c.AnsweredAt} {
		if known != nil && known.After(at) {
			at = *known
		}
	}
	r := webhooks.CDR{
		Status: info.Status, Cause: webhooks.CauseEdgeLost, SIPCode: info.SIP, EndedBy: info.EndedBy,
		Reason: info.English + ".", ReasonZH: info.Chinese + "。",
		StartedAt: c.StartedAt, RingingAt: c.RingingAt, AnsweredAt: c.AnsweredAt, EndedAt: at,
		Duration: webhooks.SecondsOf(at.Sub(c.StartedAt)),
	}
	r.RingTime = r.Duration
	if c.AnsweredAt != nil {
		r.Status, r.SIPCode = webhooks.StatusCompleted, 200
		r.RingTime, r.TalkTime = webhooks.SecondsOf(c.AnsweredAt.Sub(c.StartedAt)), webhooks.SecondsOf(at.Sub(*c.AnsweredAt))
	}
	return r
}
