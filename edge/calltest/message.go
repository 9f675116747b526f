package calltest

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// message is a SIP message as a phone reads it: enough of it to follow a story, and none of the edge's own code.
type message struct {
	start   string
	code    int // of a response
	headers map[string][]string
	body    string
}

func parseMessage(raw []byte) (*message, error) {
	head, body, ok := strings.Cut(string(raw), "\r\n\r\n")
	if !ok {
		return nil, fmt.Errorf("no empty line in %q", raw)
	}
	lines := strings.Split(head, "\r\n")
	m := &message{start: lines[0], headers: map[string][]string{}, body: body}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("no header in %q", line)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		m.headers[name] = append(m.headers[name], strings.TrimSpace(value))
	}
	if after, ok := strings.CutPrefix(m.start, "SIP/2.0 "); ok {
		code, err := strconv.Atoi(after[:min(3, len(after))])
		if err != nil {
			return nil, fmt.Errorf("no status in %q", m.start)
		}
		m.code = code
	}
	if length := m.header("Content-Length"); length != strconv.Itoa(len(body)) {
		return nil, fmt.Errorf("content length %s of a body of %d", length, len(body))
	}
	return m, nil
}

// header is the first line of a header, "" without one.
func (m *message) header(name string) string {
	if lines := m.headers[strings.ToLower(name)]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// method is what the CSeq says, of a request and of a response.
func (m *message) method() string {
	_, method, _ := strings.Cut(m.header("CSeq"), " ")
	return method
}

// tag is the tag of a From or To.
func tag(value string) string {
	_, after, _ := strings.Cut(value, ";tag=")
	after, _, _ = strings.Cut(after, ";")
	return after
}

// uri is the address of a From, To or Contact.
func uri(value string) string {
	_, after, ok := strings.Cut(value, "<")
	if !ok {
		return value
	}
	after, _, _ = strings.Cut(after, ">")
	return after
}

// user is the user part of a SIP URI.
func user(address string) string {
	_, after, _ := strings.Cut(address, ":")
	name, _, _ := strings.Cut(after, "@")
	return name
}

// credentials answers a challenge with MD5 (RFC 2617 §3.2.2, qop=auth).
func credentials(challenge, user, password, method, target string) string {
	realm, nonce := parameter(challenge, "realm"), parameter(challenge, "nonce")
	const count, client = "00000001", "0a4f113b"
	secret := hash(user + ":" + realm + ":" + password)
	response := hash(strings.Join([]string{secret, nonce, count, client, "auth", hash(method + ":" + target)}, ":"))
	return fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=MD5, cnonce="%s", qop=auth, nc=%s`,
		user, realm, nonce, target, response, client, count)
}

func hash(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func parameter(header, name string) string {
	_, after, ok := strings.Cut(header, name+`="`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// challengeMD5 is the challenge with MD5 among those of a 401.
func (m *message) challengeMD5() string {
	for _, challenge := range m.headers["www-authenticate"] {
		if strings.Contains(challenge, "algorithm=MD5") || !strings.Contains(challenge, "algorithm=") {
			return challenge
		}
	}
	return ""
}
