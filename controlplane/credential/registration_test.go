package credential_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
)

func contact(uri string, seconds int) credential.Contact {
	return credential.Contact{URI: uri, Expires: time.Duration(seconds) * time.Second}
}

func request(callID string, cseq uint32, contacts ...credential.Contact) credential.Register {
	return credential.Register{
		EdgeID: "edge_1", SIPCallID: callID, CSeq: cseq, Source: "192.0.2.7:5060", Transport: "udp", UserAgent: "phone", Contacts: contacts,
	}
}

func register(t *testing.T, s *credential.Service, c *credential.Credential, callID string, cseq uint32, contacts ...credential.Contact) []string {
	t.Helper()
	standing, err := s.Register(t.Context(), c, request(callID, cseq, contacts...))
	if err != nil {
		t.Fatal(err)
	}
	return uris(standing)
}

func uris(all []credential.Registration) []string {
	out := []string{}
	for _, r := range all {
		out = append(out, strings.TrimPrefix(r.Contact, "sip:"))
	}
	return out
}

func is(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// phone is an extension of at most two contacts, and a clock.
type phone struct {
	*credential.Service
	credential *credential.Credential
	server     *resttest.Server
	now        time.Time
}

func newPhone(t *testing.T, d *db.DB) *phone {
	t.Helper()
	p := &phone{now: db.Now(), credential: &credential.Credential{Extension: "1001", Draft: credential.Draft{MaxContacts: 2}}}
	p.Service = &credential.Service{Now: func() time.Time { return p.now }}
	p.server = mount(t, d, p.Service)
	if err := p.Insert(t.Context(), auth.Account(resttest.Account), p.credential, "long enough"); err != nil {
		t.Fatal(err)
	}
	return p
}

// later moves the clock.
func (p *phone) later(seconds int) { p.now = p.now.Add(time.Duration(seconds) * time.Second) }

func TestContactsStandUntilTheyExpire(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		p := newPhone(t, d)
		is(t, "first", register(t, p.Service, p.credential, "a", 1, contact("sip:x", 60)), "x")
		p.later(59)
		is(t, "renewed", register(t, p.Service, p.credential, "a", 2, contact("sip:x", 60)), "x")
		p.later(59)
		standing, err := p.Contacts(t.Context(), p.credential)
		if err != nil || len(standing) != 1 {
			t.Fatalf("a second before the end: %+v, %v", standing, err)
		}
		if r := standing[0]; r.CSeq != 2 || r.Source != "192.0.2.7:5060" || r.Q != 1 || r.Extension != "1001" || !r.ExpiresAt.Equal(p.now.Add(time.Second)) {
			t.Errorf("stored %+v", r)
		}
		var page struct{ Data []credential.Registration }
		resttest.Want(t, p.server.Do(t, resttest.Token, http.MethodGet, "/v1/registrations?extension=1001", nil), http.StatusOK, &page)
		is(t, "listed", uris(page.Data), "x")
		p.later(1)
		standing, err = p.Contacts(t.Context(), p.credential)
		is(t, "expired", uris(standing))
		if err != nil {
			t.Error(err)
		}
		resttest.Want(t, p.server.Do(t, resttest.Token, http.MethodGet, "/v1/registrations", nil), http.StatusOK, &page)
		is(t, "listed when expired", uris(page.Data))
		if err := p.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
		n, err := d.Read().NewSelect().Table("registrations").Count(t.Context())
		if err != nil || n != 0 {
			t.Errorf("%d rows are left, %v", n, err)
		}
	})
}

func TestExpiresZeroRemovesAContactAndStarAll(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		p := newPhone(t, d)
		register(t, p.Service, p.credential, "a", 1, contact("sip:x", 60))
		p.later(1)
		is(t, "two", register(t, p.Service, p.credential, "b", 1, contact("sip:y", 60)), "y", "x")
		is(t, "x removed", register(t, p.Service, p.credential, "c", 1, contact("sip:x", 0)), "y")
		is(t, "a stranger removed", register(t, p.Service, p.credential, "c", 2, contact("sip:z", 0)), "y")
		is(t, "asked", register(t, p.Service, p.credential, "c", 3), "y")
		star := request("c", 4)
		star.Star = true
		standing, err := p.Register(t.Context(), p.credential, star)
		is(t, "star", uris(standing))
		if err != nil {
			t.Error(err)
		}
	})
}

// RFC 3261 §10.3, step 7: within a Call-ID the CSeq must rise; another Call-ID is a phone that has restarted.
func TestALateREGISTERChangesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		p := newPhone(t, d)
		register(t, p.Service, p.credential, "a", 5, contact("sip:x", 60))
		star := request("a", 5)
		star.Star = true
		for name, r := range map[string]credential.Register{
			"the same again":     request("a", 5, contact("sip:x", 60)),
			"an earlier removal": request("a", 4, contact("sip:x", 0)),
			"one late of two":    request("a", 5, contact("sip:new", 60), contact("sip:x", 0)),
			"star":               star,
		} {
			if _, err := p.Register(t.Context(), p.credential, r); !errors.Is(err, credential.ErrOutOfOrder) {
				t.Errorf("%s: %v", name, err)
			}
		}
		is(t, "after all that", register(t, p.Service, p.credential, "q", 1), "x")
		is(t, "another Call-ID", register(t, p.Service, p.credential, "b", 1, contact("sip:x", 0)))
	})
}

func TestTheOldestContactGivesWay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		p := newPhone(t, d)
		register(t, p.Service, p.credential, "a", 1, contact("sip:x", 600))
		p.later(1)
		register(t, p.Service, p.credential, "b", 1, contact("sip:y", 600))
		p.later(1)
		register(t, p.Service, p.credential, "a", 2, contact("sip:x", 600)) // renewed, so that y is the oldest
		p.later(1)
		is(t, "a third", register(t, p.Service, p.credential, "c", 1, contact("sip:z", 600)), "z", "x")
		many := []credential.Contact{}
		for _, name := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
			many = append(many, contact("sip:many-"+name, 600))
		}
		if got := register(t, p.Service, p.credential, "d", 1, many...); len(got) != 2 {
			t.Errorf("%d contacts stand", len(got))
		}
	})
}

func TestThePreferredContactComesFirst(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		p := newPhone(t, d)
		low := contact("sip:low", 600)
		low.Q = 0.3
		register(t, p.Service, p.credential, "a", 1, contact("sip:high", 600))
		p.later(1)
		is(t, "order", register(t, p.Service, p.credential, "b", 1, low), "high", "low")
		standing, err := p.Contacts(t.Context(), p.credential)
		is(t, "stored order", uris(standing), "high", "low")
		if err != nil {
			t.Error(err)
		}
	})
}

func TestNoContactOutlivesTheLimit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		p := newPhone(t, d)
		standing, err := p.Register(t.Context(), p.credential, request("a", 1, contact("sip:x", 1_000_000)))
		if err != nil || !standing[0].ExpiresAt.Equal(p.now.Add(credential.MaxExpires)) {
			t.Errorf("%+v, %v", standing, err)
		}
	})
}

func TestTwoPhonesRegisterAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		p := newPhone(t, d)
		var all sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			all.Go(func() {
				if _, err := p.Register(t.Context(), p.credential, request(name, 1, contact("sip:"+name, 600))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		standing, err := p.Contacts(t.Context(), p.credential)
		if err != nil || len(standing) != 2 {
			t.Errorf("%d contacts stand, %v; max_contacts is 2", len(standing), err)
		}
	})
}
