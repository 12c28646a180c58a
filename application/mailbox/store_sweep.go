package mailbox

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"os"
	"slices"

	"bothy/application/message"
)

// sweep compares the index with the bodies, which are the truth: a body without a row gets one, unless it was expunged; a row
// without a body is reported and passed over from then on.
func (s *Store) sweep(ctx context.Context, b *inbox, db *sql.DB) error {
	entries, err := os.ReadDir(b.mail())
	if err != nil {
		return err
	}
	bodies := make(map[string]os.DirEntry, len(entries))
	for _, e := range entries {
		bodies[e.Name()] = e
	}
	return inTx(ctx, db, func(tx *sql.Tx) error {
		if err := s.sweepRows(ctx, b, tx, bodies); err != nil {
			return err
		}
		if err := s.sweepExpunged(ctx, b, tx, bodies); err != nil {
			return err
		}
		return s.adopt(ctx, b, tx, bodies)
	})
}

// sweepRows takes the bodies that have a row out of bodies.
func (s *Store) sweepRows(ctx context.Context, b *inbox, tx *sql.Tx, bodies map[string]os.DirEntry) error {
	rows, err := tx.QueryContext(ctx, `SELECT id, lost FROM message`)
	if err != nil {
		return err
	}
	defer rows.Close()
	changed := map[string]bool{} // to lost or not
	for rows.Next() {
		var id string
		var lost bool
		if err := rows.Scan(&id, &lost); err != nil {
			return err
		}
		if _, ok := bodies[id]; ok == lost {
			changed[id] = !ok
		}
		delete(bodies, id)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for id, lost := range changed {
		if lost {
			s.log.Error("message lost: its file is missing", "account", b.name, "id", id)
		} else {
			s.log.Info("lost message is back", "account", b.name, "id", id)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE message SET lost = ? WHERE id = ?`, lost, id); err != nil {
			return err
		}
	}
	return nil
}

// sweepExpunged removes the bodies that a crash left behind their rows.
func (s *Store) sweepExpunged(ctx context.Context, b *inbox, tx *sql.Tx, bodies map[string]os.DirEntry) error {
	for name, entry := range bodies {
		id, err := message.ParseID(name)
		if err != nil || !entry.Type().IsRegular() {
			s.log.Warn("foreign file among messages", "account", b.name, "file", name)
			delete(bodies, name)
			continue
		}
		switch err := tx.QueryRowContext(ctx, `SELECT id FROM expunged WHERE id = ?`, name).Scan(&name); {
		case errors.Is(err, sql.ErrNoRows):
			continue
		case err != nil:
			return err
		}
		delete(bodies, name)
		if err := s.disk.remove(b.body(id)); err != nil {
			return err
		}
	}
	return nil
}

// adopt makes a row for each body that has none, the oldest first.
func (s *Store) adopt(ctx context.Context, b *inbox, tx *sql.Tx, bodies map[string]os.DirEntry) error {
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		info, err := bodies[name].Info()
		if err != nil {
			return err
		}
		id, err := message.ParseID(name)
		if err != nil {
			return err
		}
		if err := insert(ctx, tx, id, info.Size(), info.ModTime()); err != nil {
			return err
		}
	}
	if len(bodies) > 0 {
		s.log.Warn("messages found without a row in the index", "account", b.name, "count", len(bodies))
	}
	return nil
}
