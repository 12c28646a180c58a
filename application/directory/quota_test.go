package directory

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"bothy/application/message"
)

func TestQuota(t *testing.T) {
	file := filepath.Join(t.TempDir(), "d.db")
	d := open(t, file)
	if err := d.AddAccount(t.Context(), Account{Name: "clinic"}, "tanstaaf tanstaaf"); err != nil {
		t.Fatal(err)
	}
	if err := d.AddCustomer(t.Context(), Customer{Account: "clinic", Domains: []string{"clinic.example"}}); err != nil {
		t.Fatal(err)
	}
	boss := message.Address{Local: "boss", Domain: "mobile.example"}
	q := Quota{Octets: 1000, Messages: 5, Warn: boss}
	if err := d.SetQuota(t.Context(), "CLINIC", q); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		q    Quota
		want error
	}{
		{"clinic", Quota{Octets: -1}, ErrInvalid},
		{"clinic", Quota{Messages: -1}, ErrInvalid},
		{"clinic", Quota{Lifetime: 59 * time.Minute}, ErrInvalid},
		{"clinic", Quota{Lifetime: -time.Hour}, ErrInvalid},
		{"clinic", Quota{Lifetime: 367 * 24 * time.Hour}, ErrInvalid},
		{"clinic", Quota{Warn: message.Address{Local: "boss", Domain: "Clinic.example"}}, ErrInvalid},
		{"nobody", Quota{}, ErrNotFound},
	} {
		if err := d.SetQuota(t.Context(), c.name, c.q); !errors.Is(err, c.want) {
			t.Errorf("%s %+v: %v", c.name, c.q, err)
		}
	}
	q.Warned = time.UnixMilli(1_700_000_000_000).UTC()
	if err := d.Warned(t.Context(), "clinic", q.Warned); err != nil {
		t.Fatal(err)
	}
	q.Octets, q.Lifetime = 2000, 10*24*time.Hour
	if err := d.SetQuota(t.Context(), "clinic", Quota{Octets: 2000, Messages: 5, Warn: boss, Lifetime: q.Lifetime}); err != nil { // when it was warned stays
		t.Fatal(err)
	}
	c, err := d.Customer(t.Context(), "clinic")
	if err != nil {
		t.Fatal(err)
	}
	c.MinInterval = time.Minute
	if err := d.SetCustomer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, file)
	if c, err := d.Customer(t.Context(), "clinic"); err != nil || c.Quota != q {
		t.Errorf("%+v, want %+v, %v", c.Quota, q, err)
	}
	if clinic, other := d.LifetimeOf("Clinic.example"), d.LifetimeOf("other.example"); clinic != q.Lifetime || other != 0 {
		t.Errorf("lifetimes %v, %v", clinic, other)
	}
	if err := d.RemoveCustomer(t.Context(), "clinic"); err != nil {
		t.Fatal(err)
	}
	if err := d.Warned(t.Context(), "clinic", q.Warned); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
