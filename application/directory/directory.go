package directory

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
)

// ErrNotFound says that there is no such account, domain or customer.
var ErrNotFound = errors.New("directory: not found")

// Directory is the SQLite file of accounts, domains, aliases and ODMR customers. Changes count at once, also those another
// process (the command line) makes. Safe for concurrent use.
type Directory struct{}

// Open opens or creates the file. Close it.
func Open(ctx context.Context, file string) (*Directory, error) { panic("contract") }
func (d *Directory) Close() error                               { panic("contract") }

// Account is somebody who logs in: a person with addresses, or an ODMR customer.
type Account struct {
	Name      string            // "keeper@clinic.example" for a person, "clinic" for a customer
	Addresses []message.Address // delivered here, and may be used as sender; the first is the chief one
	CRAM      bool              // opted in to CRAM-MD5
	Disabled  bool
	Created   time.Time
}

// Customer is an account that calls for the mail of its domains (RFC 2645).
type Customer struct {
	Account     string
	Domains     []string      // lower-case A-labels
	MinInterval time.Duration // between calls; 0: none (RFC 2645 §5.2.1, 450)
	EmptyTurns  bool          // answer 250 and QUIT where there is no mail, in place of 453
	LastContact time.Time
}

// sasl.Accounts
func (d *Directory) Verifier(ctx context.Context, username string) (sasl.Verifier, error) {
	panic("contract")
}

func (d *Directory) Certificate(ctx context.Context, cert *x509.Certificate) (string, error) {
	panic("contract")
}

// AddAccount stores a with the SCRAM verifier of password (and, if a.CRAM, the password itself). Its addresses' domains become local.
func (d *Directory) AddAccount(ctx context.Context, a Account, password string) error {
	panic("contract")
}

func (d *Directory) SetPassword(ctx context.Context, name, password string) error { panic("contract") }

func (d *Directory) RemoveAccount(ctx context.Context, name string) error { panic("contract") }

func (d *Directory) Accounts(ctx context.Context) ([]Account, error) { panic("contract") }

func (d *Directory) Account(ctx context.Context, name string) (Account, error) { panic("contract") }

func (d *Directory) AddAlias(ctx context.Context, alias, target message.Address) error {
	panic("contract")
}

// AddCustomer makes an existing account a customer for domains.
func (d *Directory) AddCustomer(ctx context.Context, c Customer) error { panic("contract") }

func (d *Directory) RemoveCustomer(ctx context.Context, account string) error { panic("contract") }

func (d *Directory) Customers(ctx context.Context) ([]Customer, error) { panic("contract") }

func (d *Directory) Customer(ctx context.Context, account string) (Customer, error) {
	panic("contract")
}

// Contact notes a call of the customer.
func (d *Directory) Contact(ctx context.Context, account string, now time.Time) error {
	panic("contract")
}

// The questions of the mail path. They are answered from memory, so that the hot path does no I/O.

// Local reports whether domain has mailboxes here; Held which customer's mail for domain waits here.
func (d *Directory) Local(domain string) bool                     { panic("contract") }
func (d *Directory) Held(domain string) (account string, ok bool) { panic("contract") }

// Resolve returns the accounts an address is delivered to: aliases followed, subaddress "+detail" stripped, postmaster known.
func (d *Directory) Resolve(a message.Address) (accounts []string) { panic("contract") }

// MaySend reports whether the account may use a as its sender.
func (d *Directory) MaySend(account string, a message.Address) bool { panic("contract") }
