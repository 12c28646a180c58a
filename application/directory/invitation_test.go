package directory

import (
	"errors"
	"strings"
	"testing"
	"time"

	"bothy/application/sasl"
)

// TestInvitation: an invitation is good once, until it expires, and not behind a newer one; the same use of it again is no other.
func TestInvitation(t *testing.T) {
	d, ctx := village(t), t.Context()
	const key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e2f"
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if err := d.AddAccount(ctx, Account{Name: "hut"}, "before"); err != nil {
		t.Fatal(err)
	}
	credentials := func(password string) sasl.Verifier {
		v, err := sasl.NewVerifier("", password, 4096)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first, _, err := d.Invite(ctx, "HUT", time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	second, secret, err := d.Invite(ctx, "hut", time.Hour, now.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := d.Invited(second.ID); err != nil || !v.Check(secret) || v.Account != second.ID {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := d.Invited("nothing"); !errors.Is(err, sasl.ErrCredentials) {
		t.Error(err)
	}
	mine := credentials("mine")
	for _, c := range []struct {
		what, id, key string
		v             sasl.Verifier
		at            time.Time
		kind          error
		text          string // of the error
	}{
		{"unknown", "nothing", key, mine, now, ErrInvitation, "no such invitation"},
		{"a newer one was made", first.ID, key, mine, now, ErrInvitation, "revoked"},
		{"too late", second.ID, key, mine, now.Add(2 * time.Hour), ErrInvitation, "expired on 2026-03-01 13:00 UTC"},
		{"no verifier", second.ID, key, sasl.Verifier{}, now, ErrInvalid, "length"},
		{"no fingerprint", second.ID, "12", mine, now, ErrInvalid, "fingerprint"},
		{"in time", second.ID, key, mine, now, nil, ""},
		{"its reply was lost", second.ID, key, mine, now.Add(3 * time.Hour), nil, ""},
		{"somebody else has found it", second.ID, key, credentials("theirs"), now, ErrInvitation, "was used on 2026-03-01 12:00 UTC from 192.0.2.1"},
	} {
		account, err := d.Redeem(ctx, c.id, c.v, c.key, "192.0.2.1", c.at)
		if !errors.Is(err, c.kind) || err != nil && !strings.Contains(err.Error(), c.text) || err == nil && account != "hut" {
			t.Errorf("%s: %q, %v", c.what, account, err)
		}
	}
	v, err := d.Verifier(ctx, "hut")
	if err != nil || !v.Check("mine") {
		t.Errorf("the account has another password: %v", err)
	}
	all := d.Invitations("hut")
	if len(all) != 2 || all[0].ID != second.ID || all[0].UsedBy != "192.0.2.1" || !all[1].Revoked || all[0].Open(now) || all[1].Open(now) {
		t.Errorf("%+v", all)
	}
	certificates, _ := d.Certificates(ctx)
	if len(certificates) == 0 || certificates[len(certificates)-1] != (Certificate{key, "hut"}) {
		t.Errorf("%+v", certificates)
	}

	third, _, err := d.Invite(ctx, "hut", time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.Uninvite(ctx, "hut", now); n != 1 || err != nil {
		t.Errorf("%d were revoked: %v", n, err)
	}
	if _, err := d.Redeem(ctx, third.ID, mine, "", "", now); !errors.Is(err, ErrInvitation) {
		t.Errorf("a revoked one: %v", err)
	}
	if _, _, err := d.Invite(ctx, "nobody", time.Hour, now); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, _, err := d.Invite(ctx, "hut", time.Second, now); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if err := d.RemoveAccount(ctx, "hut"); err != nil || len(d.Invitations("hut")) > 0 {
		t.Errorf("they outlive their account: %v", err)
	}
}
