package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bothy/application/sasl"
	"bothy/lib/sim"
)

// entry is a customer with domains, who is invited for a week.
func entry(account, domains string) Entry {
	return Entry{Customer: Customer{Account: account, Domains: strings.Fields(domains)}, Invite: 7 * 24 * time.Hour}
}

// TestImport: what is entered is what single commands would have entered, another process sees it, its invitations are good, and once more it changes
// nothing at all.
func TestImport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "directory.db")
	d, server := open(t, file), open(t, file)
	now := time.Now().Truncate(time.Millisecond).UTC()
	if err := d.AddAccount(t.Context(), Account{Name: "known"}, "x"); err != nil {
		t.Fatal(err)
	}
	if err := d.AddCustomer(t.Context(), Customer{Account: "known", Domains: []string{"one.example", "two.example"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.AddAccount(t.Context(), Account{Name: "mere"}, "x"); err != nil {
		t.Fatal(err)
	}
	full := entry("Full", "Full.example. bücher.example full.example")
	full.Customer = Customer{
		Account: "Full", Domains: full.Domains, MinInterval: time.Minute, EmptyTurns: true, Linger: time.Hour, LongPoll: time.Minute, KeepLarge: true,
		Host: "mail.full.example:25", Budget: 5, Largest: 4, LastContact: now,
		Quota: Quota{Octets: 7, Messages: 8, Lifetime: time.Hour, Warn: address(t, "boss@elsewhere.example")},
	}
	entries := []Entry{full, entry("", "two.example"), entry("known", "one.example three.example"), entry("mere", "mere.example")}
	entries[1].Password, entries[1].Invite = "secret", 0 // and "two.example" goes from "known" to it
	for i := range 2 * rowsAtOnce {
		entries = append(entries, entry(fmt.Sprintf("c%d", i), fmt.Sprintf("c%d.example d%[1]d.example", i)))
	}
	if would, err := d.Import(t.Context(), entries, ImportOptions{DryRun: true, Now: now}); err != nil || would[0].Change != Added || d.CustomerCount() != 1 {
		t.Fatalf("dry run: %v, %v, %d customers", would[0], err, d.CustomerCount())
	}
	all, err := d.Import(t.Context(), entries, ImportOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Entered{
		{Account: "full", Change: Added, Fresh: true}, {Account: "two.example", Change: Added, Fresh: true}, {Account: "known", Change: Changed}, {Account: "mere", Change: Added},
	} {
		if got := all[i]; got.Account != want.Account || got.Change != want.Change || got.Fresh != want.Fresh || (got.Secret != "") != (i == 0) {
			t.Errorf("entry %d: %+v", i, got)
		}
	}
	if err := server.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := full.Customer
	want.Account, want.Domains = "full", []string{"full.example", "xn--bcher-kva.example"}
	if got, err := server.Customer(t.Context(), "full"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for domain, account := range map[string]string{"two.example": "two.example", "three.example": "known", "d999.example": "c999"} {
		if got, _ := server.Held(domain); got != account {
			t.Errorf("%s is held for %q", domain, got)
		}
	}
	if v, err := server.Verifier(t.Context(), "two.example"); err != nil || !v.Check("secret") {
		t.Errorf("the password that was given: %v", err)
	}
	if v, err := server.Invited(all[0].Invitation.ID); err != nil || !v.Check(all[0].Secret) || v.Iterations != sasl.RandomIterations {
		t.Errorf("the invitation: %v", err)
	}
	if v, err := sasl.NewVerifier("full", "hers", 0); err != nil {
		t.Error(err)
	} else if account, err := server.Redeem(t.Context(), all[0].Invitation.ID, v, "", "192.0.2.1", now); account != "full" || err != nil {
		t.Errorf("redeemed: %q, %v", account, err)
	}
	if got, whole, err := refreshed(t.Context(), d); err != nil || !same(whole, got) {
		t.Errorf("the state is not what was written: %v", err)
	}

	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := d.state.Load()
	again, err := d.Import(t.Context(), entries, ImportOptions{Now: now.Add(time.Hour)})
	if err != nil || slices.ContainsFunc(again, func(e Entered) bool { return e.Change != Unchanged || e.Fresh || e.Secret != "" }) {
		t.Errorf("again: %v", err)
	}
	if d.state.Load() != before {
		t.Error("the same once more has written something")
	}
}

// TestImportRefused: one entry that cannot be is enough to change nothing; each is named.
func TestImportRefused(t *testing.T) {
	d := village(t)
	good := entry("good", "good.example")
	with := func(change func(*Entry)) Entry {
		e := entry("bad", "bad.example")
		change(&e)
		return e
	}
	for _, c := range []struct {
		entries []Entry
		want    string
		with    int
	}{
		{[]Entry{good, entry("bad", "")}, "has no domain", -1},
		{[]Entry{good, entry("bad", "bad")}, "has no dot", -1},
		{[]Entry{good, entry("b d", "bad.example")}, "account name", -1},
		{[]Entry{good, entry("bad", "clinic.example")}, "already held for customer clinic", -1},
		{[]Entry{good, entry("bad", "light.example")}, "is local: ", -1},
		{[]Entry{good, entry("boatman@pier.example", "bad.example")}, "is an address of account", -1},
		{[]Entry{good, entry("Good", "bad.example")}, "is named twice", 0},
		{[]Entry{good, entry("bad", "GOOD.example")}, "is given to good and to bad", 0},
		{[]Entry{good, with(func(e *Entry) { e.Linger = -1 })}, "whole milliseconds", -1},
		{[]Entry{good, with(func(e *Entry) { e.Quota.Octets = -1 })}, "negative", -1},
		{[]Entry{good, with(func(e *Entry) { e.Quota.Warn = address(t, "boss@bad.example") })}, "would wait there", -1},
		{[]Entry{good, with(func(e *Entry) { e.Invite = time.Second })}, "at least 1m", -1},
		{[]Entry{good, with(func(e *Entry) { e.Password = "\x00" })}, "will not do", -1},
	} {
		_, err := d.Import(t.Context(), c.entries, ImportOptions{Now: time.Now()})
		if e, ok := errors.AsType[*EntryError](err); !ok || e.Entry != 1 || e.With != c.with || !strings.Contains(e.Err.Error(), c.want) {
			t.Errorf("want %q with %d: %v", c.want, c.with, err)
		}
		if _, ok := d.Held("good.example"); ok {
			t.Fatalf("%q: the other one was entered", c.want)
		}
	}
	var many []Entry
	for range 10 * maxEntryErrors {
		many = append(many, entry("x", "local"))
	}
	_, err := d.Import(t.Context(), many, ImportOptions{Now: time.Now()})
	if all, ok := err.(interface{ Unwrap() []error }); !ok || len(all.Unwrap()) != maxEntryErrors {
		t.Errorf("%v", err)
	}
}

// TestImportMany: customers entered at random, with domains that go from one to another, are as if each had been set, and another process follows.
func TestImportMany(t *testing.T) {
	sim.Seeds(t, 4, func(t *testing.T, seed uint64) {
		dice := rand.New(rand.NewPCG(seed, 0))
		file := filepath.Join(t.TempDir(), "directory.db")
		ours, others := open(t, file), open(t, file)
		held := map[string]string{}
		for range 20 {
			domains := dice.Perm(12)
			var entries []Entry
			for _, n := range dice.Perm(6)[:1+dice.IntN(6)] {
				e := entry(fmt.Sprintf("n%d", n), "")
				for range 1 + dice.IntN(2) {
					e.Domains, domains = append(e.Domains, fmt.Sprintf("h%d.example", domains[0])), domains[1:]
				}
				e.Quota.Messages = dice.IntN(3)
				entries = append(entries, e)
			}
			after := map[string]string{}
			for domain, account := range held {
				if !slices.ContainsFunc(entries, func(e Entry) bool { return e.Account == account }) {
					after[domain] = account
				}
			}
			possible := true
			for _, e := range entries {
				for _, domain := range e.Domains {
					if _, taken := after[domain]; taken {
						possible = false
					}
				}
			}
			_, err := ours.Import(t.Context(), entries, ImportOptions{Now: time.Now()})
			if (err == nil) != possible {
				t.Fatalf("possible: %v: %v", possible, err)
			}
			if possible {
				for _, e := range entries {
					for _, domain := range e.Domains {
						after[domain] = e.Account
					}
				}
				held = after
			}
			for _, d := range []*Directory{ours, others} {
				got, whole, err := refreshed(t.Context(), d)
				if err != nil || !same(whole, got) || !reflect.DeepEqual(got.held, held) {
					t.Fatalf("held %v, want %v, %v", got.held, held, err)
				}
			}
		}
	})
}

// TestCustomerText: a customer in JSON reads back as it was; what is not named stays, and a name that nobody knows is no customer's.
func TestCustomerText(t *testing.T) {
	c := Customer{
		Account: "clinic", Domains: []string{"clinic.example"}, MinInterval: time.Minute, EmptyTurns: true, Linger: time.Hour, LongPoll: time.Second,
		KeepLarge: true, Host: "mail.clinic.example:25", Budget: 3, Largest: 2, LastContact: time.UnixMilli(86_400_000).UTC(),
		Quota: Quota{Octets: 4, Messages: 5, Lifetime: 2 * time.Hour, Warn: address(t, "boss@elsewhere.example"), Warned: time.UnixMilli(1000).UTC()},
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Customer
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, c) {
		t.Errorf("%s: %+v, %v", text, back, err)
	}
	domains := back.Domains
	if err := json.Unmarshal([]byte(`{"domains": ["lab.example"], "quota": {"messages": 9}}`), &back); err != nil {
		t.Fatal(err)
	}
	if domains[0] != "clinic.example" {
		t.Error("somebody else's domains were changed")
	}
	c.Domains, c.Quota.Messages = []string{"lab.example"}, 9
	if !reflect.DeepEqual(back, c) {
		t.Errorf("%+v", back)
	}
	for _, text := range []string{`{"domain": []}`, `{"quota": {"bytes": 1}}`, `{"linger": "soon"}`, `{"linger": 5}`, `[]`} {
		if err := json.Unmarshal([]byte(text), &back); err == nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%s: %+v, %v", text, back, err)
		}
	}
}

// BenchmarkImport is 100,000 customers with invitations into an empty directory, and the same once more.
func BenchmarkImport(b *testing.B) {
	entries := make([]Entry, 100_000)
	for i := range entries {
		entries[i] = entry(fmt.Sprintf("c%d", i), fmt.Sprintf("c%d.example", i))
	}
	for b.Loop() {
		d := open(b, filepath.Join(b.TempDir(), "directory.db"))
		for _, what := range []string{"first", "again"} {
			runtime.GC()
			began := time.Now()
			if _, err := d.Import(b.Context(), entries, ImportOptions{Now: began}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(began).Seconds(), what+"-s")
		}
	}
}

// TestImportMoved: an entry made of a customer that somebody else has changed since does not undo that; what the customer itself did is no change.
func TestImportMoved(t *testing.T) {
	d := village(t)
	was, err := d.Customer(t.Context(), "clinic")
	if err != nil {
		t.Fatal(err)
	}
	with := func(account string, was *Customer) Entry {
		e := Entry{Customer: *was, Was: was}
		e.Account, e.Linger = account, time.Hour
		if len(e.Domains) == 0 {
			e.Domains = []string{account + ".example"}
		}
		return e
	}
	theirs := was
	theirs.Quota.Messages = 9
	if err := d.SetQuota(t.Context(), "clinic", theirs.Quota); err != nil {
		t.Fatal(err)
	}
	gone := Customer{Account: "gone"}
	for _, e := range []Entry{with("clinic", &was), with("clinic", &Customer{}), with("gone", &gone)} {
		if _, err := d.Import(t.Context(), []Entry{e}, ImportOptions{Now: time.Now()}); !errors.Is(err, ErrMoved) {
			t.Errorf("%s: %v", e.Account, err)
		}
	}
	called := theirs
	called.LastContact = time.Now()
	for _, e := range []Entry{with("clinic", &called), with("new", &Customer{})} {
		if _, err := d.Import(t.Context(), []Entry{e}, ImportOptions{Now: time.Now()}); err != nil {
			t.Errorf("%s: %v", e.Account, err)
		}
	}
	if c, err := d.Customer(t.Context(), "clinic"); err != nil || c.Quota.Messages != 9 || c.Linger != time.Hour {
		t.Errorf("%+v, %v", c, err)
	}
}
