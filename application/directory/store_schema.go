package directory

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"
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
	`
CREATE TABLE changed (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	account TEXT NOT NULL
);
ALTER TABLE customer ADD COLUMN contact INTEGER NOT NULL DEFAULT 0;
CREATE INDEX customer_contact ON customer (contact);
` + triggers("account", "name", "") + triggers("address", "account", "") + triggers("certificate", "account", "") +
		triggers("customer", "account", " WHEN NEW.last_contact = OLD.last_contact") + triggers("customer_domain", "account", "") +
		triggers("customer_quota", "account", "") + triggers("permission", "account", "") + triggers("allowance", "account", "") +
		triggers("app_password", "account", "") + triggers("invitation", "account", "") + triggers("alias", "", "") + triggers("domain", "", ""),
}

// triggers are those of schema 9 that note in the table "changed" whose rows of a table were changed: key is the column with the account's
// name; "": the rows are no account's, and everything is to be read anew. Released with that schema: not to be changed.
func triggers(table, key, whenUpdated string) string {
	var all strings.Builder
	for _, t := range []struct{ event, row, when string }{{"INSERT", "NEW", ""}, {"UPDATE", "NEW", whenUpdated}, {"DELETE", "OLD", ""}} {
		account := "''"
		if key != "" {
			account = t.row + "." + key
		}
		fmt.Fprintf(&all, "CREATE TRIGGER %s_%s AFTER %s ON %s%s BEGIN INSERT INTO changed (account) VALUES (%s); END;\n",
			table, strings.ToLower(t.event), t.event, table, t.when, account)
	}
	return all.String()
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

// tables are what a snapshot is read from, in the order in which it is put together.
var tables = []struct {
	columns, from string
	key           string // the column with the account's name; "": the rows are no account's
	order         string
	row           func(s *snapshot, scan func(...any) error) error
}{
	{"id, name, disabled, created, salt, iterations, stored_key, server_key, cram", "account", "name", "id", (*snapshot).loadAccount},
	{"local, domain, account", "address", "account", "id", (*snapshot).loadAddress},
	{"local, domain, target_local, target_domain", "alias", "", "1, 2, 3, 4", (*snapshot).loadAlias},
	{"name", "domain", "", "id", (*snapshot).loadDomain},
	{"fingerprint, account", "certificate", "account", "1", (*snapshot).loadCertificate},
	{"account, min_interval, empty_turns, linger, long_poll, keep_large, host, budget, largest, last_contact, contact", "customer", "account", "1", (*snapshot).loadCustomer},
	{"account, octets, messages, lifetime, warn, warned", "customer_quota", "account", "1", (*snapshot).loadQuota},
	{"name, account", "customer_domain", "account", "id", (*snapshot).loadCustomerDomain},
	{"account, kind, pattern", "permission", "account", "1, 2, 3", (*snapshot).loadPermission},
	{"account, messages, recipients, size", "allowance", "account", "1", (*snapshot).loadAllowance},
	{"account, name, created, stored_key, server_key", "app_password", "account", "1, 2", (*snapshot).loadAppPassword},
	{"id, account, salt, iterations, stored_key, server_key, created, expires, used, used_by, used_key, revoked", "invitation", "account", "1", (*snapshot).loadInvitation},
}

// load reads everything, inside a transaction.
func load(ctx context.Context, conn *sql.Conn) (*snapshot, error) {
	s := newSnapshot()
	if err := conn.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM changed").Scan(&s.seq); err != nil {
		return nil, fmt.Errorf("directory: read: %w", err)
	}
	for _, table := range tables {
		err := each(ctx, conn, func(scan func(...any) error) error { return table.row(s, scan) }, "SELECT "+table.columns+" FROM "+table.from+" ORDER BY "+table.order)
		if err != nil {
			return nil, fmt.Errorf("directory: read: %w", err)
		}
	}
	s.finish()
	return s, nil
}

// follow is what load would read, made of the state before and the rows of those accounts that have changed since, inside a transaction. Of
// a hundred thousand accounts it takes the time to copy some maps.
func follow(ctx context.Context, conn *sql.Conn, before *snapshot) (*snapshot, error) {
	names, seq, ok, err := changedSince(ctx, conn, before.seq)
	if err != nil {
		return nil, fmt.Errorf("directory: read: %w", err)
	}
	if !ok {
		return load(ctx, conn)
	}
	s := before.clone()
	s.seq = seq
	for _, name := range names { // all of them first: a domain may have gone from one to another
		s.forget(name)
	}
	for _, name := range names {
		for _, table := range tables {
			if table.key == "" {
				continue
			}
			err := each(ctx, conn, func(scan func(...any) error) error { return table.row(s, scan) },
				"SELECT "+table.columns+" FROM "+table.from+" WHERE "+table.key+" = ? ORDER BY "+table.order, name)
			if err != nil {
				return nil, fmt.Errorf("directory: read: %w", err)
			}
		}
	}
	s.refinish(before)
	err = each(ctx, conn, s.loadContact, "SELECT account, last_contact, contact FROM customer WHERE contact > ?", before.contact)
	return s, err
}

// loadContact notes a contact that was written since.
func (s *snapshot) loadContact(scan func(...any) error) error {
	var name string
	var at, seq int64
	if err := scan(&name, &at, &seq); err != nil {
		return err
	}
	s.contact = max(s.contact, seq)
	if known := s.customers[name]; known != nil {
		c := *known // which others may be reading
		c.LastContact = time.UnixMilli(at).UTC()
		s.customers[name] = &c
	}
	return nil
}

const (
	maxChanged  = 1000 // changes that are kept; behind more of them everything is read
	maxFollowed = 100  // accounts that are read by themselves
)

// changedSince returns the accounts that have changed since seq was the last change, and the last change now. It is not ok where that is not known
// any more, or was not a matter of some accounts only.
func changedSince(ctx context.Context, conn *sql.Conn, seq int64) (names []string, last int64, ok bool, err error) {
	var first int64
	if err := conn.QueryRowContext(ctx, "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM changed").Scan(&first, &last); err != nil {
		return nil, 0, false, err
	}
	if last < seq || last > seq && first > seq+1 {
		return nil, last, false, nil
	}
	ok = true
	err = each(ctx, conn, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		ok = ok && name != ""
		return err
	}, "SELECT DISTINCT account FROM changed WHERE seq > ? LIMIT ?", seq, maxFollowed+1)
	return names, last, ok && len(names) <= maxFollowed, err
}

// trimChanged forgets changes that everybody has seen, or will read everything for.
func trimChanged(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "DELETE FROM changed WHERE seq <= (SELECT max(seq) FROM changed) - ?", maxChanged)
	return err
}

func each(ctx context.Context, conn *sql.Conn, row func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := conn.QueryContext(ctx, query, args...)
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
	if err := scan(&a.id, &a.Name, &a.Disabled, &created, &v.Salt, &v.Iterations, &v.StoredKey, &v.ServerKey, &a.sealed); err != nil {
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
	var interval, linger, poll, contact, seq int64
	if err := scan(&c.Account, &interval, &c.EmptyTurns, &linger, &poll, &c.KeepLarge, &c.Host, &c.Budget, &c.Largest, &contact, &seq); err != nil {
		return err
	}
	c.MinInterval, c.Linger = time.Duration(interval)*time.Millisecond, time.Duration(linger)*time.Millisecond
	c.LongPoll = time.Duration(poll) * time.Millisecond
	if contact != 0 {
		c.LastContact = time.UnixMilli(contact).UTC()
	}
	s.customers[c.Account], s.contact = &c, max(s.contact, seq)
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
