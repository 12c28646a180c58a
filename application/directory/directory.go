package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"bothy/application/message"
)

// The kinds of refusal, for errors.Is. The error's text says what to do about it.
var (
	ErrNotFound = errors.New("directory: not found")              // no such account, address, alias, domain, customer or key
	ErrTaken    = errors.New("directory: taken")                  // what was to be added belongs to somebody else, or would
	ErrInvalid  = errors.New("directory: not a valid value")      // a name, address, domain or password that may not be
	ErrNewer    = errors.New("directory: made by a newer Bothy")  // the file's schema is not known here
	ErrDurable  = errors.New("directory: file cannot be durable") // its file system does not bear SQLite's WAL
)

// refusal is an error of one kind whose text stands alone.
type refusal struct {
	kind error
	text string
}

func (r refusal) Error() string { return r.text }
func (r refusal) Unwrap() error { return r.kind }

func refuse(kind error, format string, args ...any) error {
	return refusal{kind, fmt.Sprintf(format, args...)}
}

// Account is somebody who logs in: a person with addresses, or an ODMR customer.
type Account struct {
	Name      string            `json:"name"`      // "keeper@clinic.example" for a person, "clinic" for a customer
	Addresses []message.Address `json:"addresses"` // delivered here, and may be used as sender; the first is the chief one
	CRAM      bool              `json:"cram"`      // opted in to CRAM-MD5
	Disabled  bool              `json:"disabled"`  // no login, no sending; mail is still accepted
	Created   time.Time         `json:"created"`
}

// Customer is an account that calls for the mail of its domains (RFC 2645).
type Customer struct {
	Account     string
	Domains     []string      // lower-case A-labels
	MinInterval time.Duration // between calls; 0: none (RFC 2645 §5.2.1, 450)
	EmptyTurns  bool          // answer 250 and QUIT where there is no mail, in place of 453
	Linger      time.Duration // how long a session that has nothing to send stays open for what may come; 0: it ends
	LongPoll    time.Duration // how long the answer to ATRN is held back while there is no mail, at most MaxLongPoll; 0: not at all
	KeepLarge   bool          // mail larger than the customer takes (SIZE) waits; else its sender gets a notice
	Host        string        // host:port where ETRN starts delivery (RFC 1985); "": the customer calls
	Budget      int64         // octets of mail in one session, as long as the customer asks for no other; 0: any number
	Largest     int64         // octets of one message, likewise
	Quota       Quota         // set by SetQuota
	Disabled    bool          // the account is (SetDisabled); not changed by AddCustomer and SetCustomer
	LastContact time.Time
}

// MaxLongPoll keeps an answer to ATRN that is held back within the 300 seconds for which fetchmail waits by default.
const MaxLongPoll = 4 * time.Minute

// written is a Customer as JSON has it.
type written struct {
	Account     string    `json:"account"`
	Domains     []string  `json:"domains"`
	MinInterval span      `json:"min_interval"`
	EmptyTurns  bool      `json:"empty_turns"`
	Linger      span      `json:"linger"`
	LongPoll    span      `json:"long_poll"`
	KeepLarge   bool      `json:"keep_large"`
	Host        string    `json:"host,omitempty"`
	Budget      int64     `json:"budget,omitempty"`
	Largest     int64     `json:"largest,omitempty"`
	Quota       Quota     `json:"quota,omitzero"`
	LastContact time.Time `json:"last_contact,omitzero"`
}

// span is a time written as "5m0s".
type span time.Duration

// MarshalText implements encoding.TextMarshaler.
func (s span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no time such as \"5m0s\"", text)
	}
	*s = span(d)
	return nil
}

func (c *Customer) written() written {
	return written{
		c.Account, c.Domains, span(c.MinInterval), c.EmptyTurns, span(c.Linger), span(c.LongPoll), c.KeepLarge, c.Host, c.Budget, c.Largest,
		c.Quota, c.LastContact,
	}
}

// MarshalJSON writes times as "5m0s" and leaves out a contact that never was.
func (c Customer) MarshalJSON() ([]byte, error) { return json.Marshal(c.written()) }

// UnmarshalJSON reads what MarshalJSON writes. What is not there stays as it is; what nobody knows is an error.
func (c *Customer) UnmarshalJSON(text []byte) error {
	w := c.written()
	w.Domains = slices.Clone(w.Domains) // which others may be reading
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return err
	}
	*c = Customer{
		w.Account, w.Domains, time.Duration(w.MinInterval), w.EmptyTurns, time.Duration(w.Linger), time.Duration(w.LongPoll), w.KeepLarge, w.Host,
		w.Budget, w.Largest, w.Quota, c.Disabled, w.LastContact,
	}
	return nil
}

// Alias is an address that stands for another one.
type Alias struct {
	Alias  message.Address `json:"alias"`
	Target message.Address `json:"target"`
}

// Certificate is a client certificate's public key that logs in to an account (RFC 4422 §A).
type Certificate struct {
	Fingerprint string `json:"fingerprint"` // SHA-256 of the SubjectPublicKeyInfo, 64 lower-case hexadecimal digits
	Account     string `json:"account"`
}

// The questions of the mail path. They are answered from memory, so that the hot path does no I/O.

// Local reports whether domain has mailboxes here, or is this server's own name.
func (d *Directory) Local(domain string) bool { return d.state.Load().isLocal(canonicalDomain(domain)) }

// Held returns the customer whose mail for domain waits here.
func (d *Directory) Held(domain string) (account string, ok bool) {
	account, ok = d.state.Load().held[canonicalDomain(domain)]
	return account, ok
}

// Chief returns the chief local domain, which an address without a domain means; "" when none is local.
func (d *Directory) Chief() string { return d.state.Load().chief }

// Resolve returns the accounts an address is delivered to: aliases followed, subaddress "+detail" stripped, postmaster known. At this
// server's own name everybody is known who is known in the chief domain.
func (d *Directory) Resolve(a message.Address) (accounts []string) {
	return d.state.Load().resolve(canonical(a))
}

// Names returns the local parts that somebody has in a domain, as an address or an alias, sorted. Resolve knows more: details behind them, and
// postmaster.
func (d *Directory) Names(domain string) (locals []string) {
	return d.state.Load().names(canonicalDomain(domain))
}

// Last returns who gets mail that this site must not lose when Resolve knows nobody: the postmaster's account, for every name at
// this server's own name and for postmaster anywhere here. It is ok with nobody while there is no account yet: such mail waits.
func (d *Directory) Last(a message.Address) (accounts []string, ok bool) {
	return d.state.Load().last(canonical(a))
}

// MaySend reports whether the account may use a as its sender.
func (d *Directory) MaySend(account string, a message.Address) bool {
	return d.state.Load().maySend(canonicalName(account), canonical(a))
}

// MaySendTo reports whether the account may write to a.
func (d *Directory) MaySendTo(account string, a message.Address) bool {
	return d.state.Load().maySendTo(canonicalName(account), canonical(a))
}

// Address returns the chief address of an account; false if it has none.
func (d *Directory) Address(account string) (message.Address, bool) {
	a, ok := d.state.Load().accounts[canonicalName(account)]
	if !ok || len(a.Addresses) == 0 {
		return message.Address{}, false
	}
	return a.Addresses[0], true
}

// Rights returns what SetRights set; the zero Rights for an account that has none, or that there is not.
func (d *Directory) Rights(account string) Rights {
	return d.state.Load().rightsOf(canonicalName(account))
}

// What there is, also from memory. The slices are the caller's own.

// Account returns one account, or ErrNotFound.
func (d *Directory) Account(_ context.Context, name string) (Account, error) {
	a, err := d.state.Load().account(canonicalName(name))
	if err != nil {
		return Account{}, err
	}
	return a.clone(), nil
}

// Accounts returns all accounts, the oldest first.
func (d *Directory) Accounts(context.Context) ([]Account, error) {
	s := d.state.Load()
	all := make([]Account, 0, len(s.order))
	for _, name := range s.order {
		all = append(all, s.accounts[name].clone())
	}
	return all, nil
}

// Aliases returns all aliases, sorted.
func (d *Directory) Aliases(context.Context) ([]Alias, error) {
	return d.state.Load().listAliases(), nil
}

// Domains returns the local domains, the chief one first, the others sorted.
func (d *Directory) Domains(context.Context) ([]string, error) {
	return d.state.Load().listDomains(), nil
}

// Certificates returns the public keys that log in, sorted by account.
func (d *Directory) Certificates(context.Context) ([]Certificate, error) {
	return d.state.Load().listCertificates(), nil
}

// Customer returns one customer, or ErrNotFound.
func (d *Directory) Customer(_ context.Context, account string) (Customer, error) {
	c, err := d.state.Load().customer(canonicalName(account))
	if err != nil {
		return Customer{}, err
	}
	return d.contacts.overlay(c), nil
}

// Customers returns all customers, sorted by account.
func (d *Directory) Customers(ctx context.Context) ([]Customer, error) {
	all, _, err := d.CustomersAfter(ctx, "", math.MaxInt)
	return all, err
}

// CustomersAfter returns the customers behind an account in their order, at most limit of them, and whether there are more.
func (d *Directory) CustomersAfter(_ context.Context, account string, limit int) (page []Customer, more bool, err error) {
	page, more = d.state.Load().customersAfter(canonicalName(account), limit)
	for i := range page {
		page[i] = d.contacts.overlay(page[i])
	}
	return page, more, nil
}

// CustomerCount returns how many customers there are.
func (d *Directory) CustomerCount() int { return len(d.state.Load().customers) }
