package dhcp6

import "fmt"

// MessageType is what a message is (RFC 9915 §7.3).
type MessageType byte

// The message types.
const (
	Solicit            MessageType = 1
	Advertise          MessageType = 2
	Request            MessageType = 3
	Confirm            MessageType = 4
	Renew              MessageType = 5
	Rebind             MessageType = 6
	Reply              MessageType = 7
	Release            MessageType = 8
	Decline            MessageType = 9
	Reconfigure        MessageType = 10
	InformationRequest MessageType = 11
	RelayForward       MessageType = 12
	RelayReply         MessageType = 13
)

var messageNames = [...]string{
	"", "Solicit", "Advertise", "Request", "Confirm", "Renew", "Rebind", "Reply", "Release", "Decline", "Reconfigure",
	"Information-request", "Relay-forward", "Relay-reply",
}

func (t MessageType) String() string {
	if int(t) < len(messageNames) && t != 0 {
		return messageNames[t]
	}
	return fmt.Sprintf("message %d", byte(t))
}

// Code is an option's (RFC 9915 §24, RFC 3646, RFC 4704).
type Code uint16

// The options that have a meaning here; all others pass as they are.
const (
	ClientID           Code = 1
	ServerID           Code = 2
	IANonTemporary     Code = 3
	IATemporary        Code = 4 // obsolete: RFC 9915 §21.5
	IAAddress          Code = 5
	OptionRequest      Code = 6
	Preference         Code = 7
	ElapsedTime        Code = 8
	RelayMessage       Code = 9
	Authentication     Code = 11
	ServerUnicast      Code = 12 // obsolete: RFC 9915 §21.12
	StatusCode         Code = 13
	RapidCommit        Code = 14
	UserClass          Code = 15
	VendorClass        Code = 16
	VendorOptions      Code = 17
	InterfaceID        Code = 18
	ReconfigureMessage Code = 19
	ReconfigureAccept  Code = 20
	DNSServers         Code = 23 // RFC 3646
	DomainList         Code = 24 // RFC 3646
	IAPrefixDelegation Code = 25
	IAPrefix           Code = 26
	InformationRefresh Code = 32
	ClientFQDN         Code = 39 // RFC 4704
	NTPServer          Code = 56 // RFC 5908
	SolMaxRT           Code = 82
	InfMaxRT           Code = 83
)

// StatusValue is what became of a request (RFC 9915 §7.5).
type StatusValue uint16

// The status codes.
const (
	Success       StatusValue = 0
	UnspecFail    StatusValue = 1
	NoAddrsAvail  StatusValue = 2
	NoBinding     StatusValue = 3
	NotOnLink     StatusValue = 4
	UseMulticast  StatusValue = 5 // obsolete
	NoPrefixAvail StatusValue = 6
)

var statusNames = [...]string{"Success", "UnspecFail", "NoAddrsAvail", "NoBinding", "NotOnLink", "UseMulticast", "NoPrefixAvail"}

func (s StatusValue) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint16(s))
}
