package directory

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"time"

	"bothy/application/message"
)

// migrations are the schema's history: the statements at index n lead from version n to n+1. A version that was released is not changed
// any more; testdata/vN.sql is a database of each, which must open for ever. Times and intervals are milliseconds.
var migrations = []string{
	`
CREATE TABLE setting (
	name  TEXT PRIMARY KEY,
	value BLOB NOT NULL
);
CREATE TABLE account (
	id         INTEGER PRIMARY KEY,
	name       TEXT NOT NULL UNIQUE,
	disabled   INTEGER NOT NULL,
	created    INTEGER NOT NULL,
	salt       BLOB NOT NULL,
	iterations INTEGER NOT NULL,
	stored_key BLOB NOT NULL,
	server_key BLOB NOT NULL,
	cram       BLOB
);
CREATE TABLE address (
	id      INTEGER PRIMARY KEY,
	local   TEXT NOT NULL,
	domain  TEXT NOT NULL,
	account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
	UNIQUE (local, domain)
);
CREATE INDEX address_account ON address (account);
CREATE TABLE alias (
	local         TEXT NOT NULL,
	domain        TEXT NOT NULL,
	target_local  TEXT NOT NULL,
	target_domain TEXT NOT NULL,
	PRIMARY KEY (local, domain, target_local, target_domain)
);
CREATE TABLE domain (
	id   INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE
);
CREATE TABLE certificate (
	fingerprint TEXT PRIMARY KEY,
	account     TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE
);
CREATE INDEX certificate_account ON certificate (account);
CREATE TABLE customer (
	account      TEXT PRIMARY KEY REFERENCES account (name),
	min_interval INTEGER NOT NULL,
	empty_turns  INTEGER NOT NULL,
	last_contact INTEGER NOT NULL
);
CREATE TABLE customer_domain (
	id      INTEGER PRIMARY KEY,
	name    TEXT NOT NULL UNIQUE,
	account TEXT NOT NULL REFERENCES customer (account) ON DELETE CASCADE
);
CREATE INDEX customer_domain_account ON customer_domain (account);
`,
	`
CREATE TABLE permission (
	account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
	kind    TEXT NOT NULL,
	pattern TEXT NOT NULL,
	PRIMARY KEY (account, kind, pattern)
);
CREATE TABLE allowance (
	account    TEXT PRIMARY KEY REFERENCES account (name) ON DELETE CASCADE,
	messages   INTEGER NOT NULL,
	recipients INTEGER NOT NULL,
	size       INTEGER NOT NULL
);
`,
	`
ALTER TABLE customer ADD COLUMN linger INTEGER NOT NULL DEFAULT 0;
ALTER TABLE customer ADD COLUMN long_poll INTEGER NOT NULL DEFAULT 0;
ALTER TABLE customer ADD COLUMN keep_large INTEGER NOT NULL DEFAULT 0;
`,
	`
ALTER TABLE customer ADD COLUMN host TEXT NOT NULL DEFAULT '';
ALTER TABLE customer ADD COLUMN budget INTEGER NOT NULL DEFAULT 0;
ALTER TABLE customer ADD COLUMN largest INTEGER NOT NULL DEFAULT 0;
`,
	`
CREATE TABLE app_password (
	account    TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
	name       TEXT NOT NULL,
	created    INTEGER NOT NULL,
	stored_key BLOB NOT NULL,
	server_key BLOB NOT NULL,
	PRIMARY KEY (account, name)
);
`,
	`
CREATE TABLE invitation (
	id         TEXT PRIMARY KEY,
	account    TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
	salt       BLOB NOT NULL,
	iterations INTEGER NOT NULL,
	stored_key BLOB NOT NULL,
	server_key BLOB NOT NULL,
	created    INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	used       INTEGER NOT NULL DEFAULT 0,
	used_by    TEXT NOT NULL DEFAULT '',
	used_key   BLOB,
	revoked    INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX invitation_account ON invitation (account);
`,
	`
CREATE TABLE customer_quota (
	account  TEXT PRIMARY KEY REFERENCES customer (account) ON DELETE CASCADE,
	octets   INTEGER NOT NULL,
	messages INTEGER NOT NULL,
	warn     TEXT NOT NULL,
	warned   INTEGER NOT NULL
);
`,
	`
ALTER TABLE customer_quota ADD COLUMN lifetime INTEGER NOT NULL DEFAULT 0;
`,
}

// migrate brings the schema up to the last of steps. It runs in a transaction, so it happens wholly or not at all.
func migrate(ctx context.Context, conn *sql.Conn, steps []string) error {
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(steps) {
		return refuse(ErrNewer, "the directory has schema %d, and this program knows %d: it was used with a newer Bothy; use that", version, len(steps))
	}
	for ; version < len(steps); version++ {
		if _, err := conn.ExecContext(ctx, steps[version]); err != nil {
			return fmt.Errorf("directory: schema %d to %d: %w", version, version+1, err)
		}
	}
	_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(steps)))
	return err
}

// isCurrent reports whether the schema is the newest, which is there with its secret.
func isCurrent(ctx context.Context, conn *sql.Conn) (bool, error) {
	var version int
	err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version == len(migrations), err
}

// secretLength is that of the key for made-up salts, in octets.
const secretLength = 32

// makeSecret makes sasl.Authenticator's Secret with the database.
func makeSecret(ctx context.Context, conn *sql.Conn) error {
	secret := make([]byte, secretLength)
	rand.Read(secret)
	_, err := conn.ExecContext(ctx, "INSERT INTO setting (name, value) VALUES ('secret', ?) ON CONFLICT DO NOTHING", secret)
	return err
}

func loadSecret(ctx context.Context, conn *sql.Conn) (secret []byte, err error) {
	err = conn.QueryRowContext(ctx, "SELECT value FROM setting WHERE name = 'secret'").Scan(&secret)
	return secret, err
}

// load reads everything, inside a transaction.
func load(ctx context.Context, conn *sql.Conn) (*snapshot, error) {
	s := newSnapshot()
	tables := []struct {
		query string
		row   func(scan func(...any) error) error
	}{
		{"SELECT name, disabled, created, salt, iterations, stored_key, server_key, cram FROM account ORDER BY id", s.loadAccount},
		{"SELECT local, domain, account FROM address ORDER BY id", s.loadAddress},
		{"SELECT local, domain, target_local, target_domain FROM alias ORDER BY 1, 2, 3, 4", s.loadAlias},
		{"SELECT name FROM domain ORDER BY id", s.loadDomain},
		{"SELECT fingerprint, account FROM certificate", s.loadCertificate},
		{"SELECT account, min_interval, empty_turns, linger, long_poll, keep_large, host, budget, largest, last_contact FROM customer", s.loadCustomer},
		{"SELECT account, octets, messages, lifetime, warn, warned FROM customer_quota", s.loadQuota},
		{"SELECT name, account FROM customer_domain ORDER BY id", s.loadCustomerDomain},
		{"SELECT account, kind, pattern FROM permission ORDER BY 1, 2, 3", s.loadPermission},
		{"SELECT account, messages, recipients, size FROM allowance", s.loadAllowance},
		{"SELECT account, name, created, stored_key, server_key FROM app_password ORDER BY 1, 2", s.loadAppPassword},
		{"SELECT id, account, salt, iterations, stored_key, server_key, created, expires, used, used_by, used_key, revoked FROM invitation", s.loadInvitation},
	}
	for _, table := range tables {
		if err := each(ctx, conn, table.query, table.row); err != nil {
			return nil, fmt.Errorf("directory: read: %w", err)
		}
	}
	s.finish()
	return s, nil
}

func each(ctx context.Context, conn *sql.Conn, query string, row func(scan func(...any) error) error) error {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *snapshot) loadAccount(scan func(...any) error) error {
	var a account
	var created int64
	v := &a.verifier
	if err := scan(&a.Name, &a.Disabled, &created, &v.Salt, &v.Iterations, &v.StoredKey, &v.ServerKey, &a.sealed); err != nil {
		return err
	}
	v.Account = a.Name
	a.Created = time.UnixMilli(created).UTC()
	a.CRAM = a.sealed != nil
	s.addAccount(&a)
	return nil
}

func (s *snapshot) loadAddress(scan func(...any) error) error {
	var a message.Address
	var name string
	if err := scan(&a.Local, &a.Domain, &name); err != nil {
		return err
	}
	s.addAddress(a, name)
	return nil
}

func (s *snapshot) loadAlias(scan func(...any) error) error {
	var a Alias
	if err := scan(&a.Alias.Local, &a.Alias.Domain, &a.Target.Local, &a.Target.Domain); err != nil {
		return err
	}
	s.addAlias(a)
	return nil
}

func (s *snapshot) loadDomain(scan func(...any) error) error {
	var name string
	if err := scan(&name); err != nil {
		return err
	}
	s.addDomain(name)
	return nil
}

func (s *snapshot) loadCertificate(scan func(...any) error) error {
	var c Certificate
	if err := scan(&c.Fingerprint, &c.Account); err != nil {
		return err
	}
	s.certificates[c.Fingerprint] = c.Account
	return nil
}

func (s *snapshot) loadCustomer(scan func(...any) error) error {
	var c Customer
	var interval, linger, poll, contact int64
	if err := scan(&c.Account, &interval, &c.EmptyTurns, &linger, &poll, &c.KeepLarge, &c.Host, &c.Budget, &c.Largest, &contact); err != nil {
		return err
	}
	c.MinInterval, c.Linger = time.Duration(interval)*time.Millisecond, time.Duration(linger)*time.Millisecond
	c.LongPoll = time.Duration(poll) * time.Millisecond
	if contact != 0 {
		c.LastContact = time.UnixMilli(contact).UTC()
	}
	s.customers[c.Account] = c
	return nil
}

func (s *snapshot) loadCustomerDomain(scan func(...any) error) error {
	var domain, name string
	if err := scan(&domain, &name); err != nil {
		return err
	}
	s.addHeld(domain, name)
	return nil
}
