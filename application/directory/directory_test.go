package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
)

func open(t testing.TB, file string) *Directory {
	t.Helper()
	d, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func address(t testing.TB, s string) message.Address {
	t.Helper()
	var a message.Address
	if err := a.UnmarshalText([]byte(s)); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return a
}

func addresses(t testing.TB, list string) (all []message.Address) {
	t.Helper()
	for _, s := range strings.Fields(list) {
		all = append(all, address(t, s))
	}
	return all
}

// village has keeper and nurse at light.example, boatman at light.example and pier.example, and the customers clinic and school.
func village(t testing.TB) *Directory {
	t.Helper()
	d := open(t, filepath.Join(t.TempDir(), "directory.db"))
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(d.AddAccount(ctx, Account{Name: "keeper@light.example", Addresses: addresses(t, "keeper@light.example k@light.example"), CRAM: true}, "keeper's"))
	must(d.AddAccount(ctx, Account{Name: "nurse", Addresses: addresses(t, "nurse@light.example")}, "nurse's"))
	must(d.AddAccount(ctx, Account{Name: "boatman", Addresses: addresses(t, "boatman@pier.example b@light.example")}, "boatman's"))
	must(d.AddAccount(ctx, Account{Name: "clinic", CRAM: true}, "clinic's"))
	must(d.AddAccount(ctx, Account{Name: "school"}, "school's"))
	must(d.AddCustomer(ctx, Customer{Account: "clinic", Domains: []string{"Clinic.example", "b\u00fccher.example"}, MinInterval: time.Minute}))
	must(d.AddCustomer(ctx, Customer{Account: "school", Domains: []string{"school.example"}, EmptyTurns: true}))
	must(d.AddAlias(ctx, address(t, "info@light.example"), address(t, "keeper@light.example")))
	must(d.AddAlias(ctx, address(t, "info@light.example"), address(t, "nurse@light.example")))
	must(d.AddAlias(ctx, address(t, "all@light.example"), address(t, "info@light.example")))
	must(d.AddAlias(ctx, address(t, "all@light.example"), address(t, "k@light.example")))
	must(d.AddAlias(ctx, address(t, "all@light.example"), address(t, "boatman@pier.example")))
	return d
}

func TestQuestions(t *testing.T) {
	d := village(t)
	for domain, want := range map[string]string{
		"light.example": "local", "LIGHT.example.": "local", "pier.example": "local",
		"clinic.example": "clinic", "CLINIC.EXAMPLE": "clinic", "xn--bcher-kva.example": "clinic", "B\u00fccher.example": "clinic", "school.example": "school",
		"": "", "example": "", "nightlight.example": "", "light.example.org": "", "sub.clinic.example": "", "[192.0.2.1]": "", "\xff": "",
	} {
		got, held := d.Held(domain)
		if d.Local(domain) {
			got += "local"
		}
		if got != want || held != (want != "" && want != "local") {
			t.Errorf("%q is %q, want %q", domain, got, want)
		}
	}
	if d.Chief() != "light.example" {
		t.Errorf("chief domain %q", d.Chief())
	}
	if domains, err := d.Domains(t.Context()); err != nil || !slices.Equal(domains, []string{"light.example", "pier.example"}) {
		t.Errorf("%v, %v", domains, err)
	}
}

func TestResolve(t *testing.T) {
	d := village(t)
	for to, want := range map[string]string{
		"keeper@light.example":         "keeper@light.example",
		"Keeper@Light.EXAMPLE":         "keeper@light.example",
		"k@light.example":              "keeper@light.example",
		"keeper+lists@light.example":   "keeper@light.example",
		"keeper+a+b@light.example":     "keeper@light.example",
		"nurse@light.example":          "nurse",
		"b@light.example":              "boatman",
		"info@light.example":           "keeper@light.example nurse",
		"info+x@light.example":         "keeper@light.example nurse",
		"all@light.example":            "boatman keeper@light.example nurse", // targets are kept sorted
		"postmaster@light.example":     "keeper@light.example",
		"PostMaster@pier.example":      "boatman",
		"postmaster+x@pier.example":    "boatman",
		"postmaster":                   "keeper@light.example",
		"POSTMASTER":                   "keeper@light.example",
		"postmaster@clinic.example":    "",
		"postmaster@elsewhere.example": "",
		"nobody@light.example":         "",
		"nurse@pier.example":           "",
		"+x@light.example":             "",
		"keeper@clinic.example":        "",
		"":                             "",
	} {
		if got := strings.Join(d.Resolve(address(t, to)), " "); got != want {
			t.Errorf("%q goes to %q, want %q", to, got, want)
		}
	}
	// A subaddress that somebody gave a meaning of its own keeps it.
	if err := d.AddAddress(t.Context(), "nurse", address(t, "keeper+night@light.example")); err != nil {
		t.Fatal(err)
	}
	if got := d.Resolve(address(t, "keeper+night@light.example")); !slices.Equal(got, []string{"nurse"}) {
		t.Errorf("%v", got)
	}
}

// RFC 5321 §4.5.1.
func TestPostmaster(t *testing.T) {
	ctx := t.Context()
	d := open(t, filepath.Join(t.TempDir(), "directory.db"))
	expect := func(to, want string) {
		t.Helper()
		if got := strings.Join(d.Resolve(address(t, to)), " "); got != want {
			t.Errorf("%s goes to %q, want %q", to, got, want)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect("postmaster", "")
	do(d.AddDomain(ctx, "new.example"))
	expect("postmaster@new.example", "") // nobody is here
	do(d.AddAccount(ctx, Account{Name: "first", Addresses: addresses(t, "first@light.example")}, "x"))
	do(d.AddAccount(ctx, Account{Name: "second", Addresses: addresses(t, "second@new.example")}, "x"))
	do(d.AddDomain(ctx, "empty.example"))
	expect("postmaster", "second") // of the chief domain, which is the first that was added by name
	expect("postmaster@light.example", "first")
	expect("postmaster@empty.example", "first")
	do(d.SetDisabled(ctx, "first", true))
	expect("postmaster@light.example", "second")
	do(d.SetDisabled(ctx, "second", true))
	expect("postmaster@light.example", "first") // better than nobody
	do(d.AddAlias(ctx, address(t, "postmaster@new.example"), address(t, "first@light.example")))
	expect("postmaster", "first")
	expect("postmaster@empty.example", "first")
	do(d.AddAlias(ctx, address(t, "postmaster@empty.example"), address(t, "second@new.example")))
	expect("postmaster@empty.example", "second")
}

func TestMaySend(t *testing.T) {
	d := village(t)
	if err := d.SetDisabled(t.Context(), "nurse", true); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		account, from string
		want          bool
	}{
		{"keeper@light.example", "keeper@light.example", true},
		{"Keeper@Light.example", "K@LIGHT.example", true},
		{"keeper@light.example", "keeper+x@light.example", true},
		{"keeper@light.example", "info@light.example", true},
		{"keeper@light.example", "all@light.example", true},
		{"keeper@light.example", "postmaster@light.example", true},
		{"keeper@light.example", "", true},
		{"keeper@light.example", "nurse@light.example", false},
		{"keeper@light.example", "nobody@light.example", false},
		{"keeper@light.example", "anna@clinic.example", false},
		{"keeper@light.example", "keeper@elsewhere.example", false},
		{"boatman", "info@light.example", false},
		{"clinic", "anna@clinic.example", true},
		{"clinic", "anna@B\u00fccher.example", true},
		{"clinic", "", true},
		{"clinic", "anna@school.example", false},
		{"clinic", "anna@sub.clinic.example", true}, // its hosts, whose notices it relays (RFC 5321 §6.1)
		{"clinic", "MAILER-DAEMON@mail.clinic.example", true},
		{"clinic", "postmaster@notclinic.example", false},
		{"clinic", "postmaster@example", false},
		{"school", "postmaster@mail.clinic.example", false},
		{"clinic", "keeper@light.example", false},
		{"nurse", "nurse@light.example", false}, // disabled
		{"nurse", "", false},
		{"nobody", "nobody@light.example", false},
		{"", "", false},
	} {
		if got := d.MaySend(test.account, address(t, test.from)); got != test.want {
			t.Errorf("%q as %q: %v", test.account, test.from, got)
		}
	}
	if got := d.Resolve(address(t, "nurse@light.example")); !slices.Equal(got, []string{"nurse"}) {
		t.Errorf("mail for a disabled account goes to %v", got)
	}
}

// Each refusal says what is in the way, and leaves everything as it was.
func TestRefusals(t *testing.T) {
	d, ctx := village(t), t.Context()
	account := func(name, list string) error {
		return d.AddAccount(ctx, Account{Name: name, Addresses: addresses(t, list)}, "x")
	}
	alias := func(alias, target string) error { return d.AddAlias(ctx, address(t, alias), address(t, target)) }
	customer := func(name string, domains ...string) error {
		return d.AddCustomer(ctx, Customer{Account: name, Domains: domains})
	}
	before := dump(t, d)
	for _, test := range []struct {
		err  error
		kind error
		text string
	}{
		{account("nurse", ""), ErrTaken, "account nurse exists already"},
		{account("NURSE", ""), ErrTaken, "account nurse exists already"},
		{account("nurse@light.example", ""), ErrTaken, "nurse@light.example is an address of account nurse"},
		{account("new", "nurse@light.example"), ErrTaken, "nurse@light.example is an address of account nurse already"},
		{account("new", "new@light.example NEW@light.example"), ErrTaken, "NEW@light.example is given twice"},
		{account("new", "info@light.example"), ErrTaken, "info@light.example is an alias of"},
		{account("new", "anna@clinic.example"), ErrTaken, "domain clinic.example is already held for customer clinic"},
		{d.AddAddress(ctx, "nurse", address(t, "keeper@light.example")), ErrTaken, "account keeper@light.example already"},
		{account("", ""), ErrInvalid, "account name"},
		{account("../etc", ""), ErrInvalid, "account name"},
		{account(".hidden", ""), ErrInvalid, "account name"},
		{account("-f", ""), ErrInvalid, "account name"},
		{account("a b", ""), ErrInvalid, "account name"},
		{account("a@b@c.example", ""), ErrInvalid, "is not an address"},
		{account("a@", ""), ErrInvalid, "is not an address"},
		{account("a\x00", ""), ErrInvalid, "account name"},
		{account(strings.Repeat("a", maxName+1), ""), ErrInvalid, "at most 200"},
		{d.AddAccount(ctx, Account{Name: "new"}, ""), ErrInvalid, "the password of new is empty"},
		{d.AddAccount(ctx, Account{Name: "new"}, "\x07"), ErrInvalid, "the password of new will not do: empty, not UTF-8"},
		{d.AddAccount(ctx, Account{Name: "new", Addresses: []message.Address{{}}}, "x"), ErrInvalid, "is not an address"},
		{d.AddAccount(ctx, Account{Name: "new", Addresses: []message.Address{{Local: "a"}}}, "x"), ErrInvalid, "is not an address"},
		{d.AddAccount(ctx, Account{Name: "new", Addresses: []message.Address{{Local: "a", Domain: "[192.0.2.1]"}}}, "x"), ErrInvalid, "inner hyphens"},
		{d.AddAccount(ctx, Account{Name: "new", Addresses: []message.Address{{Local: "a", Domain: "-b.example"}}}, "x"), ErrInvalid, "is not an address"},
		{d.SetPassword(ctx, "nobody", "x"), ErrNotFound, `there is no account "nobody"`},
		{d.SetPassword(ctx, "nurse", ""), ErrInvalid, "empty"},
		{d.SetCRAM(ctx, "nurse", true, ""), ErrInvalid, "empty"},
		{d.SetDisabled(ctx, "nobody", true), ErrNotFound, "there is no account"},
		{d.RemoveAccount(ctx, "nobody"), ErrNotFound, "there is no account"},
		{d.RemoveAccount(ctx, "clinic"), ErrTaken, "account clinic is the customer for clinic.example, xn--bcher-kva.example: remove the customer first"},
		{d.RemoveAddress(ctx, address(t, "nobody@light.example")), ErrNotFound, "is no account's address"},
		{d.AddDomain(ctx, "clinic.example"), ErrTaken, "domain clinic.example is already held for customer clinic"},
		{d.AddDomain(ctx, "a_b.example"), ErrInvalid, "letters, digits"},
		{d.AddDomain(ctx, ""), ErrInvalid, "empty"},
		{d.AddDomain(ctx, strings.Repeat("a.", 127)+"ab"), ErrInvalid, "longer than 253"},
		{d.AddDomain(ctx, strings.Repeat("a", 64)+".example"), ErrInvalid, "letters, digits"},
		{d.RemoveDomain(ctx, "pier.example"), ErrTaken, "domain pier.example is that of boatman@pier.example"},
		{d.RemoveDomain(ctx, "elsewhere.example"), ErrNotFound, "is not local"},
		{alias("keeper@light.example", "nurse@light.example"), ErrTaken, "is an address of account keeper@light.example"},
		{alias("info@light.example", "nurse@light.example"), ErrTaken, "is an alias of nurse@light.example already"},
		{alias("info@light.example", "all@light.example"), ErrInvalid, "all@light.example leads back to info@light.example"},
		{alias("self@light.example", "self@light.example"), ErrInvalid, "leads back"},
		{alias("new@light.example", "nobody@light.example"), ErrNotFound, "nobody@light.example leads to no account here"},
		{alias("new@light.example", "somebody@elsewhere.example"), ErrNotFound, "leads to no account here"},
		{alias("new@clinic.example", "nurse@light.example"), ErrTaken, "already held for customer clinic"},
		{d.RemoveAlias(ctx, address(t, "info@light.example"), address(t, "boatman@pier.example")), ErrNotFound, "there is no alias"},
		{d.RemoveAlias(ctx, address(t, "new@light.example"), message.Address{}), ErrNotFound, "there is no alias"},
		{customer("clinic", "new.example"), ErrTaken, "account clinic is a customer already"},
		{customer("nobody", "new.example"), ErrNotFound, "there is no account"},
		{customer("nurse"), ErrInvalid, "name at least one"},
		{customer("nurse", "light.example"), ErrTaken, "domain light.example is local: "},
		{customer("nurse", "new.example", "school.example"), ErrTaken, "domain school.example is already held for customer school"},
		{customer("nurse", "localhost"), ErrInvalid, "has no dot"},
		{customer("nurse", "a-.example"), ErrInvalid, "letters, digits"},
		{customer("nurse", "a..example"), ErrInvalid, "letters, digits"},
		{customer("nurse", ".example"), ErrInvalid, "letters, digits"},
		{d.AddCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example"}, MinInterval: -1}), ErrInvalid, "interval"},
		{d.AddCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example"}, Linger: time.Microsecond}), ErrInvalid, "lingers"},
		{d.AddCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example"}, LongPoll: -time.Second}), ErrInvalid, "ATRN"},
		{d.AddCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example"}, LongPoll: 5 * time.Minute}), ErrInvalid, "at most 4m0s"},
		{d.AddCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example"}, Budget: -1}), ErrInvalid, "no bound"},
		{d.AddCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example"}, Host: "mail.new.example"}), ErrInvalid, "host:port"},
		{d.AddCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example"}, Host: "mail.new.example:0"}), ErrInvalid, "host:port"},
		{d.SetCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example"}}), ErrNotFound, "there is no customer"},
		{d.SetCustomer(ctx, Customer{Account: "clinic", Domains: []string{"school.example"}}), ErrTaken, "held for customer school"},
		{d.RemoveCustomer(ctx, "nurse"), ErrNotFound, "there is no customer"},
		{d.Contact(ctx, "nurse", time.Now()), ErrNotFound, "there is no customer"},
		{d.AddCertificate(ctx, "nurse", "abcd"), ErrInvalid, "64 hexadecimal digits"},
		{d.RemoveCertificate(ctx, strings.Repeat("ab", 32)), ErrNotFound, "no account has the key"},
	} {
		if test.err == nil || !errors.Is(test.err, test.kind) || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("want %v %q, got %v", test.kind, test.text, test.err)
		}
	}
	if _, err := d.Account(ctx, "nobody"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := d.Customer(ctx, "nurse"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if after := dump(t, d); after != before {
		t.Errorf("a refusal has left something:\n%s\n%s", before, after)
	}
}

// dump is all there is, as a command line shows it.
func dump(t testing.TB, d *Directory) string {
	t.Helper()
	ctx := t.Context()
	accounts, err1 := d.Accounts(ctx)
	aliases, err2 := d.Aliases(ctx)
	domains, err3 := d.Domains(ctx)
	customers, err4 := d.Customers(ctx)
	certificates, err5 := d.Certificates(ctx)
	text, err6 := json.MarshalIndent([]any{accounts, aliases, domains, customers, certificates}, "", " ")
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What is added can be removed, and then it is gone for every question.
func TestChanges(t *testing.T) {
	d, ctx := village(t), t.Context()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	before := dump(t, d)
	do(d.AddAccount(ctx, Account{Name: "new", Addresses: addresses(t, "new@new.example")}, "x"))
	do(d.AddAddress(ctx, "NEW", address(t, "other@new.example")))
	do(d.AddCertificate(ctx, "new", strings.Repeat("AB:", 31)+"AB"))
	do(d.AddAlias(ctx, address(t, "x@new.example"), address(t, "new@new.example")))
	do(d.AddAlias(ctx, address(t, "x@new.example"), address(t, "nurse@light.example")))
	do(d.AddDomain(ctx, "New.example."))
	if err := d.AddDomain(ctx, "new.example"); !errors.Is(err, ErrTaken) {
		t.Error(err)
	}
	a, err := d.Account(ctx, "new")
	if err != nil || len(a.Addresses) != 2 || a.Created.IsZero() || a.CRAM || a.Disabled {
		t.Errorf("%+v, %v", a, err)
	}
	a.Addresses[0].Local = "changed" // the caller's own
	if got := d.Resolve(address(t, "x@new.example")); !slices.Equal(got, []string{"new", "nurse"}) {
		t.Errorf("%v", got)
	}
	do(d.RemoveAddress(ctx, address(t, "new@NEW.example")))
	if got := d.Resolve(address(t, "x@new.example")); !slices.Equal(got, []string{"nurse"}) {
		t.Errorf("%v", got)
	}
	do(d.RemoveAlias(ctx, address(t, "X@new.example"), address(t, "nurse@light.example")))
	if got := d.Resolve(address(t, "x@new.example")); len(got) != 0 {
		t.Errorf("%v", got)
	}
	do(d.RemoveAlias(ctx, address(t, "x@new.example"), message.Address{}))
	do(d.RemoveAccount(ctx, "new"))
	if !d.Local("new.example") {
		t.Error("the domain was added by name")
	}
	do(d.RemoveDomain(ctx, "new.example"))
	if d.Local("new.example") {
		t.Error("still local")
	}
	do(d.AddCustomer(ctx, Customer{Account: "nurse", Domains: []string{"new.example", "NEW.example"}}))
	do(d.SetCustomer(ctx, Customer{Account: "nurse", Domains: []string{"newer.example"}, MinInterval: time.Second, EmptyTurns: true}))
	if _, ok := d.Held("new.example"); ok {
		t.Error("still held")
	}
	if c, err := d.Customer(ctx, "Nurse"); err != nil || !slices.Equal(c.Domains, []string{"newer.example"}) || c.MinInterval != time.Second || !c.EmptyTurns {
		t.Errorf("%+v, %v", c, err)
	}
	patient := Customer{Account: "nurse", Domains: []string{"newer.example"}, Linger: 40 * time.Minute, LongPoll: MaxLongPoll, KeepLarge: true, Host: "[2001:db8::1]:25", Budget: 5e6, Largest: 2e5}
	do(d.SetCustomer(ctx, patient))
	if c, err := d.Customer(ctx, "nurse"); err != nil || !reflect.DeepEqual(c, patient) {
		t.Errorf("%+v, %v", c, err)
	}
	do(d.RemoveCustomer(ctx, "nurse"))
	do(d.AddCustomer(ctx, patient))
	if c, err := d.Customer(ctx, "nurse"); err != nil || !reflect.DeepEqual(c, patient) {
		t.Errorf("%+v, %v", c, err)
	}
	do(d.RemoveCustomer(ctx, "nurse"))
	if after := dump(t, d); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestJSON(t *testing.T) {
	d := village(t)
	text := dump(t, d)
	for _, want := range []string{`"name": "keeper@light.example"`, `"k@light.example"`, `"min_interval": "1m0s"`, `"empty_turns": true`, `"domains": [`, `"target": "nurse@light.example"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(text, "last_contact") {
		t.Error("a contact that never was")
	}
}

// TestHostname: mail for this server's own name has somebody who reads it (RFC 5321 §4.5.1, §6.1).
func TestHostname(t *testing.T) {
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "directory.db")
	d, err := Options{Hostname: "Mail.Clinic.example"}.Open(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(to, resolved, last string, must bool) {
		t.Helper()
		if got := strings.Join(d.Resolve(address(t, to)), " "); got != resolved {
			t.Errorf("%s goes to %q, want %q", to, got, resolved)
		}
		got, ok := d.Last(address(t, to))
		if strings.Join(got, " ") != last || ok != must {
			t.Errorf("the last for %s is %q, %v, want %q, %v", to, got, ok, last, must)
		}
	}
	if !d.Local("mail.clinic.EXAMPLE") || d.Local("clinic.example") {
		t.Error("the hostname alone is local at first")
	}
	expect("root@mail.clinic.example", "", "", true) // it waits
	expect("postmaster", "", "", true)
	expect("postmaster@clinic.example", "", "", false)

	do(d.AddAccount(ctx, Account{Name: "elder", Addresses: addresses(t, "elder@lab.example")}, "x"))
	do(d.AddAccount(ctx, Account{Name: "nurse", Addresses: addresses(t, "nurse@clinic.example")}, "x"))
	do(d.AddDomain(ctx, "clinic.example"))
	expect("postmaster@mail.clinic.example", "nurse", "nurse", true) // the chief domain's
	expect("root@mail.clinic.example", "", "nurse", true)
	expect("nurse@mail.clinic.example", "nurse", "nurse", true)
	expect("nurse+x@mail.clinic.example", "nurse", "nurse", true)
	expect("elder@mail.clinic.example", "", "nurse", true)
	expect("gone@clinic.example", "", "", false) // its sender is told
	expect("gone@elsewhere.example", "", "", false)
	do(d.AddAlias(ctx, address(t, "root@mail.clinic.example"), address(t, "elder@lab.example")))
	expect("root@mail.clinic.example", "elder", "nurse", true)
	do(d.AddAlias(ctx, address(t, "postmaster@clinic.example"), address(t, "elder@lab.example")))
	expect("postmaster@mail.clinic.example", "elder", "elder", true)
	if !d.MaySend("nurse", address(t, "nurse@mail.clinic.example")) || d.MaySend("nurse", address(t, "cron@mail.clinic.example")) {
		t.Error("who may send at the hostname is who has the name")
	}
}

// A loop that another hand put into the file ends, and so does a chain that is too long.
func TestLoops(t *testing.T) {
	s := newSnapshot()
	s.addAccount(&account{Account: Account{Name: "keeper"}})
	s.addAddress(address(t, "keeper@light.example"), "keeper")
	s.addAddress(address(t, "orphan@light.example"), "nobody")
	s.addHeld("clinic.example", "nobody")
	s.addAlias(Alias{address(t, "a@light.example"), address(t, "b@light.example")})
	s.addAlias(Alias{address(t, "b@light.example"), address(t, "a@light.example")})
	s.addAlias(Alias{address(t, "b@light.example"), address(t, "keeper@light.example")})
	for i := range 1000 {
		s.addAlias(Alias{address(t, fmt.Sprintf("c%d@light.example", i)), address(t, fmt.Sprintf("c%d@light.example", i+1))})
	}
	s.addAlias(Alias{address(t, "c1000@light.example"), address(t, "keeper@light.example")})
	s.finish()
	for to, want := range map[string]int{"a@light.example": 1, "c0@light.example": 0, "c990@light.example": 1, "orphan@light.example": 0} {
		if got := s.resolve(address(t, to)); len(got) != want {
			t.Errorf("%s goes to %v", to, got)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("keeper@light.example")
	f.Add("B\u00fccher.example.")
	f.Add("Kl\u00e4ranlage+x")
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := checkName(s); err == nil {
			if again, err := checkName(name); err != nil || again != name || canonicalName(name) != name || strings.ContainsAny(name, "/\\\x00 ") {
				t.Fatalf("%q became %q, then %q, %v", s, name, again, err)
			}
		}
		if domain, err := checkDomain(s); err == nil {
			if again, err := checkDomain(domain); err != nil || again != domain || canonicalDomain(s) != domain {
				t.Fatalf("%q became %q, then %q, %v", s, domain, again, err)
			}
		}
		if a, err := message.ParseAddress(s); err == nil {
			if once := canonical(a); canonical(once) != once {
				t.Fatalf("%v became %v, then %v", a, once, canonical(once))
			}
		}
	})
}
