package mailbox

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"bothy/application/message"
	"bothy/lib/ballast"
	"bothy/lib/wal"
)

// Config is what the operator sets.
type Config struct {
	Quota      int64 `doc:"Most octets an account may keep; mail beyond it waits in the queue (452 4.2.2). 0: no limit." unit:"bytes" default:"0" min:"0" reload:"restart"`
	Indexes    int   `doc:"Most account indexes kept open at once." default:"64" min:"1" reload:"restart"`
	Deliveries int   `doc:"Most messages delivered into mailboxes at the same time." default:"8" min:"1" max:"256"`
}

// ballastSize is enough to open and sweep a few indexes and to expunge all that is in them, in octets.
const ballastSize = 4 << 20

// The defaults of Config.
const (
	defaultIndexes    = 64
	defaultDeliveries = 8
)

// Options of a Store.
type Options struct {
	Quota   int64            // octets an account may keep; 0: no limit
	Indexes int              // indexes kept open; 0: 64
	Log     *slog.Logger     // nil: none
	Now     func() time.Time // nil: time.Now
}

// ErrInUse says that another session holds the account's maildrop.
var ErrInUse = errors.New("mailbox: maildrop in use")

// ErrDamaged says that a message's octets are not what was delivered: its file is gone, or has another size.
var ErrDamaged = errors.New("mailbox: message damaged")

var errClosed = errors.New("mailbox: store closed")

// Message is one message of an INBOX, without its octets.
type Message struct {
	ID       message.ID // names the body; never used twice in a mailbox
	UID      uint32     // RFC 9051 §2.3.1.1
	ModSeq   int64      // RFC 7162 §3.1
	Size     int64      // octets, exactly those of Body
	Received time.Time  // the internal date (RFC 9051 §2.3.3), to the millisecond
	Flags    string     // parted by spaces (RFC 9051 §2.3.2)
}

// Store keeps the mail of every account below one folder. It is safe for concurrent use; one process at a time has it.
//
// Locks, in the order they nest: inbox.mu, inbox.commit, Store.mu.
type Store struct {
	dir   string
	quota int64
	limit int // of open indexes
	log   *slog.Logger
	now   func() time.Time
	lock  *os.File
	disk  disk

	ballast ballast.Ballast // its room is for reading and removing; nothing is delivered while it is not whole

	mu      sync.Mutex
	inboxes map[string]*inbox // of the accounts used since Open
	clock   uint64            // rises with every use
	open    int               // indexes open
	closed  bool
}

// inbox is one account's part of the Store.
type inbox struct {
	name string
	dir  string

	mu     sync.RWMutex // held for reading by who uses db, for writing by who opens, closes or replaces it
	db     *sql.DB      // nil: not open
	swept  bool         // bodies and index were compared since Open
	broken error        // what the index was found damaged by; it is replaced at the next opening

	commit  sync.Mutex // one commit at a time
	octets  int64      // kept in the INBOX; guarded by commit while db is open
	waiting struct {
		sync.Mutex
		deliveries []*delivery
	}

	used     uint64                     // guarded by Store.mu, as all below
	held     bool                       // by a POP3 session
	watchers map[chan struct{}]struct{} // told of changes
}

// Open opens or creates the store in dir and removes what a crash left half-written. Close it.
func Open(dir string, o Options) (*Store, error) {
	return open(dir, o, disk{})
}

func open(dir string, o Options, d disk) (*Store, error) {
	s := &Store{
		dir: dir, quota: o.Quota, limit: cmp.Or(o.Indexes, defaultIndexes),
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), now: o.Now,
		disk: d, inboxes: map[string]*inbox{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.ballast = ballast.Ballast{FS: wal.OS(), File: filepath.Join(dir, "ballast"), Size: ballastSize}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("mailbox: %s is in use by another process: %w", dir, err)
	}
	if err := s.makeDirs(); err != nil {
		lock.Close()
		return nil, err
	}
	s.ballast.Hold()
	return s, nil
}

// makeDirs makes the store's own folders and empties tmp/.
func (s *Store) makeDirs() error {
	for _, name := range []string{"accounts", "tmp"} {
		if err := s.disk.makeDir(s.dir, name); err != nil {
			return err
		}
	}
	left, err := os.ReadDir(s.tmp())
	if err != nil {
		return err
	}
	for _, file := range left {
		if err := s.disk.remove(filepath.Join(s.tmp(), file.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) tmp() string { return filepath.Join(s.dir, "tmp") }

// Close waits for calls under way and closes every index. The store is not usable any more.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	inboxes := s.inboxes
	s.inboxes = nil
	s.mu.Unlock()
	var errs []error
	for _, b := range inboxes {
		b.mu.Lock()
		errs = append(errs, s.closeIndex(b))
		b.mu.Unlock()
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// inbox finds that of an account, which need not have any mail yet.
func (s *Store) inbox(name string) (*inbox, error) {
	if name == "" {
		return nil, errors.New("mailbox: an account has a name")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	b := s.inboxes[name]
	if b == nil {
		b = &inbox{name: name, dir: filepath.Join(s.dir, "accounts", dirName(name)), watchers: map[chan struct{}]struct{}{}}
		s.inboxes[name] = b
	}
	s.clock++
	b.used = s.clock
	return b, nil
}

// with runs f on an account whose index is open. An index that turns out to be damaged is set aside and made anew from the
// bodies, and f runs once more.
func (s *Store) with(name string, f func(*inbox) error) error {
	b, err := s.inbox(name)
	if err != nil {
		return err
	}
	db, err := s.try(b, f)
	if !isDamage(err) {
		return err
	}
	s.condemn(b, db, err)
	_, err = s.try(b, f)
	return err
}

// withBallast is with for those who bring no mail: a full disk does not keep them from it.
func (s *Store) withBallast(name string, f func(*inbox) error) error {
	err := s.with(name, f)
	for isFull(err) && s.ballast.Drop() {
		s.log.Warn("disk full: the mailboxes use their ballast, nothing is delivered until there is room", "account", name, "err", err)
		err = s.with(name, f)
	}
	return err
}

// try runs f once. It returns the index that f ran on.
func (s *Store) try(b *inbox, f func(*inbox) error) (*sql.DB, error) {
	for {
		b.mu.RLock()
		if b.db != nil {
			defer b.mu.RUnlock()
			return b.db, f(b)
		}
		b.mu.RUnlock()
		if err := s.openIndex(b); err != nil {
			return nil, err
		}
	}
}

// evict closes indexes that have not been used for longest while more are open than may be. One that is in use stays, so
// the bound is exceeded by no more than the calls under way.
func (s *Store) evict() {
	s.mu.Lock()
	var idle []*inbox
	surplus := s.open - s.limit
	if surplus > 0 {
		for _, b := range s.inboxes {
			idle = append(idle, b)
		}
		slices.SortFunc(idle, func(a, b *inbox) int { return cmp.Compare(a.used, b.used) })
	}
	s.mu.Unlock()
	for _, b := range idle {
		if surplus <= 0 {
			return
		}
		if !b.mu.TryLock() {
			continue
		}
		if b.db != nil {
			surplus--
			if err := s.closeIndex(b); err != nil {
				s.log.Warn("mailbox index did not close", "account", b.name, "err", err)
			}
		}
		b.mu.Unlock()
	}
}

// Messages lists the INBOX of an account in the order of delivery.
func (s *Store) Messages(ctx context.Context, account string) (list []Message, err error) {
	err = s.withBallast(account, func(b *inbox) error {
		list, err = b.messages(ctx)
		return err
	})
	return list, err
}

// Body opens the octets of a message that Messages listed: lines end with CRLF, the last one too. Close it. A message that is
// not what it was is ErrDamaged; one that was removed since is fs.ErrNotExist too.
func (s *Store) Body(_ context.Context, account string, m Message) (io.ReadCloser, error) {
	b, err := s.inbox(account)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(b.body(m.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != m.Size {
		err = fmt.Errorf("%w: %s has %d octets, not %d", ErrDamaged, f.Name(), info.Size(), m.Size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Remove expunges messages: it is on disk when Remove returns nil, for all of them or, on an error, for none. Those that are not there
// any more are passed over.
func (s *Store) Remove(ctx context.Context, account string, gone []message.ID) error {
	if len(gone) == 0 {
		return nil
	}
	err := s.withBallast(account, func(b *inbox) error {
		b.commit.Lock()
		defer b.commit.Unlock()
		err := s.disk.step("expunge", b.index())
		if err != nil {
			return err
		}
		octets, err := b.expunge(context.WithoutCancel(ctx), gone, s.now())
		if err != nil {
			return err
		}
		b.octets -= octets
		for _, id := range gone { // a crash leaves some of them to sweep
			if err := s.disk.remove(b.body(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.log.Warn("expunged message stays on disk until the next start", "account", account, "id", id, "err", err)
			}
		}
		s.notify(b)
		return nil
	})
	s.ballast.Hold()
	return err
}

// Hold gives an account's maildrop to one session at a time (RFC 1939 §4), or returns ErrInUse. Mail is delivered all the same.
func (s *Store) Hold(account string) (release func(), err error) {
	b, err := s.inbox(account)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.held {
		return nil, ErrInUse
	}
	b.held = true
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		b.held = false
	}), nil
}

// Watch returns a channel that gets a value after messages came or went; changes nobody has read yet are one value. Call stop.
func (s *Store) Watch(account string) (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	b, err := s.inbox(account)
	if err != nil {
		return ch, func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.watchers[ch] = struct{}{}
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(b.watchers, ch)
	}
}

func (s *Store) notify(b *inbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range b.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
