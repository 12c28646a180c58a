package queue

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/wal"
)

// Filter chooses recipients for the operator. Every field that is set must fit; the zero Filter chooses all.
type Filter struct {
	IDs       []message.ID
	Lane      Lane
	Kind      string // of the lane
	State     State
	Sender    string // the reverse-path, or "@domain"; "<>" for the null one
	Recipient string // an address, or "@domain"
}

// State is how it stands with one recipient.
type State string

// The states.
const (
	StateDue      State = "due"      // may be leased
	StateDeferred State = "deferred" // waits for its next try
	StateLeased   State = "leased"   // a holder is at it
	StateHeld     State = "held"     // the operator keeps it back
	StatePaused   State = "paused"   // its lane's clock stands still
	StateDamaged  State = "damaged"  // the message cannot be read any more
)

// Item is one message as the operator sees it.
type Item struct {
	ID         message.ID      `json:"id"`
	Sender     message.Address `json:"sender"`
	Account    string          `json:"account,omitempty"`
	Unverified bool            `json:"unverified,omitempty"` // the sender may be forged
	Size       int64           `json:"size"`                 // octets
	Accepted   time.Time       `json:"accepted"`
	Recipients []ItemRecipient `json:"recipients"`
}

// ItemRecipient is one recipient that waits.
type ItemRecipient struct {
	Address   message.Address `json:"address"`
	Lane      Lane            `json:"lane"`
	State     State           `json:"state"`
	Attempts  int             `json:"attempts"`
	NextTry   time.Time       `json:"next_try,omitzero"`
	LastTry   time.Time       `json:"last_try,omitzero"`
	LastReply smtp.Reply      `json:"last_reply,omitzero"`
	Remote    string          `json:"remote,omitempty"`
	Holder    string          `json:"holder,omitempty"`
}

// Bounds of List.
const (
	maxPage       = 1000 // messages
	minPage       = 64
	maxShowHeader = 64 << 10
)

// ErrUnknown says that no such message waits.
var ErrUnknown = errors.New("queue: no such message")

// List returns up to limit messages (at most 1000) that have recipients the filter chooses, with those recipients, in the order of
// their IDs and from the first one after the given; more says that there are further ones.
func (s *Spool) List(f Filter, after message.ID, limit int) (items []Item, more bool, err error) {
	limit = min(cmp.Or(max(limit, 0), maxPage), maxPage)
	for {
		ids := s.page(f, after, limit+1)
		for _, id := range ids {
			item, ok := s.item(f, id)
			if ok && len(items) == limit {
				return items, true, nil
			}
			if ok {
				items = append(items, item)
			}
		}
		if len(ids) <= limit {
			return items, false, nil
		}
		after = ids[len(ids)-1]
	}
}

// page returns, in order, the first n IDs after the given whose rows fit as far as the index can tell.
func (s *Spool) page(f Filter, after message.ID, n int) []message.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []message.ID
	first := func() []message.ID {
		slices.SortFunc(ids, compareIDs)
		return ids[:min(n, len(ids))]
	}
	add := func(e *entry) {
		if e == nil || compareIDs(e.id, after) <= 0 || !f.fits(e) {
			return
		}
		ids = append(ids, e.id)
		if len(ids) >= 2*n+minPage { // never hold them all
			ids = first()
		}
	}
	for _, id := range f.IDs {
		add(s.index.messages[id])
	}
	if len(f.IDs) == 0 {
		for _, e := range s.index.messages {
			add(e)
		}
	}
	return slices.Compact(first())
}

func compareIDs(a, b message.ID) int { return bytes.Compare(a[:], b[:]) }

// fits reports whether any row of a message fits what the index knows.
func (f *Filter) fits(e *entry) bool {
	return e.place != (wal.Position{}) && slices.ContainsFunc(e.rows, func(r row) bool { return f.fitsRow(&r) })
}

func (f *Filter) fitsRow(r *row) bool {
	return !r.gone && (f.Lane == "" || r.lane.name == f.Lane) && (f.Kind == "" || r.lane.name.Kind() == f.Kind) &&
		(f.State == "" || r.state() == f.State)
}

// state says how it stands with a row that is not gone.
func (r *row) state() State {
	switch {
	case r.entry.damaged:
		return StateDamaged
	case r.lease != nil:
		return StateLeased
	case r.hold:
		return StateHeld
	case r.lane.clock.stopped():
		return StatePaused
	case r.when != 0:
		return StateDeferred
	}
	return StateDue
}

// fitsAddress reports whether a pattern, an address or "@domain", fits an address.
func fitsAddress(pattern string, a message.Address) bool {
	if domain, ok := strings.CutPrefix(pattern, "@"); ok {
		return strings.EqualFold(domain, a.Domain)
	}
	return pattern == "" || pattern == "<>" && a.IsNull() || strings.EqualFold(pattern, a.String())
}

// item describes the recipients of a message that the filter chooses; ok is false when there are none.
func (s *Spool) item(f Filter, id message.ID) (item Item, ok bool) {
	e := s.find(id)
	if e == nil {
		return item, false
	}
	r, _, err := s.load(e)
	if err != nil {
		r = &record{} // a damaged message is listed all the same, without its addresses
	}
	if !fitsAddress(f.Sender, r.ReversePath) {
		return item, false
	}
	item = Item{ID: id, Sender: r.ReversePath, Account: r.Account, Unverified: r.Unverified}
	var replies []*row
	var places []wal.Position
	s.mu.Lock()
	item.Size, item.Accepted = e.size, time.UnixMilli(e.accepted)
	for i := range e.rows {
		row := &e.rows[i]
		to, err := r.recipient(row.number)
		if !f.fitsRow(row) || f.Recipient != "" && (err != nil || !fitsAddress(f.Recipient, to.Address)) {
			continue
		}
		v := ItemRecipient{Address: to.Address, Lane: row.lane.name, State: row.state(), Attempts: int(row.attempts)}
		if row.when != 0 {
			v.NextTry = time.UnixMilli(row.when)
		}
		if row.lease != nil {
			v.Holder = row.lease.holder
		}
		item.Recipients = append(item.Recipients, v)
		replies, places = append(replies, row), append(places, row.reply)
	}
	s.mu.Unlock()
	for i, row := range replies {
		l := s.lastTry(e, row.number, places[i])
		item.Recipients[i].LastReply, item.Recipients[i].Remote = l.reply, l.remote
		if l.at != 0 {
			item.Recipients[i].LastTry = time.UnixMilli(l.at)
		}
	}
	return item, len(item.Recipients) > 0
}

// lastTry reads what the last try of a recipient met from the record that tells it; zero when there is none.
func (s *Spool) lastTry(e *entry, number uint32, place wal.Position) last {
	if place == (wal.Position{}) {
		return last{}
	}
	b, err := s.log.Read(place, nil)
	if errors.Is(err, wal.ErrGone) { // moved meanwhile
		s.mu.Lock()
		if r := e.row(number); r != nil {
			place = r.reply
		}
		s.mu.Unlock()
		b, err = s.log.Read(place, nil)
	}
	if err != nil || len(b) == 0 {
		return last{}
	}
	if b[0] == kindUpdate {
		changes, _, _, err := parseUpdate(b)
		for _, c := range changes {
			if err == nil && c.id == e.id && c.outcome == outcomeDeferred && slices.Contains(c.numbers, number) {
				return c.last
			}
		}
		return last{}
	}
	r, _, err := parseMessage(b)
	if err != nil || r.ID != e.id {
		return last{}
	}
	for _, w := range r.states {
		if w.number == number {
			return w.last
		}
	}
	return last{}
}

// Show describes one message and returns its header section, at most 64 KiB of it. It returns ErrUnknown.
func (s *Spool) Show(id message.ID) (item Item, header []byte, err error) {
	item, ok := s.item(Filter{}, id)
	e := s.find(id)
	if !ok || e == nil {
		return item, nil, ErrUnknown
	}
	header, err = s.header(e, maxShowHeader)
	return item, header, err
}

// header reads the header section of a message, or as much of it as limit allows; the empty line is not part of it.
func (s *Spool) header(e *entry, limit int) ([]byte, error) {
	body, err := s.openBody(e)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, int64(limit)))
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return b[:i+2], nil
	}
	return b, err
}

// Retry makes the chosen recipients that are deferred due now, but for those whose senders want it so, and returns how many.
func (s *Spool) Retry(f Filter) (int, error) {
	return s.act(f, 0, func(r *row, now int64) bool {
		if r.when == 0 || r.slot == 0 || r.entry.release > now {
			return false
		}
		s.index.lift(r)
		r.when = 0
		s.index.place(r, now)
		return true
	})
}

// Hold keeps the chosen recipients back until Release, over restarts too; those that are leased when their lease ends. It returns how many.
func (s *Spool) Hold(f Filter) (int, error) {
	return s.act(f, outcomeHeld, func(r *row, now int64) bool {
		changed := !r.hold
		s.index.retain(r, true, now)
		return changed
	})
}

// Release ends Hold.
func (s *Spool) Release(f Filter) (int, error) {
	return s.act(f, outcomeFreed, func(r *row, now int64) bool {
		changed := r.hold
		s.index.retain(r, false, now)
		return changed
	})
}

// Delete forgets the chosen recipients without a notice, even leased ones, and returns how many. It is on disk when it returns.
func (s *Spool) Delete(f Filter) (int, error) {
	return s.act(f, outcomeGone, func(r *row, _ int64) bool { return !r.gone })
}

// act does something to every row the filter chooses, writes it down where it has an outcome, and waits for the disk.
func (s *Spool) act(f Filter, o outcome, do func(r *row, now int64) bool) (count int, err error) {
	var after message.ID
	var p wal.Pending
	for {
		ids := s.page(f, after, maxPage)
		for _, id := range ids {
			numbers, ok := s.chosen(f, id)
			if !ok {
				continue
			}
			n, pending, err := s.actOn(id, numbers, o, do)
			if err != nil {
				return count, err
			}
			if n > 0 && o != 0 {
				p = pending
			}
			count += n
			after = id
		}
		if len(ids) < maxPage {
			break
		}
		after = ids[len(ids)-1]
	}
	if p.Position != (wal.Position{}) {
		err = p.Wait()
	}
	return count, err
}

// chosen returns the numbers of the recipients of a message that the filter chooses.
func (s *Spool) chosen(f Filter, id message.ID) (numbers []uint32, ok bool) {
	e := s.find(id)
	if e == nil {
		return nil, false
	}
	var r *record
	if f.Sender != "" || f.Recipient != "" {
		var err error
		if r, _, err = s.load(e); err != nil || !fitsAddress(f.Sender, r.ReversePath) {
			return nil, false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range e.rows {
		row := &e.rows[i]
		if !f.fitsRow(row) {
			continue
		}
		if f.Recipient != "" {
			if to, err := r.recipient(row.number); err != nil || !fitsAddress(f.Recipient, to.Address) {
				continue
			}
		}
		numbers = append(numbers, row.number)
	}
	return numbers, len(numbers) > 0
}

// actOn does something to some recipients of one message.
func (s *Spool) actOn(id message.ID, numbers []uint32, o outcome, do func(r *row, now int64) bool) (count int, p wal.Pending, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.index.messages[id]
	if e == nil {
		return 0, p, nil
	}
	if o != 0 {
		rec := appendUpdate(nil, []change{{id: id, numbers: numbers, outcome: o}}, nil)
		if err := s.drain(); err != nil {
			return 0, p, fmt.Errorf("queue: %w", err)
		}
		if p, err = s.log.Append(rec); err != nil {
			return 0, p, fmt.Errorf("queue: %w", err)
		}
	}
	now, last := s.now(), false
	for _, n := range numbers {
		r := e.row(n)
		if r == nil || r.gone || !do(r, now) {
			continue
		}
		count++
		if o == outcomeGone {
			last = s.index.settle(r) || last
		}
	}
	if last {
		s.bury(e, p)
	}
	s.remind()
	return count, p, nil
}

// Damaged lists what was set aside of the log: the names of the files, in the spool's log/damaged.
func (s *Spool) Damaged() ([]string, error) {
	dir := path.Join(s.o.Dir, logDir, "damaged")
	names, err := s.o.FS.List(dir)
	if err != nil {
		return nil, nil // nothing was ever set aside
	}
	for i, n := range names {
		names[i] = path.Join(dir, n)
	}
	return names, nil
}
