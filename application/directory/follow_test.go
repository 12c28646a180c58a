package directory

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
)

// same reports whether two snapshots tell the same.
func same(a, b *snapshot) bool {
	x, y := *a, *b
	x.callers, y.callers, x.contact, y.contact, x.host, y.host = nil, nil, 0, 0, "", ""
	if len(x.order) == 0 && len(y.order) == 0 { // one may be nil
		x.order, y.order = nil, nil
	}
	return reflect.DeepEqual(&x, &y)
}

// refreshed is the state of a directory with all changes since it was read, and the one that is read whole.
func refreshed(ctx context.Context, d *Directory) (got, whole *snapshot, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.transact(ctx, "BEGIN", func(ctx context.Context) error {
		if got, err = follow(ctx, d.conn, d.state.Load()); err != nil {
			return err
		}
		whole, err = load(ctx, d.conn)
		return err
	})
	return got, whole, err
}

// TestFollow: the state that is made of the one before and the accounts that changed is the state that is read whole, whatever was changed, here or
// by another process.
func TestFollow(t *testing.T) {
	sim.Seeds(t, 4, func(t *testing.T, seed uint64) {
		dice := rand.New(rand.NewPCG(seed, 0))
		file := filepath.Join(t.TempDir(), "directory.db")
		ours, others := open(t, file), open(t, file)
		ctx := t.Context()
		for step := range 120 {
			d := ours
			if dice.IntN(3) == 0 {
				d = others
			}
			name := fmt.Sprintf("n%d", dice.IntN(6))
			local := message.Address{Local: name, Domain: fmt.Sprintf("d%d.example", dice.IntN(3))}
			domain := fmt.Sprintf("h%d.example", dice.IntN(8))
			switch dice.IntN(16) { // what is refused changes nothing
			case 0, 1, 2:
				_ = d.AddAccount(ctx, Account{Name: name}, "x")
			case 3, 4:
				_ = d.AddCustomer(ctx, Customer{Account: name, Domains: []string{domain}})
			case 5:
				_ = d.SetCustomer(ctx, Customer{Account: name, Domains: []string{domain, "x." + domain}, Linger: time.Minute})
			case 6:
				_ = d.RemoveCustomer(ctx, name)
			case 7:
				_ = d.RemoveAccount(ctx, name)
			case 8:
				_ = d.AddAddress(ctx, name, local)
			case 9:
				_ = d.RemoveAddress(ctx, local)
			case 10:
				_ = d.AddCertificate(ctx, name, fmt.Sprintf("%064x", dice.IntN(5)))
			case 11:
				_ = d.SetQuota(ctx, name, Quota{Messages: dice.IntN(100)})
			case 12:
				_ = d.SetRights(ctx, name, Rights{Messages: 1 + dice.IntN(9), SendTo: []string{"local"}})
			case 13:
				_ = d.SetDisabled(ctx, name, dice.IntN(2) == 0)
			case 14:
				_ = d.AddAlias(ctx, message.Address{Local: "info", Domain: local.Domain}, local)
			case 15:
				_ = d.AddDomain(ctx, local.Domain)
			}
			if dice.IntN(10) == 0 {
				_ = d.Contact(ctx, name, time.Now())
			}
			if dice.IntN(2) == 0 { // else several changes are followed at once
				continue
			}
			for _, d := range []*Directory{ours, others} {
				if got, whole, err := refreshed(ctx, d); err != nil || !same(whole, got) {
					t.Fatalf("step %d: %+v, read whole %+v, %v", step, got, whole, err)
				}
			}
		}
	})
}

// TestFollowMovedDomain: a domain goes from one customer to another between two looks.
func TestFollowMovedDomain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "directory.db")
	ours, others := open(t, file), open(t, file)
	for _, name := range []string{"old", "new"} {
		if err := others.AddAccount(t.Context(), Account{Name: name}, "x"); err != nil {
			t.Fatal(err)
		}
	}
	from, to := "old", "new"
	for range 2 { // whichever of them is read first
		if err := others.AddCustomer(t.Context(), Customer{Account: from, Domains: []string{"clinic.example"}}); err != nil {
			t.Fatal(err)
		}
		if err := ours.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := others.SetDisabled(t.Context(), to, false); err != nil { // so that it is read first
			t.Fatal(err)
		}
		if err := others.RemoveCustomer(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		if err := others.AddCustomer(t.Context(), Customer{Account: to, Domains: []string{"clinic.example"}}); err != nil {
			t.Fatal(err)
		}
		if got, whole, err := refreshed(t.Context(), ours); err != nil || !same(whole, got) {
			t.Errorf("%s to %s: held %v, read whole %v, %v", from, to, got.held, whole.held, err)
		}
		if err := others.RemoveCustomer(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		from, to = to, from
	}
}

// TestFarBehind: who has missed more changes than are kept reads everything.
func TestFarBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "directory.db")
	d := open(t, file)
	before := d.state.Load()
	raw(t, file, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
		INSERT INTO account (name, disabled, created, salt, iterations, stored_key, server_key) SELECT 'a' || i, 0, 0, x'00', 4096, x'00', x'00' FROM n`)
	if err := d.AddDomain(t.Context(), "light.example"); err != nil {
		t.Fatal(err)
	}
	if n := len(d.state.Load().accounts); n != 1500 {
		t.Errorf("%d accounts", n)
	}
	var kept int
	if err := d.conn.QueryRowContext(t.Context(), "SELECT count(*) FROM changed").Scan(&kept); err != nil || kept > maxChanged {
		t.Errorf("%d changes are kept, %v", kept, err)
	}
	if _, _, ok, err := changedSince(t.Context(), d.conn, before.seq); ok || err != nil {
		t.Errorf("what was forgotten is taken for all: %v", err)
	}
}
