package submission

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is what a client did wrong, in words for the operator.
type Kind string

// What clients do wrong (RFC 6409 §5.2).
const (
	NoFrom         Kind = "sends no From"
	NoSender       Kind = "sends several authors in From and no Sender"
	NoDate         Kind = "sends no Date"
	BadDate        Kind = "sends a Date that is no date"
	NoMessageID    Kind = "sends no Message-ID"
	BadMessageID   Kind = "sends a Message-ID that is no id"
	BareAddress    Kind = "sends addresses without a whole domain"
	BadAddress     Kind = "sends header fields that hold no valid addresses"
	OthersName     Kind = "sends in another's name"
	BareLineEnds   Kind = "sends a CR or LF that ends no line in the header"
	RepeatedField  Kind = "sends a field twice that may be there once"
	LongHeader     Kind = "sends a header that is too long"
	NotAllowedTo   Kind = "writes to whom it may not"
	OverAllowance  Kind = "sends more than it may"
	Unauthorized   Kind = "sends without having logged in"
	AgainstPolicy  Kind = "sends what this site forbids"
	NoReturnPath   Kind = "gives no address to answer to"
	OverPostmaster Kind = "writes to postmaster too often"
)

// Fault is one kind of fault of one account's clients.
type Fault struct {
	Account string    `json:"account"` // empty: clients that are not known
	Kind    Kind      `json:"kind"`
	Client  string    `json:"client,omitempty"` // what the last such message says it was written with
	Count   int       `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

const (
	maxFaults  = 1000      // kept; the one longest ago goes first
	tellAgain  = time.Hour // between two lines in the log about the same fault
	tellMost   = 30        // lines in the log in a minute, about all faults (RFC 6409 §5.2: limits against denial of service)
	maxClient  = 100       // octets of Fault.Client
	tellPeriod = time.Minute
)

// Faults counts what clients do wrong, since the start of the program. The zero Faults is ready; it may be shared by agents, is safe for
// concurrent use, and never holds more than a thousand.
type Faults struct {
	mu     sync.Mutex
	faults map[faultKey]*fault
	period time.Time // of the lines counted
	told   int       // lines in it
}

type faultKey struct {
	account string
	kind    Kind
}

type fault struct {
	Fault
	told time.Time
}

// List returns all faults, the latest first.
func (f *Faults) List() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Fault, 0, len(f.faults))
	for _, one := range f.faults {
		all = append(all, one.Fault)
	}
	slices.SortFunc(all, func(a, b Fault) int {
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		return strings.Compare(a.Account+string(a.Kind), b.Account+string(b.Kind))
	})
	return all
}

// note counts a fault, and reports whether the log should tell of it.
func (f *Faults) note(account string, kind Kind, client string, now time.Time) (count int, tell bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.faults == nil {
		f.faults = map[faultKey]*fault{}
	}
	key := faultKey{account, kind}
	one, ok := f.faults[key]
	if !ok {
		f.makeRoom()
		one = &fault{Fault: Fault{Account: account, Kind: kind, First: now}}
		f.faults[key] = one
	}
	one.Count++
	one.Last = now
	if client != "" {
		one.Client = client[:min(len(client), maxClient)]
	}
	if now.Sub(f.period) >= tellPeriod {
		f.period, f.told = now, 0
	}
	if f.told >= tellMost || !one.told.IsZero() && now.Sub(one.told) < tellAgain {
		return one.Count, false
	}
	f.told++
	one.told = now
	return one.Count, true
}

// makeRoom forgets the fault longest ago when there are too many.
func (f *Faults) makeRoom() {
	if len(f.faults) < maxFaults {
		return
	}
	var oldest *fault
	for _, one := range f.faults {
		if oldest == nil || one.Last.Before(oldest.Last) {
			oldest = one
		}
	}
	delete(f.faults, faultKey{oldest.Account, oldest.Kind})
}
