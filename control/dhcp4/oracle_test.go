package dhcp4

import (
	"bytes"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// usual is a DHCPREQUEST as dhclient sends it, through a relay agent.
func usual() []byte {
	p := fromClient(Request)
	p.Set(ClientIdentifier, []byte{1, 2, 0, 0, 0, 0, 7})
	p.Set(RequestedAddress, []byte{192, 0, 2, 100})
	p.Set(ServerIdentifier, []byte{192, 0, 2, 1})
	p.Set(ParameterRequestList, []byte{1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42, 69, 70})
	p.Set(HostName, []byte("meter"))
	p.Set(MaximumMessageSize, []byte{5, 220})
	p.Set(RelayAgentInformation, []byte("\x01\x04eth1"))
	b, _ := p.AppendTo(nil, MaxSize, false)
	return b
}

// FuzzOracle: what another implementation reads, ours reads, and the same; but for what it cannot read: overload and BOOTP.
func FuzzOracle(f *testing.F) {
	f.Add(usual())
	f.Fuzz(func(t *testing.T, b []byte) {
		theirs, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		var ours Packet
		err = ours.Parse(b)
		if theirs.OpCode != dhcpv4.OpcodeBootRequest && theirs.OpCode != dhcpv4.OpcodeBootReply || len(b) > 28 && b[2] > chaddrSize || theirs.Options.Has(dhcpv4.OptionOptionOverload) {
			return // refused, or read in full, by ours alone
		}
		if err != nil {
			t.Fatalf("refused: %v, %v", err, theirs)
		}
		if ours.XID != uint32FromID(theirs.TransactionID) || ours.Secs != theirs.NumSeconds || ours.Flags != theirs.Flags || !theirs.GatewayIPAddr.Equal(ours.GIAddr.AsSlice()) {
			t.Errorf("%+v, %v", ours, theirs)
		}
		for code, value := range theirs.Options {
			if got, ok := ours.Get(Code(code)); Code(code) != Pad && (!ok || !bytes.Equal(got, value)) {
				t.Errorf("option %d: %x, %x", code, got, value)
			}
		}
		if len(ours.Options) != len(theirs.Options) {
			t.Errorf("%d options, %d", len(ours.Options), len(theirs.Options))
		}
	})
}

func uint32FromID(id dhcpv4.TransactionID) uint32 {
	return uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3])
}

// BenchmarkCodec reads a packet and writes it.
func BenchmarkCodec(b *testing.B) {
	raw := usual()
	b.Run("bothy", func(b *testing.B) {
		b.ReportAllocs()
		var p Packet
		out := make([]byte, 0, MaxSize)
		for b.Loop() {
			if err := p.Parse(raw); err != nil {
				b.Fatal(err)
			}
			p.AppendTo(out[:0], MaxSize, true)
		}
	})
	b.Run("insomniacslk", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, err := dhcpv4.FromBytes(raw)
			if err != nil {
				b.Fatal(err)
			}
			p.ToBytes()
		}
	})
}
