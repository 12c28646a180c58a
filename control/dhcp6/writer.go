package dhcp6

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// writer appends options to a message. What holds others is opened and closed; its length is filled in then.
type writer struct {
	b []byte
}

// start begins a message.
func (w *writer) start(t MessageType, xid uint32) {
	w.b = append(w.b, byte(t), byte(xid>>16), byte(xid>>8), byte(xid))
}

// open begins an option and returns what close wants.
func (w *writer) open(code Code) int {
	w.b = binary.BigEndian.AppendUint16(w.b, uint16(code))
	w.b = append(w.b, 0, 0)
	return len(w.b)
}

// close ends an option. One of more than 65,535 octets is taken back: it cannot be said.
func (w *writer) close(at int) {
	size := len(w.b) - at
	if size > 1<<16-1 {
		w.b = w.b[:at-4]
		return
	}
	binary.BigEndian.PutUint16(w.b[at-2:], uint16(size))
}

func (w *writer) put(code Code, value []byte) {
	at := w.open(code)
	w.b = append(w.b, value...)
	w.close(at)
}

func (w *writer) empty(code Code) { w.close(w.open(code)) }

func (w *writer) uint16(v uint16) { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) uint32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }

// time writes a duration in seconds.
func (w *writer) time(code Code, d time.Duration) {
	at := w.open(code)
	w.uint32(seconds(d))
	w.close(at)
}

func (w *writer) status(s Status) {
	at := w.open(StatusCode)
	w.uint16(uint16(s.Code))
	w.b = append(w.b, s.Text...)
	w.close(at)
}

// openIA begins an IA; its resources and status follow.
func (w *writer) openIA(ia IA) int {
	at := w.open(ia.Code)
	w.uint32(ia.IAID)
	w.uint32(seconds(ia.T1))
	w.uint32(seconds(ia.T2))
	return at
}

// resource writes an address into an IA_NA, or a prefix into an IA_PD.
func (w *writer) resource(in Code, r Resource) {
	addr := r.Prefix.Addr().As16()
	if in == IAPrefixDelegation {
		at := w.open(IAPrefix)
		w.uint32(seconds(r.Preferred))
		w.uint32(seconds(r.Valid))
		w.b = append(w.b, byte(r.Prefix.Bits()))
		w.b = append(append(w.b, addr[:]...), r.Options...)
		w.close(at)
		return
	}
	at := w.open(IAAddress)
	w.b = append(w.b, addr[:]...)
	w.uint32(seconds(r.Preferred))
	w.uint32(seconds(r.Valid))
	w.b = append(w.b, r.Options...)
	w.close(at)
}

// addresses writes a list of addresses in order; an empty list is not written.
func (w *writer) addresses(code Code, all []netip.Addr) {
	if len(all) == 0 {
		return
	}
	at := w.open(code)
	for _, a := range all {
		b := a.As16()
		w.b = append(w.b, b[:]...)
	}
	w.close(at)
}

// Wrap appends to b a message in the Relay-reply messages that take it back the way it came (RFC 9915 §19.3): each layer returns its
// Interface-Id (§21.18). What else it may ask to have back (RFC 4994) is not supported. Layers are those of Unwrap.
func Wrap(b []byte, layers []Layer, message []byte) []byte {
	w := writer{b}
	var places [maxLayers]int
	open := places[:0]
	for i := range layers {
		l := &layers[i]
		link, peer := l.Link.As16(), l.Peer.As16()
		w.b = append(w.b, byte(RelayReply), l.Hops)
		w.b = append(append(w.b, link[:]...), peer[:]...)
		if id, ok := l.find(InterfaceID); ok {
			w.put(InterfaceID, id)
		}
		open = append(open, w.open(RelayMessage))
	}
	w.b = append(w.b, message...)
	for i := len(open) - 1; i >= 0; i-- {
		w.close(open[i])
	}
	return w.b
}
