package sip

import (
	"strconv"
	"strings"
)

// allow is what this package really does; it goes into OPTIONS, 405 and every answer.
const allow = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY"

// refusal is the response a request earns before anybody looks at what it wants.
type refusal struct {
	code    int
	headers []Header
}

// check makes the checks of RFC 3261 §8.2 and §16.3 on a request that could be read, in the order of that section. The
// methods themselves are sorted out later, because REGISTER is only served where there is a registrar.
func (m *message) check() *refusal {
	if m.version != "SIP/2.0" {
		return &refusal{code: 505}
	}
	if m.seqFor != m.method {
		return &refusal{code: 400}
	}
	scheme, _, _ := strings.Cut(m.uri, ":")
	switch strings.ToLower(scheme) {
	case "sip", "sips", "tel":
	default:
		return &refusal{code: 416}
	}
	if _, err := ParseURI(m.uri); err != nil {
		return &refusal{code: 400}
	}
	if r := m.checkNumbers(); r != nil {
		return r
	}
	if m.method == methodRegister {
		// RFC 3261 §10.2: To is the address of record and must be a SIP or SIPS URI; phones also register tel.
		if u, err := ParseURI(m.to.uri); err != nil || u.Scheme != "sip" && u.Scheme != "sips" && u.Scheme != "tel" {
			return &refusal{code: 400}
		}
	}
	if m.method == methodAck || m.method == methodCancel {
		return nil // RFC 3261 §8.2.2.3: Require is ignored in these
	}
	if r := m.checkRequire(); r != nil {
		return r
	}
	return m.checkBody()
}

func (m *message) checkNumbers() *refusal {
	if s := m.get("Max-Forwards"); s != "" {
		if _, err := strconv.ParseUint(s, 10, 8); err != nil {
			return &refusal{code: 400}
		}
	}
	if s := m.get("Expires"); s != "" {
		if _, err := strconv.ParseUint(s, 10, 32); err != nil && m.method == methodRegister {
			return &refusal{code: 400}
		}
	}
	return nil
}

func (m *message) checkRequire() *refusal {
	var unknown []string
	for _, tag := range m.values("Require") {
		if m.method == methodRegister && strings.EqualFold(tag, "path") {
			continue
		}
		if m.method == methodInvite && strings.EqualFold(tag, "replaces") || m.method == methodRefer && strings.EqualFold(tag, "norefersub") {
			continue
		}
		unknown = append(unknown, tag)
	}
	if unknown == nil {
		return nil
	}
	return &refusal{code: 420, headers: []Header{{"Unsupported", strings.Join(unknown, ", ")}}}
}

// checkBody makes sure that an offer is one we can read (RFC 3261 §8.2.3) and that the caller can read our answer.
func (m *message) checkBody() *refusal {
	if m.method != methodInvite && m.method != methodUpdate {
		return nil
	}
	if accepted := m.values("Accept"); len(accepted) > 0 && !acceptsSDP(accepted) {
		return &refusal{code: 406, headers: []Header{{"Accept", "application/sdp"}}}
	}
	if len(m.body) == 0 {
		return nil
	}
	if enc := m.get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return &refusal{code: 415, headers: []Header{{"Accept-Encoding", "identity"}}}
	}
	kind, _ := mediaType(m.get("Content-Type"))
	if kind == "application/sdp" || strings.HasPrefix(kind, "multipart/") || m.optionalBody() {
		return nil
	}
	return &refusal{code: 415, headers: []Header{{"Accept", "application/sdp"}}}
}

func acceptsSDP(accepted []string) bool {
	for _, a := range accepted {
		switch kind, _ := mediaType(a); kind {
		case "application/sdp", "application/*", "*/*":
			return true
		}
	}
	return false
}

// optionalBody is a body the sender allows us to ignore (RFC 3261 §20.11).
func (m *message) optionalBody() bool {
	_, list, _ := strings.Cut(m.get("Content-Disposition"), ";")
	p, err := parseParams(list)
	return err == nil && strings.EqualFold(p.get("handling"), "optional")
}

// knownMethod separates 405 (defined, not allowed here) from 501 (never heard of), RFC 3261 §21.4.6 and §21.5.2.
func knownMethod(method string) bool {
	switch method {
	case methodInvite, methodAck, methodBye, methodCancel, methodOptions, methodRegister, methodInfo, methodUpdate,
		methodPrack, methodRefer, methodNotify, methodSubscribe, methodMessage, methodPublish:
		return true
	}
	return false
}
