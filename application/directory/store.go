package directory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite" // the driver's name is "sqlite"

	"bothy/lib/ballast"
	"bothy/lib/file"
	"bothy/lib/wal"
)

// Directory is the SQLite file of accounts, domains, aliases and ODMR customers. Changes count at once, also those another
// process (the command line) makes: after a tenth of a second at most. Safe for concurrent use.
type Directory struct {
	file       string
	log        *slog.Logger
	domains    func(changed []string) // Options.Domains
	host       string                 // Options.Hostname, canonical
	iterations int                    // Options.Iterations
	secret     []byte
	state      atomic.Pointer[snapshot]
	edited     atomic.Bool

	contacts contacts
	key      sealer
	ballast  ballast.Ballast

	mu      sync.Mutex // guards conn and what follows
	db      *sql.DB
	conn    *sql.Conn
	version int64 // PRAGMA data_version when state was read
	closed  bool

	stop context.CancelFunc
	done chan struct{} // closed when watch has ended
}

// Options are what opening a Directory may be told beside its file. The zero Options are what Open uses.
type Options struct {
	Log *slog.Logger // what goes wrong behind the scenes; nil: nowhere

	// Domains is told which domains are local or held now and were not before, or no longer, whoever changed it: their mail that waits may have to
	// take another way. It must not change the Directory. Nil: nobody is told.
	Domains func(changed []string)

	// Hostname is this server's own name. It is local as a domain is, but has no names of its own: see Resolve. Empty: it has none.
	Hostname string

	// Iterations is the count of PBKDF2 for new passwords (RFC 7677 §4: at least 4096); 0: sasl.DefaultIterations.
	Iterations int
}

const (
	busyTimeout  = 5 * time.Second        // another process's change is waited for so long
	busyPause    = 20 * time.Millisecond  // between tries of a start that was refused
	pollInterval = 100 * time.Millisecond // between looks for changes by others
	contactDelay = time.Second            // between writings of contacts: each costs a sync of the disk
	ballastSize  = 1 << 20                // octets: a start and some changes
)

// pragmas must be in force on the connection; the values are those that SQLite answers with.
var pragmas = []struct{ name, set, want string }{
	{"busy_timeout", fmt.Sprint(busyTimeout.Milliseconds()), fmt.Sprint(busyTimeout.Milliseconds())},
	{"journal_mode", "WAL", "wal"},
	{"synchronous", "FULL", "2"}, // a commit is on disk before it is reported, also in WAL mode
	{"foreign_keys", "ON", "1"},
}

// Open opens or creates the file, in a folder that exists. Close it.
func Open(ctx context.Context, file string) (*Directory, error) { return Options{}.Open(ctx, file) }

// Open is the function Open with options.
func (o Options) Open(ctx context.Context, file string) (*Directory, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	if err := create(file); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	d := &Directory{
		file: file, log: o.Log, domains: o.Domains, host: canonicalDomain(o.Hostname), iterations: o.Iterations, key: sealer{file: file + ".key"},
		ballast: ballast.Ballast{FS: wal.OS(), File: file + ".ballast", Size: ballastSize}, done: make(chan struct{}),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	err = d.connect(ctx)
	for isFull(err) && d.ballast.Drop() {
		err = d.connect(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("directory: %s: %w", file, err)
	}
	d.ballast.Hold()
	watching, stop := context.WithCancel(context.Background())
	d.stop = stop
	go d.watch(watching)
	return d, nil
}

// connect opens the database. Where two make a file at once, SQLite refuses one of them without a wait (it could be a deadlock), whatever
// busy_timeout says: that one comes again, for as long.
func (d *Directory) connect(ctx context.Context) error {
	for until := time.Now().Add(busyTimeout); ; {
		err := d.connectOnce(ctx)
		if !isBusy(err) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(busyPause):
		}
	}
}

func (d *Directory) connectOnce(ctx context.Context) (err error) {
	if d.db, err = sql.Open("sqlite", source(d.file)); err != nil {
		return err
	}
	d.db.SetMaxOpenConns(1)
	if err = d.start(ctx); err != nil {
		if d.conn != nil { // which the database does not close
			d.conn.Close()
		}
		d.db.Close()
	}
	return err
}

// Result codes of SQLite (sqlite.org/rescode.html).
const (
	sqliteBusy    = 5
	sqliteFull    = 13
	sqliteShmSize = 10 | 19<<8 // no room: the index of its journal does not grow
)

// isBusy reports whether err is that another connection has the database.
func isBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqliteBusy
}

// isFull reports whether err is for want of room on the disk.
func isFull(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == sqliteFull || e.Code() == sqliteShmSize
	}
	return wal.IsFull(err)
}

// create makes an empty file that only its owner reads; SQLite gives its other files the same mode.
func create(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), file.SyncDir(filepath.Dir(name)))
}

func source(file string) string {
	query := url.Values{}
	for _, p := range pragmas {
		query.Add("_pragma", p.name+"("+p.set+")")
	}
	return "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + query.Encode()
}

func (d *Directory) start(ctx context.Context) error {
	var err error
	if d.conn, err = d.db.Conn(ctx); err != nil {
		return err
	}
	for _, p := range pragmas {
		var got string
		if err := d.conn.QueryRowContext(ctx, "PRAGMA "+p.name).Scan(&got); err != nil {
			return err
		}
		if got != p.want {
			return refuse(ErrDurable, "%s is %s and cannot be %s: put the file on a local disk", p.name, got, p.want)
		}
	}
	current, err := isCurrent(ctx, d.conn)
	if err != nil {
		return err
	}
	if !current {
		err := d.transact(ctx, "BEGIN IMMEDIATE", func(ctx context.Context) error {
			if err := migrate(ctx, d.conn, migrations); err != nil {
				return err
			}
			return makeSecret(ctx, d.conn)
		})
		if err != nil {
			return err
		}
	}
	return d.transact(ctx, "BEGIN", func(ctx context.Context) error { // nothing is written: the disk may be full
		if d.secret, err = loadSecret(ctx, d.conn); err != nil {
			return err
		}
		return d.reload(ctx)
	})
}

// Close writes what is not written yet and closes the file.
func (d *Directory) Close() error {
	d.stop()
	<-d.done
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return errors.Join(d.writeContacts(), d.conn.Close(), d.db.Close())
}

// Secret keys the made-up salts of sasl.Authenticator: the same for all of them over this directory, and from year to year.
func (d *Directory) Secret() []byte { return d.secret }

// transact runs f between begin and COMMIT, or ROLLBACK when f fails. The caller holds mu. Once begun, ctx does not interrupt it.
func (d *Directory) transact(ctx context.Context, begin string, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := d.conn.ExecContext(ctx, begin); err != nil {
		return err
	}
	err := f(ctx)
	if err == nil {
		_, err = d.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		d.conn.ExecContext(ctx, "ROLLBACK") // it fails where SQLite has rolled back by itself
	}
	return err
}

// change runs one change: edit judges it against the state that holds under SQLite's write lock, and writes. The new state can be seen
// when change returns nil. On a full disk it takes the room of the ballast: who has no room must be able to say so to his users.
func (d *Directory) change(ctx context.Context, edit func(s *snapshot, exec execer) error) error {
	err := d.changeOnce(ctx, edit)
	for isFull(err) && d.ballast.Drop() {
		err = d.changeOnce(ctx, edit)
	}
	return err
}

func (d *Directory) changeOnce(ctx context.Context, edit func(s *snapshot, exec execer) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	var after *snapshot
	err := d.transact(ctx, "BEGIN IMMEDIATE", func(ctx context.Context) error {
		if err := d.refresh(ctx); err != nil {
			return err
		}
		err := edit(d.state.Load(), func(query string, args ...any) error {
			_, err := d.conn.ExecContext(ctx, query, args...)
			return err
		})
		if err != nil {
			return err
		}
		if err := trimChanged(ctx, d.conn); err != nil {
			return err
		}
		after, err = follow(ctx, d.conn, d.state.Load())
		return err
	})
	if err == nil {
		d.edited.Store(true)
		d.publish(after)
	}
	return err
}

// Edited reports whether anything was changed by way of d.
func (d *Directory) Edited() bool { return d.edited.Load() }

// Refresh takes in at once what others have changed.
func (d *Directory) Refresh(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	return d.transact(ctx, "BEGIN", d.refresh)
}

// publish makes s the state that holds.
func (d *Directory) publish(s *snapshot) {
	s.host = d.host
	old := d.state.Swap(s)
	if d.domains == nil || old == nil {
		return
	}
	if changed := slices.Concat(apart(old.local, s.local), apart(old.held, s.held)); len(changed) > 0 {
		d.domains(changed)
	}
}

// apart returns the keys that one of two maps has and the other does not.
func apart[V any](a, b map[string]V) (keys []string) {
	for k := range a {
		if _, ok := b[k]; !ok {
			keys = append(keys, k)
		}
	}
	if len(keys) == len(a)-len(b) { // then b has no more
		return keys
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// execer runs one statement of a change.
type execer func(query string, args ...any) error

// refresh reads everything anew if another connection has changed something. The caller holds mu and is in a transaction.
func (d *Directory) refresh(ctx context.Context) error {
	changed, err := d.changed(ctx)
	if err != nil || !changed {
		return err
	}
	return d.reload(ctx)
}

// changed reports whether another connection has committed since state was read. Commits of our own do not count for SQLite.
func (d *Directory) changed(ctx context.Context) (bool, error) {
	var version int64
	err := d.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version != d.version, err
}

func (d *Directory) reload(ctx context.Context) error {
	var version int64
	if err := d.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
		return err
	}
	read := load
	if before := d.state.Load(); before != nil {
		read = func(ctx context.Context, conn *sql.Conn) (*snapshot, error) { return follow(ctx, conn, before) }
	}
	s, err := read(ctx, d.conn)
	if err != nil {
		return err
	}
	d.version = version
	d.publish(s)
	return nil
}

// watch looks for changes by others, and writes contacts, until ctx ends.
func (d *Directory) watch(ctx context.Context) {
	defer close(d.done)
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	written := time.Now()
	var troubled bool
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		d.mu.Lock()
		changed, err := d.changed(ctx)
		if err == nil && changed {
			err = d.transact(ctx, "BEGIN", d.reload)
		}
		if now := time.Now(); err == nil && now.Sub(written) >= contactDelay {
			written = now
			err = d.writeContacts()
			d.ballast.Hold()
		}
		d.mu.Unlock()
		if err != nil && !troubled && ctx.Err() == nil { // once, not ten times a second
			d.log.Error("directory cannot be read or written", "file", d.file, "error", err)
		}
		troubled = err != nil
	}
}
