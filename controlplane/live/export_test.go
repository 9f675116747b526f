package live

import "time"

// Hurry sets how often the feed is looked at, readers are checked, and how long a silence may be.
func (s *Service) Hurry(look, check, heartbeat time.Duration) {
	s.look, s.check, s.heartbeat = look, check, heartbeat
	s.checks.fresh = check / 2
}
