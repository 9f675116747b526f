package notice

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTemplatesNameWhatThereIs(t *testing.T) {
	s := scope{rule: "failures", account: "ACME", count: 3, zone: time.FixedZone("", 8*3600), event: &told{
		EventID: "evt_1", Type: "job.failed", ObjectID: "job_1", OccurredAt: time.Date(2026, 1, 31, 16, 0, 0, 0, time.UTC),
		Data: map[string]any{"error": map[string]any{"code": "disk", "left": 0.5}, "tags": []any{"a", "b"}, "none": nil},
	}}
	for text, want := range map[string]string{
		"{{rule}} {{ account }} {{count}}":          "failures ACME 3",
		"{{event.type}} {{event.object_id}}":        "job.failed job_1",
		"{{event.occurred_at}}":                     "2026-02-01 00:00:00 +08:00",
		"{{data.error.code}} {{data.error.left}}":   "disk 0.5",
		"{{data.tags}}|{{data.none}}|{{data.x.y}}|": `["a","b"]|||`,
		"{{data.error.code.deeper}}{{data.tags.0}}": "",
		"no placeholder } }} {":                     "no placeholder } }} {",
		"{{data.error}}":                            `{"code":"disk","left":0.5}`,
	} {
		if err := checkPlaceholders("/line", text); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := s.fill(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"{{x}}", "{{event.secret}}", "{{data}}", "{{data.}}", "{{}}", "{{rule", "{{event}}"} {
		if checkPlaceholders("/line", text) == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func TestADigestIsInItsLanguage(t *testing.T) {
	events := []told{{Type: "job.failed", ObjectID: "job_1"}, {Type: "job.failed", ObjectID: "job_2"}}
	s := scope{rule: "R", count: 5, zone: time.UTC}
	var templates Templates
	templates.Chinese.Subject = "{{count}} 个 {{event.object_id}}"
	for language, want := range map[string][2]string{"zh-CN": {"5 个 job_1", "另有 3 条"}, "en": {"R: 5 notifications", "… and 3 more."}} {
		subject, body := digest(s, templates.in(language), language, events)
		if subject != want[0] || !strings.Contains(body, want[1]) || strings.Count(body, "job.failed") != 2 {
			t.Errorf("%s: %q %q", language, subject, body)
		}
	}
}

func TestAttemptsComeAtGrowingIntervals(t *testing.T) {
	var all time.Duration
	last := time.Duration(0)
	for i := int64(1); i < maxAttempts; i++ {
		wait := pause(i)
		if wait < last || wait > 4*time.Hour {
			t.Errorf("after attempt %d: %s, before it %s", i, wait, last)
		}
		all, last = all+wait, wait
	}
	if all < 6*time.Hour || all > 8*time.Hour {
		t.Errorf("given up after %s", all)
	}
}

func FuzzFill(f *testing.F) {
	for _, seed := range [][2]string{{"{{data.a}}", "x\r\nBcc: y"}, {"{{{{data.a}}", "}}"}, {"{{data.a", "\xff"}, {"{{rule}}", "\u2028"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, template, value string) {
		s := scope{rule: value, account: value, count: 1, zone: time.UTC, event: &told{Type: value, ObjectID: value, Data: map[string]any{"a": value, value: map[string]any{value: value}}}}
		got := s.fill(template)
		if strings.ContainsFunc(got, isControl) || !utf8.ValidString(got) || utf8.RuneCountInString(got) > maxText+1 {
			t.Errorf("%q with %q is %q", template, value, got)
		}
	})
}

func FuzzServer(f *testing.F) {
	for _, seed := range [][3]string{{"smtp.example.com", "a@example.com", "A"}, {"127.0.0.1", "a@b\r\nRCPT TO:<x>", "x\ny"}, {"a b", "<a@b>", ""}, {"[::1]", `"a b"@c`, "\x85"}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, host, address, name string) {
		s := Server{Host: host, Port: 25, Security: Clear, FromAddress: address, FromName: name}
		if s.check() != nil {
			return
		}
		if strings.ContainsAny(address, " \t\r\n<>,\x00") || strings.ContainsFunc(name, isControl) {
			t.Errorf("taken: %q %q", address, name)
		}
		if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, " \r\n:/@") {
			t.Errorf("taken: %q", host)
		}
		if _, err := (letter{id: "ntf_1", to: address, subject: "x", at: time.Now()}).message(Mail{Server: s}); err != nil {
			t.Errorf("%q %q cannot be written: %v", address, name, err)
		}
	})
}
