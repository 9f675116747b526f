package notice

import (
	"context"
	"time"
)

// Send brings a notification on, as Run does when it is due.
func (s *Service) Send(ctx context.Context, accountID, id string) (next time.Time, err error) {
	return s.send(ctx, accountID, id)
}
