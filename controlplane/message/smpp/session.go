package smpp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// What Submit fails with besides a Status. Anything but ErrUnanswered means that the message centre does not have the
// message.
var (
	// ErrUnbound says that there is no session, and nothing was sent.
	ErrUnbound = errors.New("there is no session with the message centre")
	// ErrUnanswered says that the message was sent, or part of it, and that nobody knows whether it was taken.
	ErrUnanswered = errors.New("the message centre did not answer")
)

// Message is one short message to be submitted: a text of one part, or one part of a text.
type Message struct {
	From, To Address
	Coding   Coding
	Text     []byte
	Part     Part
}

// maxShortMessage is the most bytes of short_message (§4.4.1).
const maxShortMessage = 254

// session is one bound connection.
type session struct {
	cfg    Config
	conn   net.Conn
	window chan struct{} // holds one for each submit_sm that is not answered
	ended  chan struct{}
	arrive chan pdu // deliver_sm that are to be handled

	writing sync.Mutex // held while something is written

	mu       sync.Mutex // guards what follows
	sequence uint32
	waiting  map[uint32]chan pdu
	err      error // why it ended
}

// bind connects and binds as a transceiver.
func bind(ctx context.Context, cfg Config) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.BindWithin)
	defer cancel()
	conn, err := cfg.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = introduce(conn, cfg)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &session{
		cfg: cfg, conn: conn, window: make(chan struct{}, cfg.Window), ended: make(chan struct{}), arrive: make(chan pdu, arriveMost),
		sequence: 1, waiting: map[uint32]chan pdu{},
	}, nil
}

// arriveMost bounds the deliver_sm that wait to be handled. One more is answered with QueueFull, and comes again.
const arriveMost = 64

// maxBeforeBound bounds what a message centre may say before it answers the bind.
const maxBeforeBound = 8

// introduce sends bind_transceiver and reads the answer.
func introduce(conn net.Conn, cfg Config) error {
	body := appendString(appendString(appendString(nil, cfg.SystemID), cfg.Password), cfg.SystemType)
	body = append(body, 0x34, 0, 0) // interface_version, and an address range that is the message centre's to know
	body = appendString(body, "")
	if _, err := conn.Write(pdu{id: bindTransceiver, sequence: 1, body: body}.bytes()); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	for range maxBeforeBound {
		p, err := readPDU(conn)
		switch {
		case err != nil:
			return fmt.Errorf("bind: %w", err)
		case p.sequence == 1 && (p.id == bindTransceiver|response || p.id == genericNack):
			if p.status != statusOK {
				return p.status
			}
			if p.id == genericNack {
				return InvalidCommand
			}
			return nil
		}
	}
	return errors.New("bind: the message centre says something else")
}

// run serves the session until it ends or ctx does, and gives why. The connection is closed when it returns.
func (s *session) run(ctx context.Context) error {
	var working sync.WaitGroup
	working.Go(s.read)
	working.Go(s.enquire)
	working.Go(func() { s.handle(ctx) })
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.leave()
	}
	working.Wait()
	return s.why()
}

// leaveWithin bounds how long the answer to unbind, and answers to what was submitted, are waited for.
const leaveWithin = 3 * time.Second

// leave waits for the answers that are under way, unbinds and ends the session.
func (s *session) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	for range cap(s.window) {
		select {
		case s.window <- struct{}{}:
		case <-ctx.Done():
		case <-s.ended:
		}
	}
	_, _ = s.request(ctx, unbind, nil) // it is over either way
	s.fail(ErrUnbound)
}

// fail ends the session. The first reason stands.
func (s *session) fail(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = why
	close(s.ended)
	s.conn.Close()
}

func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// read takes what the message centre sends until the connection ends.
func (s *session) read() {
	for {
		// Our own enquiries are answered more often than this.
		if err := s.conn.SetReadDeadline(time.Now().Add(s.cfg.EnquireLink + 2*s.cfg.AnswerWithin)); err != nil {
			s.fail(err)
			return
		}
		p, err := readPDU(s.conn)
		if errors.Is(err, errLength) {
			_ = s.write(pdu{id: genericNack, status: InvalidLength, sequence: p.sequence}) // it ends here either way
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the message centre closed the connection")
			}
			s.fail(err)
			return
		}
		if !s.take(p) {
			return
		}
	}
}

// take acts on one PDU; it is false when the session ends with it.
func (s *session) take(p pdu) bool {
	var err error
	switch {
	case p.id&response != 0:
		s.answered(p)
	case p.id == enquireLink:
		err = s.write(pdu{id: enquireLink | response, sequence: p.sequence})
	case p.id == unbind:
		_ = s.write(pdu{id: unbind | response, sequence: p.sequence}) // it is over either way
		err = errors.New("the message centre ended the session")
	case p.id == deliverSM:
		select {
		case s.arrive <- p:
		default:
			err = s.write(pdu{id: deliverSM | response, status: QueueFull, sequence: p.sequence, body: []byte{0}})
		}
	case p.id == alertNotification, p.id == outbind: // neither has an answer (§4.12.1, §4.1.7)
	default:
		err = s.write(pdu{id: genericNack, status: InvalidCommand, sequence: p.sequence})
	}
	if err != nil {
		s.fail(err)
	}
	return err == nil
}

// answered gives an answer to who waits for it. One that nobody waits for any more is dropped.
func (s *session) answered(p pdu) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.waiting[p.sequence]; ch != nil {
		delete(s.waiting, p.sequence)
		ch <- p // it holds one
	}
}

// handle gives deliveries to the account's side, one after the other, and answers them.
func (s *session) handle(ctx context.Context) {
	for {
		select {
		case <-s.ended:
			return
		case p := <-s.arrive:
			answer := pdu{id: deliverSM | response, sequence: p.sequence, body: []byte{0}} // message_id is unused (§4.6.2)
			d, err := parseDelivery(p.body)
			switch {
			case err != nil:
				answer.status = SystemError
				s.cfg.Log.Warn("smpp.delivery_unreadable", "bytes", len(p.body))
			case s.cfg.Deliver(ctx, d) != nil:
				answer.status = NotNow // it comes again
			}
			if err := s.write(answer); err != nil {
				s.fail(err)
				return
			}
		}
	}
}

// enquire asks at an interval whether the message centre is still there.
func (s *session) enquire() {
	tick := time.NewTicker(s.cfg.EnquireLink)
	defer tick.Stop()
	for {
		select {
		case <-s.ended:
			return
		case <-tick.C:
		}
		if _, err := s.request(context.Background(), enquireLink, nil); err != nil {
			s.fail(fmt.Errorf("enquire_link: %w", err))
			return
		}
	}
}

// submit sends one short message and gives the message centre's id of it.
func (s *session) submit(ctx context.Context, m Message) (string, error) {
	body, err := m.body(s.cfg)
	if err != nil {
		return "", err
	}
	select {
	case s.window <- struct{}{}:
		defer func() { <-s.window }()
	case <-s.ended:
		return "", ErrUnbound
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	p, err := s.request(ctx, submitSM, body)
	if err != nil {
		return "", err
	}
	if p.status != statusOK {
		return "", p.status
	}
	if p.id != submitSM|response {
		return "", fmt.Errorf("%w as it should", ErrUnanswered)
	}
	id, err := p.messageID()
	if err != nil {
		return "", fmt.Errorf("%w with an id", ErrUnanswered)
	}
	return id, nil
}

// request sends a PDU and waits for its answer. The error is ErrUnbound when nothing was sent, else it wraps
// ErrUnanswered.
func (s *session) request(ctx context.Context, id command, body []byte) (pdu, error) {
	answer := make(chan pdu, 1)
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return pdu{}, ErrUnbound
	}
	s.sequence = s.sequence%0x7FFFFFFF + 1
	sequence := s.sequence
	s.waiting[sequence] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, sequence)
		s.mu.Unlock()
	}()
	if err := s.write(pdu{id: id, sequence: sequence, body: body}); err != nil {
		s.fail(err)
		return pdu{}, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	within := time.NewTimer(s.cfg.AnswerWithin)
	defer within.Stop()
	select {
	case p := <-answer:
		return p, nil
	case <-within.C:
		return pdu{}, fmt.Errorf("%w in time", ErrUnanswered)
	case <-ctx.Done():
		return pdu{}, fmt.Errorf("%w: %w", ErrUnanswered, context.Cause(ctx))
	case <-s.ended:
		// The answer may have come just before the end.
		select {
		case p := <-answer:
			return p, nil
		default:
			return pdu{}, fmt.Errorf("%w: %w", ErrUnanswered, s.why())
		}
	}
}

func (s *session) write(p pdu) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.cfg.AnswerWithin)); err != nil {
		return err
	}
	_, err := s.conn.Write(p.bytes())
	return err
}

// body is that of a submit_sm (§4.4.1).
func (m Message) body(cfg Config) ([]byte, error) {
	text, class := m.Text, byte(0)
	if m.Part.Total > 1 && !cfg.SAR {
		text, class = append(m.Part.header(), m.Text...), hasHeader
	}
	if len(text) > maxShortMessage {
		return nil, fmt.Errorf("a short message has at most %d bytes", maxShortMessage)
	}
	body := appendString(nil, cfg.ServiceType)
	body = appendString(append(body, m.From.TON, m.From.NPI), m.From.Number)
	body = appendString(append(body, m.To.TON, m.To.NPI), m.To.Number)
	body = append(body, class, 0, 0, 0, 0) // protocol_id, priority_flag; no schedule_delivery_time and validity_period
	body = append(body, 1, 0, byte(m.Coding), 0, byte(len(text)))
	body = append(body, text...)
	if m.Part.Total > 1 && cfg.SAR {
		body = appendTLV(body, tagSARReference, byte(m.Part.Reference>>8), byte(m.Part.Reference))
		body = appendTLV(body, tagSARTotal, m.Part.Total)
		body = appendTLV(body, tagSARNumber, m.Part.Number)
	}
	return body, nil
}
