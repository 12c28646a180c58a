package message

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
}

// Recipient is one forward-path with its delivery status parameters.
type Recipient struct {
	Address  Address
	Notify   Notify // NOTIFY= (RFC 3461 §4.1); zero when not given
	Original string // ORCPT= as given, "type;xtext", at most 500 characters (RFC 3461 §4.2)
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
