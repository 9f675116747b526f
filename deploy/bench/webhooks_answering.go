package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// answerAndHangUp is the program of a call that is answered and over.
const answerAndHangUp = `{"instructions":[{"verb":"answer"},{"verb":"hangup"}]}`

// answering is an application that answers at once, over connections that are kept, unless it is asked to hang:
//
//	POST /answer    the program answerAndHangUp
//	POST /chain/N   a redirect to /chain/N-1; for 0 as /answer
//	POST /menu/N    a menu, whose answer, that no key was pressed, is told to /menu/N-1; for 0 a goodbye
//	POST /hang      nothing, until the other side gives up
type answering struct {
	url     string
	web     *http.Server
	serving sync.WaitGroup

	mu      sync.Mutex // guards what follows
	last    asked      // the latest question to /answer
	quiet   time.Time  // when the latest answer of a chain was given; zero at its end
	between []time.Duration
	hanging int // questions that hang
	most    int // of them at once
}

// asked is a question as it came.
type asked struct {
	header http.Header
	body   []byte
}

func newAnswering(ctx context.Context) (*answering, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &answering{url: "http://" + listener.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /answer", a.answer)
	mux.HandleFunc("POST /chain/{left}", a.chain)
	mux.HandleFunc("POST /menu/{left}", a.menu)
	mux.HandleFunc("POST /hang", a.hang)
	a.web = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	a.serving.Go(func() {
		if err := a.web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Println("bench: the application:", err)
		}
	})
	return a, nil
}

func (a *answering) close() error {
	err := a.web.Close()
	a.serving.Wait()
	return err
}

func (a *answering) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // who asked has gone
	}
	a.mu.Lock()
	a.last = asked{r.Header, body}
	a.mu.Unlock()
	program(w, answerAndHangUp)
}

// program gives an answer. One that is not taken shows as a call that is not answered.
func program(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, text)
}

// chain keeps the time from each answer to the next question of the same chain. There may be one chain at a time where
// those times matter.
func (a *answering) chain(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	_, err1 := io.Copy(io.Discard, r.Body)
	left, err2 := strconv.Atoi(r.PathValue("left"))
	if errors.Join(err1, err2) != nil {
		http.Error(w, "no such link", http.StatusBadRequest)
		return
	}
	next := answerAndHangUp
	if left > 0 {
		next = fmt.Sprintf(`{"instructions":[{"verb":"redirect","url":"/chain/%d"}]}`, left-1)
	}
	program(w, next)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.quiet.IsZero() {
		a.between = append(a.between, now.Sub(a.quiet))
	}
	a.quiet = time.Time{}
	if left > 0 {
		a.quiet = time.Now()
	}
}

func (a *answering) menu(w http.ResponseWriter, r *http.Request) {
	_, err1 := io.Copy(io.Discard, r.Body)
	left, err2 := strconv.Atoi(r.PathValue("left"))
	if errors.Join(err1, err2) != nil {
		http.Error(w, "no such menu", http.StatusBadRequest)
		return
	}
	next := `{"instructions":[{"verb":"play","media_id":"sys_goodbye"},{"verb":"hangup"}]}`
	if left > 0 {
		const prompt = `{"verb":"play","media_id":"sys_hold"},{"verb":"play","media_id":"sys_apology"}`
		next = fmt.Sprintf(`{"instructions":[{"verb":"gather","id":"menu","num_digits":1,"attempts":2,"timeout":3,"prompt":[%s],"action":"/menu/%d"}]}`, prompt, left-1)
	}
	program(w, next)
}

// links gives the times between an answer and the next question since the last time it was called, sorted.
func (a *answering) links() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.between
	a.between = nil
	slices.Sort(all)
	return all
}

func (a *answering) hang(_ http.ResponseWriter, r *http.Request) {
	// The server sees that the other side is gone only when the body has been read. Where reading fails it is gone.
	_, _ = io.Copy(io.Discard, r.Body)
	a.count(1)
	<-r.Context().Done()
	a.count(-1)
}

func (a *answering) count(more int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hanging += more
	a.most = max(a.most, a.hanging)
}

// mostHanging is the most questions that hung at once.
func (a *answering) mostHanging() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.most
}

// bare asks a path n times, one after the other on a connection that is kept, with the very question that an edge has
// asked last, and gives the time of each round trip, sorted.
func (a *answering) bare(ctx context.Context, n int, path func(i int) string) ([]time.Duration, error) {
	a.mu.Lock()
	question := a.last
	a.mu.Unlock()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	took := make([]time.Duration, 0, n)
	for i := range n {
		began := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+path(i), bytes.NewReader(question.body))
		if err != nil {
			return nil, err
		}
		maps.Copy(req.Header, question.header)
		res, err := transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
			return nil, errors.Join(err, fmt.Errorf("%s answered %s", path(i), res.Status))
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took, nil
}
