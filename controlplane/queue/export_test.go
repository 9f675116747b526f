package queue

import "time"

// RankOf is the order of those who wait.
func RankOf(queuedAt time.Time, priority int, ahead bool) int64 {
	return rankOf(queuedAt, priority, ahead)
}

// Poll sets how long a take that waits goes without looking.
func (s *Service) Poll(every time.Duration) { s.poll = every }
