package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisBus keeps the bus in Redis. Every change is one script, by the clock of Redis, so that the processes'
// clocks do not matter. The keys of a script share a hash tag.
type redisBus struct {
	c *redis.Client

	mu     sync.Mutex // guards closed and subs
	closed bool
	subs   map[*Subscription]struct{}
}

const (
	topicPrefix  = "hookswitch:wake:"
	leasePrefix  = "hookswitch:lease:"
	setPrefix    = "hookswitch:set:"
	bucketPrefix = "hookswitch:rate:"
)

func openRedis(location string) (*redisBus, error) {
	options, err := redis.ParseURL(location)
	if err != nil {
		// The error of the parser may repeat the URL, and with it a password.
		return nil, errors.New("bus: not a Redis URL; it must be like redis://user:password@host:6379/0")
	}
	// A call waits on the bus; better an error soon than an answer late.
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = time.Second, time.Second, time.Second
	options.ClientName = "hookswitch"
	// CLIENT SETINFO and maintenance notices are for servers newer than 7.0.
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &redisBus{c: redis.NewClient(options), subs: map[*Subscription]struct{}{}}, nil
}

func (r *redisBus) ping(ctx context.Context) error { return r.c.Ping(ctx).Err() }

func (r *redisBus) close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	open := slices.Collect(maps.Keys(r.subs))
	r.mu.Unlock()
	var errs []error
	for _, s := range open {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, r.c.Close())...)
}

func (r *redisBus) publish(ctx context.Context, topic string, payload []byte) (heard int, err error) {
	n, err := r.c.Publish(ctx, topicPrefix+topic, payload).Result()
	return int(n), wrap("publish", topic, err)
}

func (r *redisBus) subscribe(ctx context.Context, topics []string) (*Subscription, error) {
	channels := make([]string, len(topics))
	for i, t := range topics {
		channels[i] = topicPrefix + t
	}
	ps := r.c.Subscribe(ctx, channels...)
	// One confirmation for each channel.
	for range channels {
		if _, err := ps.Receive(ctx); err != nil {
			return nil, errors.Join(wrap("subscribe", topics[0], err), ps.Close())
		}
	}
	in := ps.Channel(redis.WithChannelSize(pending))
	out := make(chan Message, pending)
	var forwarder sync.WaitGroup
	forwarder.Go(func() {
		defer close(out)
		for m := range in {
			select {
			case out <- Message{Topic: m.Channel[len(topicPrefix):], Payload: []byte(m.Payload)}:
			default:
			}
		}
	})
	s := &Subscription{C: out}
	s.close = sync.OnceValue(func() error {
		r.mu.Lock()
		delete(r.subs, s)
		r.mu.Unlock()
		// Ends in, and with it the forwarder.
		err := ps.Close()
		forwarder.Wait()
		return err
	})
	r.mu.Lock()
	closed := r.closed
	r.subs[s] = struct{}{}
	r.mu.Unlock()
	if closed {
		return nil, errors.Join(ErrClosed, s.Close())
	}
	return s, nil
}

// acquireScript: KEYS lease, fence; ARGV owner, ttl in ms. The lease is a hash of owner and fence. The fence also
// follows the clock, so that it grows across a Redis that lost its data.
var acquireScript = redis.NewScript(`
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return false end
local fence
if owner then
  fence = redis.call('HGET', KEYS[1], 'fence')
else
  local t = redis.call('TIME')
  local now = t[1] * 1000000 + t[2]
  local last = tonumber(redis.call('GET', KEYS[2]) or '0')
  fence = string.format('%.0f', math.max(last + 1, now))
  redis.call('SET', KEYS[2], fence, 'PX', 86400000)
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return fence`)

// renewScript: KEYS lease; ARGV owner, fence, ttl in ms (0 releases).
var renewScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'fence') ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1`)

func leaseKeys(name string) []string {
	key := leasePrefix + "{" + name + "}"
	return []string{key, key + ":fence"}
}

func (r *redisBus) acquire(ctx context.Context, name, owner string, ttl time.Duration) (Lease, bool, error) {
	text, err := acquireScript.Run(ctx, r.c, leaseKeys(name), owner, milliseconds(ttl)).Text()
	if errors.Is(err, redis.Nil) {
		return Lease{}, false, nil
	}
	if err != nil {
		return Lease{}, false, wrap("acquire", name, err)
	}
	fence, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Lease{}, false, wrap("acquire", name, err)
	}
	return Lease{Name: name, Owner: owner, Fence: fence}, true, nil
}

func (r *redisBus) renew(ctx context.Context, l Lease, ttl time.Duration) (bool, error) {
	n, err := renewScript.Run(ctx, r.c, leaseKeys(l.Name)[:1], l.Owner, l.Fence, milliseconds(ttl)).Int()
	return n == 1, wrap("renew", l.Name, err)
}

func (r *redisBus) release(ctx context.Context, l Lease) error {
	return wrap("release", l.Name, renewScript.Run(ctx, r.c, leaseKeys(l.Name)[:1], l.Owner, l.Fence, 0).Err())
}

func (r *redisBus) holder(ctx context.Context, name string) (Lease, bool, error) {
	found, err := r.c.HGetAll(ctx, leaseKeys(name)[0]).Result()
	if err != nil || len(found) == 0 {
		return Lease{}, false, wrap("holder", name, err)
	}
	fence, err := strconv.ParseInt(found["fence"], 10, 64)
	if err != nil {
		return Lease{}, false, wrap("holder", name, err)
	}
	return Lease{Name: name, Owner: found["owner"], Fence: fence}, true, nil
}

// enterScript: KEYS ends (sorted set: member by its end in ms), values (hash); ARGV member, value, ttl in ms, most.
var enterScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
for _, member in ipairs(gone) do
  redis.call('ZREM', KEYS[1], member)
  redis.call('HDEL', KEYS[2], member)
end
local most = tonumber(ARGV[4])
if most > 0 and not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= most then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < tonumber(ARGV[3]) then redis.call('PEXPIRE', key, ARGV[3]) end
end
return 1`)

// leaveScript: KEYS ends, values; ARGV member.
var leaveScript = redis.NewScript(`
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1`)

// membersScript: KEYS ends, values. It answers member, value, member, value …
var membersScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  found[#found + 1] = member
  found[#found + 1] = redis.call('HGET', KEYS[2], member)
end
return found`)

func setKeys(set string) []string {
	key := setPrefix + "{" + set + "}"
	return []string{key, key + ":values"}
}

func (r *redisBus) enter(ctx context.Context, set, member string, value []byte, ttl time.Duration, most int) (bool, error) {
	n, err := enterScript.Run(ctx, r.c, setKeys(set), member, value, milliseconds(ttl), most).Int()
	return n == 1, wrap("enter", set, err)
}

func (r *redisBus) leave(ctx context.Context, set, member string) error {
	return wrap("leave", set, leaveScript.Run(ctx, r.c, setKeys(set), member).Err())
}

func (r *redisBus) members(ctx context.Context, set string) (map[string][]byte, error) {
	list, err := membersScript.Run(ctx, r.c, setKeys(set)).StringSlice()
	if err != nil {
		return nil, wrap("members", set, err)
	}
	found := map[string][]byte{}
	for i := 0; i+1 < len(list); i += 2 {
		found[list[i]] = []byte(list[i+1])
	}
	return found, nil
}

// takeScript: KEYS bucket; ARGV tokens a second, burst. It answers ok and the tokens left.
var takeScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local b = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(b[1]) or burst, tonumber(b[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local ok = 0
if tokens >= 1 then ok, tokens = 1, tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / rate * 1000) + 1000)
return {ok, string.format('%.9f', tokens)}`)

func (r *redisBus) take(ctx context.Context, key string, perSecond float64, burst int) (Taken, error) {
	answer, err := takeScript.Run(ctx, r.c, []string{bucketPrefix + key}, perSecond, burst).Slice()
	if err != nil {
		return Taken{}, wrap("take", key, err)
	}
	if len(answer) != 2 {
		return Taken{}, wrap("take", key, fmt.Errorf("answer %v", answer))
	}
	tokens, err := strconv.ParseFloat(fmt.Sprint(answer[1]), 64)
	if err != nil {
		return Taken{}, wrap("take", key, err)
	}
	return taken(fmt.Sprint(answer[0]) == "1", tokens, perSecond, burst), nil
}

// milliseconds is a ttl for Redis: at least 1, because 0 deletes.
func milliseconds(ttl time.Duration) int64 { return max(1, ttl.Milliseconds()) }

func wrap(doing, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.ErrClosed):
		return ErrClosed
	}
	return fmt.Errorf("bus %s %s: %w", doing, name, err)
}
