package dhcp6

import (
	"crypto/hmac"
	"crypto/md5" // RFC 9915 §20.4 has no other
	"encoding/binary"
	"net/netip"

	"bothy/control/lease"
)

// The fields of an Authentication option of the Reconfiguration Key Authentication Protocol: RFC 9915 §20.4.1.
const (
	rkapProtocol  = 3
	rkapAlgorithm = 1
	rkapMethod    = 0 // of replay detection: a number that grows
	rkapKey       = 1
	rkapDigest    = 2

	rkapHead = 3 + 8 + 1 // before the key or the digest
	rkapSize = rkapHead + md5.Size
)

// reconfigurable tells a client that we may wake it, and in a Reply by which key it knows us then (RFC 9915 §20.4.2).
func (m *machine) reconfigurable(c *asker, w *writer, t MessageType) {
	if !c.accept {
		return
	}
	w.empty(ReconfigureAccept)                             // §18.3.2, §18.3.9
	if t == Reply && c.Type != Renew && c.Type != Rebind { // which the client has the key from already
		key := m.key(c.id)
		m.authentication(w, rkapKey, key)
	}
}

// authentication writes the option, and returns where its key or digest stands.
func (m *machine) authentication(w *writer, kind byte, value [md5.Size]byte) int {
	m.stamp = max(m.stamp+1, uint64(m.leases.Now().UnixNano())) // §20.3: the store's clock never goes back, over restarts too
	at := w.open(Authentication)
	w.b = append(w.b, rkapProtocol, rkapAlgorithm, rkapMethod)
	w.b = binary.BigEndian.AppendUint64(w.b, m.stamp)
	w.b = append(w.b, kind)
	place := len(w.b)
	w.b = append(w.b, value[:]...)
	w.close(at)
	return place
}

// key is a client's reconfigure key. It is derived from the server's secret, so nothing has to be remembered (§20.4.2: not predictable).
func (m *machine) key(id lease.ID) [md5.Size]byte {
	return [md5.Size]byte(m.keyed(append([]byte("reconfigure key "), id...)))
}

// waking writes a Reconfigure message that makes a client send a message of kind (RFC 9915 §18.3.11). Its Option Request names the mail
// servers (the draft, §7): that definition is what §18.3.11 wants before another option may be in it.
func (m *machine) waking(id lease.ID, kind MessageType) []byte {
	w := &writer{}
	w.start(Reconfigure, 0)
	w.put(ServerID, m.duid)
	w.put(ClientID, []byte(id))
	w.put(ReconfigureMessage, []byte{byte(kind)})
	if mail := &m.plan.Mail; mail.IMAPCode+mail.POP3Code+mail.SMTPCode > 0 {
		at := w.open(OptionRequest)
		for _, code := range []int{mail.IMAPCode, mail.POP3Code, mail.SMTPCode} {
			if code != 0 {
				w.uint16(uint16(code))
			}
		}
		w.close(at)
	}
	place := m.authentication(w, rkapDigest, [md5.Size]byte{})
	key := m.key(id)
	mac := hmac.New(md5.New, key[:])
	mac.Write(w.b)
	mac.Sum(w.b[:place])
	return w.b
}

// maxPath bounds the way to a client that a lease remembers; who is further away is not woken.
const maxPath = 1024

// path is the way back to a client, for its lease or, without one, for wakes: the interface, the address, and the relay agents as an empty message in the Relay-reply
// messages that lead there. nil where it is not needed.
//
//	length u8, the interface's name | address 16, port u16 | Relay-reply messages
func (m *machine) path(c *asker) []byte {
	if !c.accept {
		return nil
	}
	to := c.Source.Addr().As16()
	b := append(append([]byte{byte(len(c.Arrival.Link.Name))}, c.Arrival.Link.Name...), to[:]...)
	b = binary.BigEndian.AppendUint16(b, c.Source.Port())
	if b = Wrap(b, c.relays, nil); len(b) > maxPath {
		return nil
	}
	return b
}

// along reads a path and returns where a message goes: to, out of the interface named link, as a whole datagram.
func along(path, message []byte) (to netip.AddrPort, link string, datagram []byte, ok bool) {
	if len(path) < 1 || len(path) < 1+int(path[0])+addrSize+2 {
		return to, "", nil, false
	}
	link, path = string(path[1:1+path[0]]), path[1+path[0]:]
	to = netip.AddrPortFrom(netip.AddrFrom16([16]byte(path)), binary.BigEndian.Uint16(path[addrSize:]))
	var layers []Layer
	for rest := path[addrSize+2:]; len(rest) > 0; {
		l, inner, err := parseLayer(rest)
		if err != nil || len(layers) == maxLayers {
			return to, "", nil, false
		}
		layers, rest = append(layers, l), inner
	}
	if len(layers) == 0 {
		return netip.AddrPortFrom(to.Addr(), ClientPort), link, message, true
	}
	return to, link, Wrap(nil, layers, message), true
}
