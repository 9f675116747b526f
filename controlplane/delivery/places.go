package delivery

import (
	"context"
	"sync"
)

// places bounds the requests of each account that are on their way at the same time.
type places struct {
	most int

	mu       sync.Mutex // guards accounts
	accounts map[string]*share
}

// share is one account's; it is forgotten when nobody uses or waits for it.
type share struct {
	taken chan struct{}
	users int
}

// enter waits for a place until ctx ends. After true, leave must be called.
func (p *places) enter(ctx context.Context, account string) bool {
	p.mu.Lock()
	s := p.accounts[account]
	if s == nil {
		if p.accounts == nil {
			p.accounts = map[string]*share{}
		}
		s = &share{taken: make(chan struct{}, p.most)}
		p.accounts[account] = s
	}
	s.users++
	p.mu.Unlock()
	select {
	case s.taken <- struct{}{}:
		return true
	case <-ctx.Done():
		p.drop(account, s)
		return false
	}
}

func (p *places) leave(account string) {
	p.mu.Lock()
	s := p.accounts[account]
	p.mu.Unlock()
	<-s.taken
	p.drop(account, s)
}

func (p *places) drop(account string, s *share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(p.accounts, account)
	}
}
