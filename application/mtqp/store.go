package mtqp

import (
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver's name is "sqlite"

	"bothy/application/message"
	"bothy/application/queue"
)

// maxMessages bounds what is known at once; the oldest that are not in the queue any more make way.
const maxMessages = 100_000

// Status is what became of one recipient.
type Status struct {
	Recipient  string    `json:"recipient"`
	Original   string    `json:"original,omitempty"` // ORCPT as given
	Action     string    `json:"action"`             // RFC 3886 §3.3.3
	Status     string    `json:"status"`             // RFC 3463
	Remote     string    `json:"remote,omitempty"`
	At         time.Time `json:"at,omitzero"`          // of the last attempt
	RetryUntil time.Time `json:"retry_until,omitzero"` // of one that waits
}

// Entry is what is known of a message.
type Entry struct {
	EnvelopeID string    `json:"envid"`
	Arrived    time.Time `json:"arrived"`
	Recipients []Status  `json:"recipients"`
}

// Record keeps what became of tracked messages, in an SQLite file. It is safe for concurrent use.
type Record struct {
	db       *sql.DB
	lifetime time.Duration
	log      *slog.Logger
	mu       sync.Mutex // one change at a time
}

const schema = `CREATE TABLE IF NOT EXISTS message (
	id TEXT PRIMARY KEY, envid TEXT NOT NULL, certifier BLOB NOT NULL, until INTEGER NOT NULL, waiting INTEGER NOT NULL, entry TEXT NOT NULL
) STRICT; CREATE INDEX IF NOT EXISTS by_envid ON message (envid)`

// Open opens or creates the file. lifetime is how long a message is in the queue at most. Close it.
func Open(ctx context.Context, file string, lifetime time.Duration, log *slog.Logger) (*Record, error) {
	query := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: file, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("mtqp: %w", err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("mtqp: %w", err), db.Close())
	}
	return &Record{db: db, lifetime: lifetime, log: log}, nil
}

// Close ends the record.
func (r *Record) Close() error { return r.db.Close() }

// Track notes what became of recipients of a tracked message; with no outcomes, that it was accepted. It is for queue.Options.
func (r *Record) Track(env *message.Envelope, outcomes []queue.Outcome, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.note(context.Background(), env, outcomes, now); err != nil {
		r.log.Error("message not tracked", "id", env.ID, "err", err)
	}
}

func (r *Record) note(ctx context.Context, env *message.Envelope, outcomes []queue.Outcome, now time.Time) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	e := Entry{EnvelopeID: env.EnvelopeID, Arrived: now}
	var text string
	switch err := tx.QueryRowContext(ctx, "SELECT entry FROM message WHERE id = ?", env.ID.String()).Scan(&text); {
	case err == nil:
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return err
		}
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	for i := range outcomes {
		e.set(&outcomes[i], now)
	}
	for i := range env.Recipients {
		e.add(&env.Recipients[i], now.Add(r.lifetime))
	}
	waiting := 0
	for _, s := range e.Recipients {
		if s.Action == queue.Delayed.String() {
			waiting++
		}
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO message VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET waiting = excluded.waiting, entry = excluded.entry`,
		env.ID.String(), env.EnvelopeID, []byte(env.Tracking.Certifier), env.Tracking.Until.Unix(), waiting, string(b))
	if err != nil {
		return err
	}
	return tx.Commit()
}

// find returns the status of a recipient; nil if there is none.
func (e *Entry) find(address string) *Status {
	for i := range e.Recipients {
		if e.Recipients[i].Recipient == address {
			return &e.Recipients[i]
		}
	}
	return nil
}

// add notes a recipient that waits, if nothing is known of it.
func (e *Entry) add(to *message.Recipient, until time.Time) {
	if e.find(to.Address.String()) == nil {
		e.Recipients = append(e.Recipients, Status{
			Recipient: to.Address.String(), Original: to.Original, Action: queue.Delayed.String(), Status: "4.0.0", RetryUntil: until,
		})
	}
}

// set notes an outcome.
func (e *Entry) set(o *queue.Outcome, now time.Time) {
	e.add(&o.Recipient, time.Time{})
	s := e.find(o.Recipient.Address.String())
	s.Action, s.Remote, s.At = o.Action.String(), o.Remote, now
	class := 2
	switch o.Action {
	case queue.GivenUp:
		class = 5
	case queue.Delayed:
		class = 4
	}
	code := o.Reply.Enhanced
	if code[0] != class {
		code = [3]int{class, 0, 0}
	}
	if o.Action == queue.Relayed { // RFC 3886 §3.3.4
		code = [3]int{2, 1, 9}
	}
	if o.Action != queue.Delayed {
		s.RetryUntil = time.Time{}
	}
	s.Status = fmt.Sprintf("%d.%d.%d", code[0], code[1], code[2])
}

// Find returns what is known of the messages with an envelope id whose certifier the secret is for, the oldest first.
func (r *Record) Find(ctx context.Context, envid string, secret []byte, now time.Time) (found []Entry, err error) {
	hash := sha1.Sum(secret) // RFC 3887 §4
	rows, err := r.db.QueryContext(ctx, "SELECT certifier, entry FROM message WHERE envid = ? AND (until > ? OR waiting > 0) ORDER BY id LIMIT 100", envid, now.Unix())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var certifier []byte
		var text string
		if err := rows.Scan(&certifier, &text); err != nil {
			return nil, err
		}
		var e Entry
		if subtle.ConstantTimeCompare(certifier, hash[:]) != 1 {
			continue
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	return found, rows.Err()
}

// Run forgets what was kept long enough, or is too much, until ctx ends.
func (r *Record) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := r.sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			r.log.Error("record of tracked messages not swept", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep forgets. RFC 3885 §3.1: not what is in the queue.
func (r *Record) sweep(ctx context.Context, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.db.ExecContext(ctx, `DELETE FROM message WHERE until <= ? AND (waiting = 0 OR until <= ?)`, now.Unix(), now.Add(-4*r.lifetime).Unix())
	if err != nil {
		return err
	}
	_, err = r.db.ExecContext(ctx, `DELETE FROM message WHERE id IN (SELECT id FROM message WHERE waiting = 0 ORDER BY id DESC LIMIT -1 OFFSET ?)`, maxMessages)
	return err
}

// original is the address of an ORCPT, decoded; the recipient's where there is none.
func (s *Status) original() string {
	kind, address, ok := strings.Cut(s.Original, ";")
	if !ok {
		return "rfc822; " + s.Recipient
	}
	return kind + "; " + decode(address)
}

// escape is an octet of xtext that stands for another (RFC 3461 §4).
var escape = regexp.MustCompile(`\+[0-9A-F]{2}`)

// decode undoes xtext; what is none stays.
func decode(s string) string {
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		n, _ := strconv.ParseUint(e[1:], 16, 8)
		return string(rune(n))
	})
}
