package message

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Envelope is what SMTP carries about a message beside its content (RFC 5321 §2.3.1). It is a value:
// whoever keeps one longer than a call copies it with Clone.
type Envelope struct {
	ID          ID      // given by the server that received the message: in Received, in the log, in the spool
	ReversePath Address // the zero Address is the null reverse-path <> (RFC 5321 §4.5.5)
	Recipients  []Recipient
	Body        BodyType // BODY= (RFC 6152 §3, RFC 3030 §3)
	UTF8        bool     // SMTPUTF8 (RFC 6531 §3.4)
	Size        int64    // SIZE= as declared, octets; 0 when not declared (RFC 1870 §5)
	Return      Return   // RET= (RFC 3461 §4.3)
	EnvelopeID  string   // ENVID=, xtext decoded (RFC 3461 §4.4); at most 100 characters
	Submitter   string   // AUTH=, xtext decoded; "<>" when not known (RFC 4954 §5)
	Account     string   // the account that submitted it here; empty when it came from another server

	// Unverified says that the reverse-path may be forged: the message came from outside, and neither SPF nor DKIM vouches for its domain.
	// Nothing is to be sent there. False too where nobody looked.
	Unverified bool

	Priority   int8          // MT-PRIORITY=, -9 to 9, the higher first (RFC 6710 §5)
	RequireTLS bool          // REQUIRETLS: goes to no server that does not prove who it is and promise the same (RFC 8689 §4.2.1)
	DeliverBy  Deadline      // BY= (RFC 2852 §4)
	HoldUntil  time.Time     // HOLDUNTIL=, or HOLDFOR= from when it came: not sent before; UTC, whole seconds; zero when not given (RFC 4865 §4.2)
	HoldFor    time.Duration // HOLDFOR= as given, whole seconds: a notice quotes it (RFC 4865 §5.1.2); 0 when not given

	// What the header section says to transfer agents, once its end has been read.
	Solicit     string // SOLICIT=, then the keywords of the field Solicitation, if it has one (RFC 3865 §2.7)
	TLSOptional bool   // TLS-Required: No (RFC 8689 §3); RequireTLS is the stronger

	Transaction Transaction // what its client may come back for (RFC 1845 §3)
	Tracking    Tracking    // MTRK= (RFC 3885 §3.1)

	// What an Acceptor uses and the queue does not keep.
	Client netip.Addr // the SMTP client that brought it; the zero Addr if the connection had none
	Helo   string     // what that called itself
	Trace  []byte     // header fields, with their CRLFs, that belong before the text but are known only at its end: Accept puts them there
}

// Clone returns a copy that shares nothing with e.
func (e Envelope) Clone() Envelope {
	e.Recipients, e.Transaction.To = slices.Clone(e.Recipients), slices.Clone(e.Transaction.To)
	return e
}

// Recipient is one forward-path with its delivery status parameters.
type Recipient struct {
	Address  Address
	Notify   Notify // NOTIFY= (RFC 3461 §4.1); zero when not given
	Original string // ORCPT= as given, "type;xtext", at most 500 characters (RFC 3461 §4.2)
}

// Deadline is the BY parameter of MAIL (RFC 2852 §4): when a message should have reached its recipients. The zero Deadline is none.
type Deadline struct {
	At     time.Time // UTC, whole seconds
	Return bool      // by-mode "R": if it is late it goes back; else "N": it is delivered all the same and the sender is told
	Trace  bool      // by-trace "T": the sender is told of every relay
}

// Tracking is the MTRK parameter of MAIL: what was asked for by somebody who wants to query what became of the message (RFC 3885 §3.1). The
// zero Tracking asks for nothing.
type Tracking struct {
	Certifier string    // the SHA-1 of the sender's secret, 20 octets
	Until     time.Time // how long the answer is to be kept; UTC, whole seconds
}

// BodyType is the BODY parameter of MAIL.
type BodyType uint8

// The body types, in rising order of what a next hop must be able to carry.
const (
	Body7Bit   BodyType = iota // RFC 6152 §3; also when BODY is not given
	Body8Bit                   // RFC 6152 §3: 8BITMIME
	BodyBinary                 // RFC 3030 §3: BINARYMIME
)

// Return is the RET parameter of MAIL: how much of a message a failure notice returns.
type Return uint8

// RFC 3461 §4.3.
const (
	ReturnUnset Return = iota
	ReturnFull
	ReturnHeaders
)

// Notify is the set of events a recipient's sender wants to hear of.
type Notify uint8

// RFC 3461 §4.1. NotifyNever stands alone.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// ErrParameter says that a text is none of the values of its MAIL or RCPT parameter.
var ErrParameter = errors.New("message: not a value of this parameter")

var bodyTypes = [...]string{Body7Bit: "7BIT", Body8Bit: "8BITMIME", BodyBinary: "BINARYMIME"}

// String writes the value as BODY= has it.
func (b BodyType) String() string { return nameAt(bodyTypes[:], int(b)) }

// MarshalText is String.
func (b BodyType) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads the value of BODY=, in any case (RFC 6152 §3); ErrParameter if it is none.
func (b *BodyType) UnmarshalText(text []byte) error {
	i := indexFold(bodyTypes[:], string(text))
	if i < 0 {
		return ErrParameter
	}
	*b = BodyType(i)
	return nil
}

var returns = [...]string{ReturnUnset: "", ReturnFull: "FULL", ReturnHeaders: "HDRS"}

// String writes the value as RET= has it; "" when unset.
func (r Return) String() string { return nameAt(returns[:], int(r)) }

// MarshalText is String.
func (r Return) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the value of RET=, in any case (RFC 3461 §4.3), or "" for unset; ErrParameter if it is none.
func (r *Return) UnmarshalText(text []byte) error {
	i := indexFold(returns[:], string(text))
	if i < 0 {
		return ErrParameter
	}
	*r = Return(i)
	return nil
}

var notifies = [...]string{"NEVER", "SUCCESS", "FAILURE", "DELAY"} // by bit

// WithoutSuccess is n for the copies of a message whose sender has heard of its success. Who asked for nothing else gets nothing else: no NOTIFY at
// all would ask for failure.
func (n Notify) WithoutSuccess() Notify {
	if n == NotifySuccess {
		return NotifyNever
	}
	return n &^ NotifySuccess
}

// String writes the value as NOTIFY= has it, "SUCCESS,FAILURE"; "" when not given.
func (n Notify) String() string {
	var names []string
	for bit, name := range notifies {
		if n&(1<<bit) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// MarshalText is String.
func (n Notify) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads the value of NOTIFY=, in any case (RFC 3461 §4.1), or "" for not given; ErrParameter if it is none,
// or if NEVER does not stand alone.
func (n *Notify) UnmarshalText(text []byte) error {
	var set Notify
	for name := range strings.SplitSeq(string(text), ",") {
		bit := indexFold(notifies[:], name)
		if bit < 0 && len(text) > 0 {
			return ErrParameter
		}
		if bit >= 0 {
			set |= 1 << bit
		}
	}
	if set&NotifyNever != 0 && set != NotifyNever {
		return ErrParameter
	}
	*n = set
	return nil
}

func nameAt(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "?"
}

func indexFold(names []string, s string) int {
	return slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, s) })
}
