package mailbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"

	"bothy/application/message"
	"bothy/lib/wal"
)

// migrations bring an index from one user_version to the next. One that was released is never changed.
var migrations = []string{
	`CREATE TABLE mailbox (
		id          INTEGER PRIMARY KEY,
		name        TEXT    NOT NULL UNIQUE,
		uidvalidity INTEGER NOT NULL,           -- RFC 9051 §2.3.1.1
		uidnext     INTEGER NOT NULL DEFAULT 1,
		modseq      INTEGER NOT NULL DEFAULT 0  -- the highest one given, RFC 7162 §3.1
	);
	CREATE TABLE message (
		mailbox  INTEGER NOT NULL REFERENCES mailbox (id),
		uid      INTEGER NOT NULL,
		modseq   INTEGER NOT NULL,
		id       TEXT    NOT NULL UNIQUE,       -- message.ID: the name of the body
		size     INTEGER NOT NULL,              -- octets of the body
		received INTEGER NOT NULL,              -- internal date, milliseconds since 1970
		flags    TEXT    NOT NULL DEFAULT '',   -- parted by spaces
		lost     INTEGER NOT NULL DEFAULT 0,    -- 1: the body was not there at the last start
		PRIMARY KEY (mailbox, uid)
	);
	CREATE TABLE expunged (
		id      TEXT    PRIMARY KEY,
		mailbox INTEGER NOT NULL,
		uid     INTEGER NOT NULL,
		modseq  INTEGER NOT NULL,
		at      INTEGER NOT NULL                -- milliseconds since 1970
	);
	CREATE INDEX expunged_at ON expunged (at);`,
}

// remember is how long an expunged message is known, so that delivering it again changes nothing: longer than any queue
// keeps one.
const remember = 90 * 24 * time.Hour

const (
	busyTimeout = 10 * time.Second // somebody looks into the index with a tool of his own
	cacheSize   = 512              // KiB of pages an open index keeps in memory
)

var errDamagedIndex = errors.New("mailbox: index damaged")

// Result codes of SQLite (sqlite.org/rescode.html).
const (
	sqliteCorrupt = 11
	sqliteFull    = 13
	sqliteNotADB  = 26
	sqliteShmSize = 10 | 19<<8 // an extended one: the index of its journal does not grow for want of room
)

// resultCode returns SQLite's primary result code, 0 when err is none of its errors.
func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// isFull reports whether err is for want of room on the disk.
func isFull(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code() == sqliteShmSize {
		return true
	}
	return wal.IsFull(err) || resultCode(err) == sqliteFull
}

// isDamage reports whether err says that the index itself is not sound, rather than that the disk is full or away.
func isDamage(err error) bool {
	code := resultCode(err)
	return errors.Is(err, errDamagedIndex) || code == sqliteCorrupt || code == sqliteNotADB
}

func (b *inbox) index() string             { return filepath.Join(b.dir, "index.sqlite") }
func (b *inbox) mail() string              { return filepath.Join(b.dir, "mail") }
func (b *inbox) body(id message.ID) string { return filepath.Join(b.mail(), id.String()) }

// openIndex opens b.db when it is not open.
func (s *Store) openIndex(b *inbox) error {
	b.mu.Lock()
	if b.db != nil {
		b.mu.Unlock()
		return nil
	}
	err := s.prepareIndex(b)
	b.mu.Unlock()
	s.evict()
	return err
}

// prepareIndex opens b.db, sound and swept. b.mu is held.
func (s *Store) prepareIndex(b *inbox) error {
	db, err := (*sql.DB)(nil), b.broken
	if err == nil {
		db, err = s.loadIndex(b)
	}
	if isDamage(err) {
		s.log.Error("mailbox index damaged: set aside and made anew", "account", b.name, "err", err)
		if err := s.setAside(b); err != nil {
			return err
		}
		db, err = s.loadIndex(b)
	}
	if err != nil {
		return fmt.Errorf("mailbox: index of %s: %w", b.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.Join(errClosed, db.Close())
	}
	b.db = db
	s.open++
	return nil
}

// loadIndex opens the index file and, the first time since Open, checks it and compares it with the bodies.
func (s *Store) loadIndex(b *inbox) (*sql.DB, error) {
	if !b.swept {
		if err := s.disk.makeDir(filepath.Dir(b.dir), filepath.Base(b.dir)); err != nil {
			return nil, err
		}
		if err := s.disk.makeDir(b.dir, "mail"); err != nil {
			return nil, err
		}
	}
	file, err := filepath.Abs(b.index())
	if err != nil {
		return nil, err
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(WAL)", "synchronous(FULL)",
		fmt.Sprintf("cache_size(-%d)", cacheSize), "foreign_keys(1)",
	}}
	connector, err := sqlite.NewConnector((&url.URL{Scheme: "file", OmitHost: true, Path: file, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1) // an account has few users, and one writer
	if err := s.readyIndex(context.Background(), b, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// readyIndex brings an index that was just opened up to date.
func (s *Store) readyIndex(ctx context.Context, b *inbox, db *sql.DB) error {
	if err := s.migrate(ctx, db); err != nil {
		return err
	}
	if !b.swept {
		if err := check(ctx, db); err != nil {
			return err
		}
		if err := s.sweep(ctx, b, db); err != nil {
			return err
		}
		if err := s.disk.syncDir(b.dir); err != nil { // the index file's name
			return err
		}
		b.swept = true
	}
	return db.QueryRowContext(ctx, `SELECT coalesce(sum(size), 0) FROM message WHERE lost = 0`).Scan(&b.octets)
}

// migrate brings the index to the newest version.
func (s *Store) migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	if version == len(migrations) {
		return nil
	}
	if version > len(migrations) {
		return fmt.Errorf("version %d is newer than this program, which knows %d", version, len(migrations))
	}
	for _, m := range migrations[version:] {
		if _, err := tx.ExecContext(ctx, m); err != nil {
			return err
		}
	}
	if version == 0 {
		if _, err := tx.ExecContext(ctx, `INSERT INTO mailbox (name, uidvalidity) VALUES ('INBOX', ?)`, s.now().Unix()); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, len(migrations))); err != nil {
		return err
	}
	return tx.Commit()
}

// check reads all of the index.
func check(ctx context.Context, db *sql.DB) error {
	var found string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("%w: %s", errDamagedIndex, found)
	}
	return nil
}

// condemn has an index replaced at its next opening, if it is still the one that was found damaged.
func (s *Store) condemn(b *inbox, db *sql.DB, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if db == nil || b.db != db {
		return
	}
	b.broken = why
	if err := s.closeIndex(b); err != nil {
		s.log.Warn("mailbox index did not close", "account", b.name, "err", err)
	}
}

// setAside moves a damaged index out of the way, over the one before it. b.mu is held.
func (s *Store) setAside(b *inbox) error {
	for _, part := range []string{"", "-wal", "-shm"} {
		err := s.disk.rename(b.index()+part, filepath.Join(b.dir, "damaged.sqlite"+part))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	b.broken, b.swept = nil, false
	return s.disk.syncDir(b.dir)
}

// closeIndex closes b.db when it is open. b.mu is held.
func (s *Store) closeIndex(b *inbox) error {
	if b.db == nil {
		return nil
	}
	err := b.db.Close()
	b.db = nil
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	return err
}

// inTx runs f in a transaction, which is on disk when inTx returns nil.
func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// messages lists the INBOX.
func (b *inbox) messages(ctx context.Context) ([]Message, error) {
	rows, err := b.db.QueryContext(ctx, `SELECT id, uid, modseq, size, received, flags FROM message
		WHERE mailbox = (SELECT id FROM mailbox WHERE name = 'INBOX') AND lost = 0 ORDER BY uid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Message
	for rows.Next() {
		var m Message
		var id string
		var received int64
		if err := rows.Scan(&id, &m.UID, &m.ModSeq, &m.Size, &received, &m.Flags); err != nil {
			return nil, err
		}
		if m.ID, err = message.ParseID(id); err != nil {
			return nil, fmt.Errorf("%w: %w", errDamagedIndex, err)
		}
		m.Received = time.UnixMilli(received)
		list = append(list, m)
	}
	return list, rows.Err()
}

// known reports whether a message was delivered here already, be it expunged since. One that was lost may come again.
func (b *inbox) known(ctx context.Context, id message.ID) (yes bool, err error) {
	err = b.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM message WHERE id = ? AND lost = 0)
		OR EXISTS (SELECT 1 FROM expunged WHERE id = ?)`, id.String(), id.String()).Scan(&yes)
	return yes, err
}

// insert adds a message to the INBOX under the next UID. One that was lost is found again.
func insert(ctx context.Context, tx *sql.Tx, id message.ID, size int64, received time.Time) error {
	var mailbox, uid, modseq int64
	if err := tx.QueryRowContext(ctx, `UPDATE mailbox SET uidnext = uidnext + 1, modseq = modseq + 1 WHERE name = 'INBOX'
		RETURNING id, uidnext - 1, modseq`).Scan(&mailbox, &uid, &modseq); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO message (mailbox, uid, modseq, id, size, received) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET uid = excluded.uid, modseq = excluded.modseq, size = excluded.size, lost = 0`,
		mailbox, uid, modseq, id.String(), size, received.UnixMilli())
	return err
}

// expunge moves messages to expunged and forgets those that were expunged long ago. It returns how many octets the INBOX lost.
func (b *inbox) expunge(ctx context.Context, gone []message.ID, now time.Time) (octets int64, err error) {
	err = inTx(ctx, b.db, func(tx *sql.Tx) error {
		octets = 0
		var modseq int64
		if err := tx.QueryRowContext(ctx, `UPDATE mailbox SET modseq = modseq + 1 WHERE name = 'INBOX' RETURNING modseq`).Scan(&modseq); err != nil {
			return err
		}
		for _, id := range gone {
			var mailbox, uid, size int64
			switch err := tx.QueryRowContext(ctx, `DELETE FROM message WHERE id = ? RETURNING mailbox, uid, size * (1 - lost)`, id.String()).
				Scan(&mailbox, &uid, &size); {
			case errors.Is(err, sql.ErrNoRows):
				continue
			case err != nil:
				return err
			}
			octets += size
			if _, err := tx.ExecContext(ctx, `INSERT INTO expunged (id, mailbox, uid, modseq, at) VALUES (?, ?, ?, ?, ?)`,
				id.String(), mailbox, uid, modseq, now.UnixMilli()); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM expunged WHERE at < ?`, now.Add(-remember).UnixMilli())
		return err
	})
	return octets, err
}
