package relay

import (
	"context"
	"io"
	"net/netip"
	"regexp"
	"strings"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// introduce tells a server on this side of the uplink, if it wants to know (XCLIENT), who sent the message to the provider that held it for us:
// it would see this machine, which it may trust to relay. What cannot be told for certain is told as unknown, once somebody else was named.
func (w *worker) introduce(ctx context.Context, lease *queue.Lease) {
	s := w.session
	if _, ok := s.client.Has("XCLIENT"); !ok || w.lane.Kind() != "lan" {
		return
	}
	origin := originOf(w.relay.o.Hostname, lease.Open)
	if origin == s.origin {
		return
	}
	if err := s.client.XClient(ctx, origin); err != nil {
		w.relay.o.Log.Warn("origin not told", "lane", w.lane, "remote", s.remote, "err", err)
		return // where the session is lost, the transfer will see it
	}
	s.origin = origin
}

// maxHead is how much of a message is looked at for its trace, in octets.
const maxHead = 64 << 10

// received is a Received field as Bothy writes it, unfolded: who came, from where, and to whom.
var received = regexp.MustCompile(`^from (\S+) \(\[(?:IPv6:)?([0-9A-Fa-f.:]+)\]\) by (\S+) (?:via (\S+) )?with `)

// originOf reads out of a message who sent it to the provider from which it was fetched: what the provider, and nobody else, has written below
// our own Received field, which says that the message came over a turned connection. The zero Origin for every other message.
func originOf(hostname string, open func() (io.ReadCloser, error)) smtp.Origin {
	body, err := open()
	if err != nil {
		return smtp.Origin{}
	}
	defer body.Close()
	header, _, err := message.ReadHeader(body, maxHead)
	if err != nil {
		return smtp.Origin{}
	}
	fields := header.All("Received")
	if len(fields) < 2 {
		return smtp.Origin{}
	}
	ours, theirs := trace(fields[0]), trace(fields[1])
	if ours == nil || theirs == nil || !strings.EqualFold(ours[3], hostname) || ours[4] != "ODMR" || !strings.EqualFold(theirs[3], ours[1]) {
		return smtp.Origin{}
	}
	addr, err := netip.ParseAddr(theirs[2])
	if err != nil {
		return smtp.Origin{}
	}
	return smtp.Origin{Addr: addr, Helo: theirs[1]}
}

func trace(field string) []string {
	return received.FindStringSubmatch(strings.Join(strings.Fields(field), " "))
}
