package webhooks

import (
	"context"
	"sync"
)

// inFlight bounds the requests of each account that are on their way at the same time, so that one account's
// hanging application holds no more than its share of connections and memory.
type inFlight struct {
	most int

	mu       sync.Mutex // guards accounts
	accounts map[AccountID]*places
}

// places are one account's; it is forgotten when nobody uses or waits for them.
type places struct {
	taken chan struct{}
	users int
}

// enter waits for a place until ctx ends. After true, leave must be called.
func (f *inFlight) enter(ctx context.Context, account AccountID) bool {
	f.mu.Lock()
	p := f.accounts[account]
	if p == nil {
		if f.accounts == nil {
			f.accounts = map[AccountID]*places{}
		}
		p = &places{taken: make(chan struct{}, f.most)}
		f.accounts[account] = p
	}
	p.users++
	f.mu.Unlock()

	select {
	case p.taken <- struct{}{}:
		return true
	case <-ctx.Done():
		f.drop(account, p)
		return false
	}
}

func (f *inFlight) leave(account AccountID) {
	f.mu.Lock()
	p := f.accounts[account]
	f.mu.Unlock()
	<-p.taken
	f.drop(account, p)
}

func (f *inFlight) drop(account AccountID, p *places) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(f.accounts, account)
	}
}
