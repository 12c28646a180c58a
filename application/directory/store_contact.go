package directory

import (
	"context"
	"maps"
	"sync"
	"time"
)

// contacts are the calls of customers since the file was opened: written a little later, together, so that no call waits for a disk.
type contacts struct {
	mu        sync.Mutex
	last      map[string]time.Time // bounded by the customers there are
	unwritten map[string]time.Time
	written   int64 // the number of the last writing: others read what has a higher one than they have seen. Guarded by Directory.mu
}

// Contact notes a call of the customer. It counts at once for this process; on disk it is a second later, and when Close returns.
func (d *Directory) Contact(_ context.Context, account string, now time.Time) error {
	c, err := d.state.Load().customer(canonicalName(account))
	if err != nil {
		return err
	}
	d.contacts.note(c.Account, now)
	return nil
}

func (c *contacts) note(account string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last, c.unwritten = map[string]time.Time{}, map[string]time.Time{}
	}
	c.last[account], c.unwritten[account] = now, now
}

// overlay puts a contact newer than the file's in its place. The last call counts, even where the clock went back.
func (c *contacts) overlay(customer Customer) Customer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.last[customer.Account]; ok {
		customer.LastContact = last
	}
	return customer
}

func (c *contacts) forget(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, account)
	delete(c.unwritten, account)
}

// take returns what is to be written; it comes back with untake if that fails.
func (c *contacts) take() map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := maps.Clone(c.unwritten)
	clear(c.unwritten)
	return taken
}

func (c *contacts) untake(taken map[string]time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for account, at := range taken {
		if _, newer := c.unwritten[account]; !newer {
			c.unwritten[account] = at
		}
	}
}

// writeContacts writes what is to be written. The caller holds Directory.mu.
func (d *Directory) writeContacts() error {
	taken := d.contacts.take()
	if len(taken) == 0 {
		return nil
	}
	err := d.transact(context.Background(), "BEGIN IMMEDIATE", func(ctx context.Context) error {
		var seq int64
		if err := d.conn.QueryRowContext(ctx, "SELECT coalesce(max(contact), 0) FROM customer").Scan(&seq); err != nil {
			return err
		}
		seq = max(seq, d.contacts.written) + 1 // who had the highest may have been removed
		d.contacts.written = seq
		for account, at := range taken {
			_, err := d.conn.ExecContext(ctx, "UPDATE customer SET last_contact = ?, contact = ? WHERE account = ?", at.UnixMilli(), seq, account)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		d.contacts.untake(taken)
	}
	return err
}
