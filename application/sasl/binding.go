package sasl

import "crypto/tls"

// binding is the channel binding of a connection: its type's name and its data (RFC 5056 §2).
type binding struct {
	name string
	data []byte
}

// binding returns what ch can be bound by: the default type of its TLS version and no other, so that both sides agree unasked.
func (ch Channel) binding() (b binding, ok bool) {
	switch {
	case ch.TLS == nil:
		return binding{}, false
	case ch.TLS.Version <= tls.VersionTLS12:
		// RFC 9266 §3: tls-unique stays the default over TLS 1.2. crypto/tls leaves it empty where RFC 7677 §4 forbids it: in a resumed
		// session without the extended master secret.
		return binding{"tls-unique", ch.TLS.TLSUnique}, len(ch.TLS.TLSUnique) > 0
	case !ch.TLS.HandshakeComplete: // nothing to export yet; nor from a state made by hand
		return binding{}, false
	}
	// RFC 9266 §2: a zero-length context, 32 octets. crypto/tls refuses where §4.2 forbids it: with renegotiation enabled.
	data, err := ch.TLS.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
	return binding{"tls-exporter", data}, err == nil
}
