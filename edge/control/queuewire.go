package control

import (
	"context"
	"net/http"
)

// serveQueues answers the methods of Queues; false: the path is none of theirs.
func (h *Handler) serveQueues(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case pathJoinQueue:
		serve(h, w, r, h.Control.JoinQueue)
	case pathRenewQueues:
		serve(h, w, r, h.Control.RenewQueues)
	case pathLeaveQueue:
		serve(h, w, r, told(h.Control.LeaveQueue))
	case pathTakeCaller:
		serve(h, w, r, h.Control.TakeCaller)
	case pathConfirmCaller:
		serve(h, w, r, told(h.Control.ConfirmCaller))
	case pathReturnCaller:
		serve(h, w, r, told(h.Control.ReturnCaller))
	case pathChangeCaller:
		serve(h, w, r, h.Control.ChangeCaller)
	default:
		return false
	}
	return true
}

// told is a method that answers nothing but whether it was taken.
func told[Q any](tell func(context.Context, Q) error) func(context.Context, Q) (struct{}, error) {
	return func(ctx context.Context, q Q) (struct{}, error) { return struct{}{}, tell(ctx, q) }
}
