package dhcp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// The sizes of a message, in octets.
const (
	fixedSize  = 236 // everything before the options: RFC 2131 §2
	cookieSize = 4
	minSize    = 300 // RFC 1542 §2.1: what relays and BOOTP clients insist on; shorter packets are padded
	snameSize  = 64
	fileSize   = 128
	chaddrSize = 16
	vendorSize = 64  // the vend field of BOOTP: RFC 951 §3
	maxOption  = 255 // in one option; a longer value is split: RFC 3396 §6
)

// DefaultSize is what every client must be prepared to take as a UDP payload: a datagram of 576 octets less IP and UDP headers
// (RFC 2131 §2). MaxSize is the longest that is sent or read, whatever a client says it can take: one Ethernet frame.
const (
	DefaultSize = 576 - headersSize
	MaxSize     = 1500 - headersSize
	headersSize = 28 // IPv4 and UDP
	maxUDP      = 1<<16 - 1 - headersSize
)

// cookie opens the options (RFC 2131 §3).
var cookie = [cookieSize]byte{99, 130, 83, 99}

// Op is the direction of a message.
type Op byte

// The two directions.
const (
	BootRequest Op = 1
	BootReply   Op = 2
)

// broadcastFlag is the B bit; the other bits of flags must be zero (RFC 2131 §2).
const broadcastFlag = 0x8000

// Packet is a DHCP or BOOTP message (RFC 2131 §2). Addresses are IPv4; the zero Addr and 0.0.0.0 mean the same.
type Packet struct {
	Op     Op
	HType  byte
	HLen   byte // octets of CHAddr that count, at most 16
	Hops   byte
	XID    uint32
	Secs   uint16 // seconds
	Flags  uint16
	CIAddr netip.Addr
	YIAddr netip.Addr
	SIAddr netip.Addr
	GIAddr netip.Addr
	CHAddr [chaddrSize]byte
	SName  [snameSize]byte // zero when it held options
	File   [fileSize]byte  // zero when it held options

	// Plain says that there is no cookie: the packet is from before RFC 1048, and Vendor is what its vend field holds.
	Plain  bool
	Vendor [vendorSize]byte

	// Options are in the order in which they came: the options field, file, sname (RFC 2131 §4.1). A code stands here once:
	// the pieces of a long option are one value (RFC 3396 §7). Pad, End and Option Overload are not kept.
	Options []Option

	joined []byte // holds the values that came in pieces
}

// Option is one option and its whole value, which may be longer than 255 octets.
type Option struct {
	Code  Code
	Value []byte
}

// The faults of a packet. What a packet is refused for is one of them, wrapped.
var (
	ErrShort     = errors.New("dhcp4: shorter than the fixed fields")
	ErrOp        = errors.New("dhcp4: op is neither BOOTREQUEST nor BOOTREPLY")
	ErrHLen      = errors.New("dhcp4: hlen is longer than chaddr")
	ErrTruncated = errors.New("dhcp4: an option is longer than its field")
	ErrOverload  = errors.New("dhcp4: bad Option Overload")
)

// Parse reads b into p, whose memory it uses again: parsing into the same Packet over and over allocates nothing. Values of options
// point into b. After an error p is undefined.
func (p *Packet) Parse(b []byte) error {
	if len(b) < fixedSize { // RFC 1542 §2.1 deviation: it wants 300 octets, but many clients send their options and stop
		return fmt.Errorf("%w: %d octets", ErrShort, len(b))
	}
	*p = Packet{
		Op: Op(b[0]), HType: b[1], HLen: b[2], Hops: b[3],
		XID: binary.BigEndian.Uint32(b[4:]), Secs: binary.BigEndian.Uint16(b[8:]), Flags: binary.BigEndian.Uint16(b[10:]),
		CIAddr: addr4(b[12:]), YIAddr: addr4(b[16:]), SIAddr: addr4(b[20:]), GIAddr: addr4(b[24:]),
		CHAddr:  [chaddrSize]byte(b[28:]),
		Options: p.Options[:0], joined: p.joined[:0],
	}
	sname, file, rest := b[44:108], b[108:fixedSize], b[fixedSize:]
	switch {
	case p.Op != BootRequest && p.Op != BootReply: // RFC 1542 §2.1
		return fmt.Errorf("%w: %d", ErrOp, p.Op)
	case p.HLen > chaddrSize:
		return fmt.Errorf("%w: %d", ErrHLen, p.HLen)
	case len(rest) < cookieSize || [cookieSize]byte(rest) != cookie:
		p.Plain = true
		p.SName, p.File = [snameSize]byte(sname), [fileSize]byte(file)
		copy(p.Vendor[:], rest)
		return nil
	}
	rest = rest[cookieSize:]
	overload, err := p.scan(rest)
	if err != nil {
		return err
	}
	fields := [3][]byte{rest}
	if overload&1 != 0 { // RFC 2131 §4.1: file before sname
		fields[1] = file
		_, err = p.scan(file)
	} else {
		p.File = [fileSize]byte(file)
	}
	if overload&2 != 0 && err == nil {
		fields[2] = sname
		_, err = p.scan(sname)
	} else {
		p.SName = [snameSize]byte(sname)
	}
	if err != nil {
		return err
	}
	p.join(fields)
	return nil
}

// scan notes the options of one field and returns the value of Option Overload, which counts only in the options field. A field
// without End ends where it ends: BOOTP clients do that.
func (p *Packet) scan(field []byte) (overload byte, err error) {
	for len(field) > 0 {
		code, value, rest, err := nextOption(field)
		if err != nil {
			return 0, err
		}
		field = rest
		switch code {
		case Pad:
		case End:
			return overload, nil
		case OptionOverload:
			// RFC 2132 §9.3: 1, 2 or 3, once
			if len(value) != 1 || value[0] < 1 || value[0] > 3 || overload != 0 {
				return 0, ErrOverload
			}
			overload = value[0]
		default:
			p.Options = append(p.Options, Option{code, value})
		}
	}
	return overload, nil
}

// nextOption reads what stands first in a field. RFC 2132 §2.
func nextOption(field []byte) (code Code, value, rest []byte, err error) {
	code = Code(field[0])
	if code == Pad || code == End {
		return code, nil, field[1:], nil
	}
	if len(field) < 2 || len(field) < 2+int(field[1]) {
		return 0, nil, nil, fmt.Errorf("%w: option %d", ErrTruncated, code)
	}
	end := 2 + int(field[1])
	return code, field[2:end:end], field[end:], nil
}

// join makes one value of the pieces of each option that came more than once, where its first piece stands: RFC 3396 §7.
func (p *Packet) join(fields [3][]byte) {
	var seen, twice [256 / 64]uint64
	again := false
	for _, o := range p.Options {
		word, bit := o.Code/64, uint64(1)<<(o.Code%64)
		again = again || seen[word]&bit != 0
		twice[word] |= seen[word] & bit
		seen[word] |= bit
	}
	if !again {
		return
	}
	if room := len(fields[0]) + len(fields[1]) + len(fields[2]); cap(p.joined) < room {
		p.joined = make([]byte, 0, room) // no later piece moves an earlier value
	}
	kept := p.Options[:0]
	for i, o := range p.Options {
		word, bit := o.Code/64, uint64(1)<<(o.Code%64)
		switch {
		case seen[word]&bit == 0: // joined already
			continue
		case twice[word]&bit != 0:
			seen[word] &^= bit
			start := len(p.joined)
			for _, piece := range p.Options[i:] {
				if piece.Code == o.Code {
					p.joined = append(p.joined, piece.Value...)
				}
			}
			o.Value = slices.Clip(p.joined[start:])
		}
		kept = append(kept, o)
	}
	p.Options = kept
}

// AppendTo appends p to b, in at most limit octets (300 at least), and says how many options were left out because they do not fit. Options go out
// in their order, so what matters stands first. With overload, file and sname take options too when the
// options field is full and they are empty (RFC 2131 §4.1). A value longer than 255 octets is split (RFC 3396 §6). Relay Agent
// Information stands last and is the first to find room (RFC 3046 §2.2). The packet is padded to 300 octets.
func (p *Packet) AppendTo(b []byte, limit int, overload bool) (packet []byte, omitted int) {
	limit = min(max(limit, minSize), maxUDP)
	b = slices.Grow(b, limit) // so that nothing moves below
	start := len(b)
	b = p.appendFixed(b)
	if p.Plain {
		return append(b, p.Vendor[:]...), len(p.Options)
	}
	w := writer{field: [3][]byte{append(b, cookie[:]...)}}
	w.room[0] = limit - fixedSize - cookieSize - 1 // 1: End
	relay, hasRelay := p.find(RelayAgentInformation)
	if hasRelay {
		if size := footprint(len(relay.Value)); size <= w.room[0] {
			w.room[0] -= size
		} else {
			hasRelay, omitted = false, 1 // RFC 3046 §2.2: all of it or nothing
		}
	}
	if overload && p.size(OptionOverload, RelayAgentInformation) > w.room[0] {
		w.overload(p, b[start:])
	}
	for _, o := range p.Options {
		if o.Code != RelayAgentInformation && !w.put(o) {
			omitted++
		}
	}
	b = w.field[0]
	if used := w.close(); used != 0 {
		b = append(b, byte(OptionOverload), 1, used)
	}
	if hasRelay {
		b = appendOption(b, relay)
	}
	b = append(b, byte(End))
	if n := minSize - (len(b) - start); n > 0 { // RFC 1542 §2.1
		b = append(b, padding[:n]...)
	}
	return b, omitted
}

var padding [minSize]byte

// appendFixed appends all before the cookie.
func (p *Packet) appendFixed(b []byte) []byte {
	b = append(b, byte(p.Op), p.HType, p.HLen, p.Hops)
	b = binary.BigEndian.AppendUint32(b, p.XID)
	b = binary.BigEndian.AppendUint16(b, p.Secs)
	b = binary.BigEndian.AppendUint16(b, p.Flags)
	for _, a := range [...]netip.Addr{p.CIAddr, p.YIAddr, p.SIAddr, p.GIAddr} {
		b = appendAddr(b, a)
	}
	b = append(b, p.CHAddr[:]...)
	b = append(b, p.SName[:]...)
	return append(b, p.File[:]...)
}

// size is what the options take, those with the codes in not apart.
func (p *Packet) size(not ...Code) (n int) {
	for _, o := range p.Options {
		if !slices.Contains(not, o.Code) {
			n += footprint(len(o.Value))
		}
	}
	return n
}

// writer lays options into the options field, file and sname: the aggregate option buffer of RFC 3396 §5.
type writer struct {
	field [3][]byte // options, file, sname; the last two are views of the packet
	room  [3]int    // octets left for options
}

// overload lets file and sname, as far as they are empty, take options. b is the packet so far.
func (w *writer) overload(p *Packet, b []byte) {
	const overloadSize = 3
	if w.room[0] < overloadSize {
		return
	}
	w.room[0] -= overloadSize
	if p.File == [fileSize]byte{} {
		w.field[1], w.room[1] = b[108:108:fixedSize], fileSize-1 // 1: End, RFC 2131 §4.1
	}
	if p.SName == [snameSize]byte{} {
		w.field[2], w.room[2] = b[44:44:108], snameSize-1
	}
}

// put writes an option, in as few pieces as can be, into the first field with room; false when it does not fit.
func (w *writer) put(o Option) bool {
	if o.Code == Pad || o.Code == End || o.Code == OptionOverload {
		return true // not the caller's to write
	}
	if len(o.Value) > maxOption {
		return w.putLong(o)
	}
	for i := range w.field {
		if 2+len(o.Value) <= w.room[i] {
			w.write(i, o)
			return true
		}
	}
	return false
}

// putLong writes the pieces of a long option one behind the other, never an earlier one in a later field: RFC 3396 §6.
func (w *writer) putLong(o Option) bool {
	room := w.room
	left, i := len(o.Value), 0
	for left > 0 && i < len(room) {
		n := min(room[i]-2, maxOption, left)
		if n <= 0 {
			i++
			continue
		}
		room[i] -= 2 + n
		left -= n
	}
	if left > 0 {
		return false
	}
	for i := 0; len(o.Value) > 0; {
		n := min(w.room[i]-2, maxOption, len(o.Value))
		if n <= 0 {
			i++
			continue
		}
		w.write(i, Option{o.Code, o.Value[:n]})
		o.Value = o.Value[n:]
	}
	return true
}

func (w *writer) write(i int, o Option) {
	w.field[i] = append(append(w.field[i], byte(o.Code), byte(len(o.Value))), o.Value...)
	w.room[i] -= 2 + len(o.Value)
}

// close ends file and sname and returns the value of Option Overload, 0 when neither is used. What follows End is zero already.
func (w *writer) close() (used byte) {
	for i, bit := range [3]byte{0, 1, 2} { // RFC 2132 §9.3: 1 is file, 2 is sname
		if i > 0 && len(w.field[i]) > 0 {
			w.field[i] = append(w.field[i], byte(End))
			used |= bit
		}
	}
	return used
}

// find returns an option.
func (p *Packet) find(code Code) (Option, bool) {
	for _, o := range p.Options {
		if o.Code == code {
			return o, true
		}
	}
	return Option{}, false
}

// footprint is how many octets a value takes in options: two more for each piece.
func footprint(value int) int {
	pieces := max((value+maxOption-1)/maxOption, 1)
	return value + 2*pieces
}

// appendOption appends an option, in pieces when it is long.
func appendOption(b []byte, o Option) []byte {
	for {
		n := min(len(o.Value), maxOption)
		b = append(append(b, byte(o.Code), byte(n)), o.Value[:n]...)
		if o.Value = o.Value[n:]; len(o.Value) == 0 {
			return b
		}
	}
}

func addr4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }

// appendAddr appends an address; the zero Addr is 0.0.0.0.
func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.Is4() {
		return append(b, 0, 0, 0, 0)
	}
	four := a.As4()
	return append(b, four[:]...)
}
