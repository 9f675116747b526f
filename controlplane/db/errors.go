package db

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// SQLSTATE codes, PostgreSQL documentation, appendix A.
const (
	pgForeignKey      = "23503"
	pgUnique          = "23505"
	pgNotAllowed      = "42501"
	pgDuplicateObject = "42710"
	pgCheck           = "23514"
	pgSerialization   = "40001"
	pgDeadlock        = "40P01"
	pgQueryCanceled   = "57014"
	pgShutdownPrefix  = "57P"
	pgConnectionPref  = "08"
)

// Check turns what a database says into what a caller can act on: a unique key in the way becomes a Conflict that
// names the field, a row that is referenced or a reference to nothing becomes ErrForeignKey's Conflict, a database
// that is away becomes Unavailable. sql.ErrNoRows and everything else stay as they are, and so does a Problem.
func Check(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*problem.Problem](err); ok {
		return err
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return checkPostgres(e, err)
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return checkSQLite(e, err)
	}
	if lostConnection(err) {
		return fmt.Errorf("%w (%w)", problemUnavailable(), err)
	}
	return err
}

// lostConnection reports whether an error is that of a connection that could not be made, or broke. One that breaks in
// the middle of an answer gives the reader's or writer's own error, which pgconn leaves as it is.
func lostConnection(err error) bool {
	_, noConnect := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[*net.OpError](err)
	return noConnect || network || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func checkPostgres(e *pgconn.PgError, err error) error {
	switch {
	case e.Code == pgUnique:
		// Detail is `Key (account_id, name)=(…) already exists.` in the server's language.
		_, columns, _ := strings.Cut(e.Detail, "(")
		columns, _, _ = strings.Cut(columns, ")=")
		return duplicate(strings.Split(columns, ", "))
	case e.Code == pgForeignKey:
		return foreignKey()
	case e.Code == pgSerialization, e.Code == pgDeadlock, e.Code == pgQueryCanceled,
		strings.HasPrefix(e.Code, pgShutdownPrefix), strings.HasPrefix(e.Code, pgConnectionPref):
		return fmt.Errorf("%w (%w)", problemUnavailable(), err)
	}
	return err
}

func checkSQLite(e *sqlite.Error, err error) error {
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		// "constraint failed: UNIQUE constraint failed: applications.account_id, applications.name (2067)"
		text := e.Error()
		_, text, _ = strings.Cut(text, "UNIQUE constraint failed: ")
		text, _, _ = strings.Cut(text, " (")
		columns := strings.Split(text, ", ")
		for i, c := range columns {
			if _, column, ok := strings.Cut(c, "."); ok {
				columns[i] = column
			}
		}
		return duplicate(columns)
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return foreignKey()
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w (%w)", problemUnavailable(), err)
	}
	return err
}

// duplicate names the field of a unique key that is not the account.
func duplicate(columns []string) *problem.Problem {
	for _, c := range columns {
		if c != "" && c != "account_id" {
			return problem.Conflict(fmt.Sprintf("another object already has this %s; choose another, or change that object", c),
				problem.Field("/"+c, "duplicate", "is already taken"))
		}
	}
	return problem.Conflict("this already exists")
}

// codeForeignKey marks the problem of a foreign key, so that a write can say more about it.
const codeForeignKey = "reference"

func foreignKey() *problem.Problem {
	return problem.Conflict("this object refers to one that does not exist, or another object still refers to it",
		problem.Field("", codeForeignKey, "a reference is in the way"))
}

func isForeignKey(err error) bool {
	p, ok := errors.AsType[*problem.Problem](err)
	return ok && len(p.Errors) == 1 && p.Errors[0].Code == codeForeignKey
}

// missing turns the absence of a row into NotFound.
func missing(err error, id string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return problem.NoSuch(id)
	}
	return Check(err)
}
