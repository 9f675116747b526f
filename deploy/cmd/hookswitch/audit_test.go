package main

import (
	"bytes"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/audit"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

func closed(t *testing.T, c io.Closer) {
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestAuditVerifyEndsWithOneWhenAnEntryWasChanged(t *testing.T) {
	data := t.TempDir()
	if code, _, errs := invoke(t, nil, "audit", "verify", "--data", data); code != 1 || !strings.Contains(errs, "there is no audit here") {
		t.Errorf("of nothing: exit %d, %s", code, errs)
	}
	d, err := db.Open(t.Context(), "sqlite:"+filepath.Join(data, "hookswitch.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, d) })
	secret := bytes.Repeat([]byte{1}, 32)
	blobs, err := blob.Open(t.Context(), "file:"+filepath.Join(data, "blobs"), blob.Options{BaseURL: "http://127.0.0.1", Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, blobs) })
	for _, id := range []string{"aud_1", "aud_2"} {
		e := audit.Entry{ID: id, AccountID: "acc_1", CreatedAt: db.Now(), ActorID: "usr_1", Operation: "deleteUser"}
		if _, err := d.Write().NewInsert().Model(&e).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sealer := &audit.Sealer{DB: d, Blobs: blobs, Secret: secret, Within: time.Nanosecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if err := sealer.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--data", data}, {"--database", "sqlite:" + filepath.Join(data, "hookswitch.db"), "--blobs", "file:" + filepath.Join(data, "blobs"), "--account", "acc_1", "--data", t.TempDir()}} {
		code, out, errs := invoke(t, nil, append([]string{"audit", "verify"}, args...)...)
		if code != 0 || !strings.Contains(out, "1 batches: 2 entries are as they were sealed") {
			t.Errorf("of what is whole: exit %d, %s%s", code, out, errs)
		}
	}
	if _, err := d.Write().NewRaw("UPDATE audit_entries SET operation = 'getUser' WHERE id = 'aud_2'").Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, out, errs := invoke(t, nil, "audit", "verify", "--data", data)
	if code != 1 || !strings.Contains(out, "edited: account acc_1, batch 1, position 2, entry aud_2") || !strings.Contains(errs, "changed in 1 places") {
		t.Errorf("of what was changed: exit %d, %s%s", code, out, errs)
	}
	if code, _, errs := invoke(t, nil, "audit", "polish"); code != 1 || !strings.Contains(errs, "hookswitch audit verify") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
