package edges

import (
	"context"
	"errors"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/edge/control"
)

// ChangeCaller implements control.Control. A call that has left its queue since it was changed is not_allowed: what was
// done to it is done.
func (s *Service) ChangeCaller(ctx context.Context, c control.QueueChange) (control.QueueStood, error) {
	if err := s.changeCaller(ctx, c); err != nil {
		return control.QueueStood{}, changeRefusal(err)
	}
	stood, err := s.Queues.StoodOf(ctx, c.AccountID, c.CallID, c.QueueID)
	if errors.Is(err, queue.ErrFenced) {
		return control.QueueStood{}, &control.Error{Code: control.CodeNotAllowed, Message: "the call waits no more"}
	}
	if err != nil {
		return control.QueueStood{}, err
	}
	return queueStood(stood), nil
}

func (s *Service) changeCaller(ctx context.Context, c control.QueueChange) error {
	account := auth.Account(string(c.AccountID))
	var err error
	switch {
	case c.AccountID == "" || c.CallID == "":
		err = &control.Error{Code: control.CodeInvalid, Message: "it names no call of an account"}
	case c.Do == control.QueuePriority && c.Priority != nil:
		_, err = s.Queues.Reprioritize(ctx, account, c.CallID, *c.Priority)
	case c.Do == control.QueueMove && c.Queue != "":
		_, err = s.Queues.Move(ctx, account, c.CallID, c.Queue, c.Priority)
	case c.Do == control.QueueAssign && c.Agent != "":
		_, err = s.Queues.Assign(ctx, account, c.CallID, c.Agent)
	default:
		err = &control.Error{Code: control.CodeInvalid, Message: "it is no change to a call that waits"}
	}
	return err
}

// changeCodes are the refusals of such a change in the seam's terms, by the code of their problem and of its first field.
var changeCodes = map[problem.Code]map[string]control.Code{
	problem.CodeInvalid:  {"": control.CodeInvalid},
	problem.CodeRefused:  {"": control.CodeNotFound},
	problem.CodeConflict: {"": control.CodeNotAllowed, "full": control.CodeFull, "closed": control.CodeClosed},
}

// changeRefusal puts a refusal into the seam's terms; what is none stays as it is, and the edge tries again.
func changeRefusal(err error) error {
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok {
		return err
	}
	codes, ok := changeCodes[p.Code]
	if !ok {
		return err
	}
	code := codes[""]
	if len(p.Errors) > 0 && codes[p.Errors[0].Code] != "" {
		code = codes[p.Errors[0].Code]
	}
	return &control.Error{Code: code, Message: p.Detail}
}
