package dhcp4

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"
)

// Prober asks whether an address is in use. RFC 2131 §3.1 (2): before it is offered a server should.
type Prober interface {
	// InUse reports whether anybody but the asking client answers for the address before ctx ends. An error means: it could not be asked.
	InUse(ctx context.Context, q Question) (bool, error)
}

// Question is what a Prober is asked.
type Question struct {
	Addr     netip.Addr
	Link     *Link
	Hardware []byte // of the client, whose own answer does not count
	Relayed  bool   // the client is not on Link, so ARP does not reach it
}

// asker4 is the Prober of this machine: ARP on a link, ping behind a relay.
type asker4 struct{}

func (asker4) InUse(ctx context.Context, q Question) (bool, error) {
	if q.Relayed {
		return ping(ctx, q.Addr)
	}
	return arp(ctx, q)
}

// deadline is when ctx ends; an unbounded ctx is no question that can be answered.
func deadline(ctx context.Context) time.Time {
	d, ok := ctx.Deadline()
	if !ok {
		return time.Now().Add(time.Second)
	}
	return d
}

const (
	echoRequest = 8 // RFC 792, "Echo or Echo Reply Message"
	echoReply   = 0
)

// ping sends one ICMP Echo Request and waits for its reply.
func ping(ctx context.Context, a netip.Addr) (bool, error) {
	conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := conn.SetDeadline(deadline(ctx)); err != nil {
		return false, err
	}
	mark := rand.Uint32() // identifier and sequence number
	msg := binary.BigEndian.AppendUint32([]byte{echoRequest, 0, 0, 0}, mark)
	binary.BigEndian.PutUint16(msg[2:], checksum(0, msg))
	if _, err := conn.WriteTo(msg, &net.IPAddr{IP: a.AsSlice()}); err != nil {
		return false, nil // no route: nobody is there
	}
	b := make([]byte, MaxSize)
	for {
		n, from, err := conn.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		ip, ok := from.(*net.IPAddr)
		if ok && n >= 8 && b[0] == echoReply && binary.BigEndian.Uint32(b[4:]) == mark && ip.IP.Equal(a.AsSlice()) {
			return true, nil
		}
	}
}

// checksum is the Internet checksum of b, going on from sum. RFC 1071 §1.
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
