package control

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// The wire: HTTP/2, over TLS or in clear text with prior knowledge (RFC 9113 §3.3). Each method of Control is one
// POST of a JSON object below pathPrefix with the token as Bearer; a refusal is an Error as JSON. Commands travel
// the other way on one POST that stays open: the answer's body is a line of JSON per command or ping, the
// request's body one per reply.
const (
	pathPrefix     = "/control/v1/"
	pathCredential = pathPrefix + "credential"
	pathRoute      = pathPrefix + "route"
	pathRegister   = pathPrefix + "register"
	pathResolve    = pathPrefix + "resolve"
	pathMedia      = pathPrefix + "media"
	pathUpload     = pathPrefix + "upload"
	pathFinish     = pathPrefix + "finish"
	pathPublish    = pathPrefix + "publish"
	pathBeat       = pathPrefix + "beat"
	pathCommands   = pathPrefix + "commands"

	edgeHeader = "Hookswitch-Edge"
)

// Bounds of the wire.
const (
	maxMessage = 4 << 20 // bytes of one request, answer or line
	maxQueued  = 256     // commands waiting on either side; above, a command is refused as busy

	pingEvery   = 5 * time.Second
	silenceEnds = 15 * time.Second // a stream with nothing heard for this long is given up
	writeWithin = 5 * time.Second
)

// command is one line from the control plane: a ping, or a command with its number.
type command struct {
	Ping      bool       `json:"ping,omitempty"`
	ID        uint64     `json:"id,omitempty"`
	TimeoutMS int64      `json:"timeout_ms,omitempty"` // what the asker still waits
	Originate *Originate `json:"originate,omitempty"`
	Action    *Action    `json:"action,omitempty"`
}

// taken is a command as it is read: what it asks for is read after its number, so that one which this edge cannot read,
// being older than the control plane, is refused and the stream goes on.
type taken struct {
	Ping      bool            `json:"ping"`
	ID        uint64          `json:"id"`
	TimeoutMS int64           `json:"timeout_ms"`
	Originate json.RawMessage `json:"originate"`
	Action    json.RawMessage `json:"action"`

	until time.Time // when the asker stops waiting; zero for never
}

// reply is one line from the edge: a pong, or what became of the command with this number.
type reply struct {
	Pong    bool   `json:"pong,omitempty"`
	ID      uint64 `json:"id,omitempty"`
	Refused *Error `json:"refused,omitempty"`
	Failed  string `json:"failed,omitempty"` // any other error
}

// result is the error that the asker of a command gets.
func (r reply) result() error {
	switch {
	case r.Refused != nil:
		return r.Refused
	case r.Failed != "":
		return errors.New("edge: " + r.Failed)
	}
	return nil
}

func replyTo(id uint64, err error) reply {
	if err == nil {
		return reply{ID: id}
	}
	if refusal, ok := errors.AsType[*Error](err); ok {
		return reply{ID: id, Refused: refusal}
	}
	return reply{ID: id, Failed: err.Error()}
}

// statusOf is the HTTP status that carries a refusal. The code in the body is what counts.
func statusOf(c Code) int {
	switch c {
	case CodeUnauthorized:
		return http.StatusUnauthorized
	case CodeInvalid:
		return http.StatusBadRequest
	}
	return http.StatusUnprocessableEntity
}

// line writes v as one line of JSON.
func line(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	return append(body, '\n'), err
}
