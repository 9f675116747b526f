package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/controlplane/audit"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/deploy/config"
)

// auditSettings say where the audit is.
type auditSettings struct {
	common
	Database string `flag:"database" help:"of the control plane; SQLite under --data by default" secret:"true"`
	Blobs    string `flag:"blobs" help:"of the control plane; files under --data by default" secret:"true"`
	Account  string `flag:"account" help:"the id of the account to verify; all that the database knows by default"`
}

// runAudit compares the audit with its signed batches, and prints every difference. The control plane may be running.
func runAudit(ctx context.Context, c cli) error {
	var s auditSettings
	rest, err := config.Load(&s, c.args, c.environ, c.out)
	if err != nil {
		return err
	}
	if len(rest) != 1 || rest[0] != "verify" {
		return errors.New("say what to do: hookswitch audit verify")
	}
	database, blobs, err := stores(s.common, s.Database, s.Blobs)
	if err != nil {
		return err
	}
	report, err := verifyAudit(ctx, database, blobs, s.Account)
	for _, f := range report.Findings {
		fmt.Fprintln(c.out, f)
	}
	if err != nil {
		return err
	}
	if report.Accounts == 0 || (s.Account != "" && report.Batches+report.Unsealed == 0) {
		return errors.New("there is no audit here: give the --data, or the --database and --blobs, of the control plane")
	}
	fmt.Fprintf(c.out, "%d accounts, %d batches: %d entries are as they were sealed, %d are not sealed yet\n",
		report.Accounts, report.Batches, report.Entries, report.Unsealed)
	if n := len(report.Findings); n > 0 {
		return fmt.Errorf("the audit was changed in %d places", n)
	}
	return nil
}

func verifyAudit(ctx context.Context, database, blobs, account string) (report audit.Report, err error) {
	d, err := db.Open(ctx, database)
	if err != nil {
		return audit.Report{}, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	// No URL is signed here; a folder wants to know how, all the same.
	store, err := blob.Open(ctx, blobs, blob.Options{BaseURL: "http://127.0.0.1", Secret: []byte(rand.Text() + rand.Text())})
	if err != nil {
		return audit.Report{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return audit.Verify(ctx, d, store, account)
}
