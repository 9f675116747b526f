package webhooks

// Enqueue puts the caller into a queue until an agent is connected, with Wait repeated meanwhile. It ends when the
// talk is over, or before it.
type Enqueue struct {
	Step
	Queue            string         `json:"queue" check:"required,min=1,max=64"` // id or name
	Priority         int            `json:"priority,omitempty" check:"min=0,max=1000"`
	Wait             *Sub           `json:"wait,omitempty" sub:"wait"`                   // nil: the queue's own music; an empty list: silence
	MaxWait          Seconds        `json:"max_wait,omitempty" check:"min=0,max=86400"`  // 0: as the queue says
	MaxSize          int            `json:"max_size,omitempty" check:"min=1,max=100000"` // full when as many wait; 0: as the queue says
	AnnouncePosition bool           `json:"announce_position,omitempty"`
	Create           bool           `json:"create,omitempty"`              // makes the queue where there is none of this name; else that is failed
	Data             map[string]any `json:"data,omitempty"`                // shown to the agent
	Screen           *Sub           `json:"screen,omitempty" sub:"screen"` // run on the agent
	Action           *Target        `json:"action,omitempty"`
}

// Dequeue connects this leg to the caller who waits longest in a queue, or to a certain one: exactly one of Queue and
// CallID. Screen is run on that caller before the two are connected.
type Dequeue struct {
	Step
	Queue   string  `json:"queue,omitempty" check:"min=1,max=64"` // id or name
	CallID  CallID  `json:"call_id,omitempty" check:"min=1,max=64"`
	Screen  *Sub    `json:"screen,omitempty" sub:"screen"`
	Timeout Seconds `json:"timeout,omitempty" check:"min=0,max=86400"` // for somebody to come; 0: empty at once
}

// Leave, in a wait, leaves the queue or the conference that is waited for; the program goes on after the instruction
// that waits. Elsewhere it does nothing.
type Leave struct{ Step }

// Verb returns the instruction's name in a program.
func (*Enqueue) Verb() string { return "enqueue" }
func (*Dequeue) Verb() string { return "dequeue" }
func (*Leave) Verb() string   { return "leave" }

// MarshalJSON writes the instruction with its verb.
func (i *Enqueue) MarshalJSON() ([]byte, error) {
	type plain Enqueue
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Dequeue) MarshalJSON() ([]byte, error) {
	type plain Dequeue
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Leave) MarshalJSON() ([]byte, error) {
	type plain Leave
	return withVerb(i.Verb(), (*plain)(i))
}
