package site

import (
	"time"

	"bothy/application/message"
	"bothy/application/queue"
)

// Event is one step of one message's way, or of the link's, for whoever watches: `bothy try` shows them, tests wait for them.
type Event struct {
	At        time.Time  `json:"at"`
	What      What       `json:"what"`
	ID        message.ID `json:"id,omitzero"`
	Recipient string     `json:"recipient,omitempty"`
	Lane      queue.Lane `json:"lane,omitempty"`
	Text      string     `json:"text,omitempty"` // the peer's reply, why the link changed
}

// What happened.
type What string

// The steps, in the order of a message's way.
const (
	Received  What = "received"  // the end of data has come
	OnDisk    What = "on disk"   // synced: the 250 goes out now
	Routed    What = "routed"    // in the lane of what carries it on
	Held      What = "held"      // in the lane of a customer, until it calls
	Called    What = "called"    // this site has called the provider
	Turned    What = "turned"    // the provider has turned a connection round
	Relayed   What = "relayed"   // the next hop has it
	Delivered What = "delivered" // in the mailbox
	LinkUp    What = "link up"
	LinkDown  What = "link down"
)
