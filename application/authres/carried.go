package authres

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Carried takes mail that a provider brings and has looked at when it came (RFC 8601 §5). It believes the provider's field if that came over a
// connection that proves who he is and if nobody else can have written it, removes all that claim to be his or ours, and knows from it whether the reverse-path
// is vouched for. It is an smtp.Acceptor.
type Carried struct {
	Hostname string // whose name nobody else may use
	Provider string // whose field is believed: his authserv-id
	// Proven says that the connection proves who the provider is.
	Proven bool
	// Anywhere believes his field wherever it stands: he removes those that are forged. Else it must stand above the Received field that the provider
	// added, where nobody before him could write.
	Anywhere bool
	Next     smtp.Acceptor
}

// Accept gives Next the message without fields that are forged.
func (c *Carried) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	header, rest, err := message.ReadHeader(body, message.DefaultHeaderSize)
	if err != nil && !errors.Is(err, message.ErrHeaderSize) { // a header that is too long may not go back for that: its beginning is what counts
		return err
	}
	believed := c.believed(slices.Collect(header.Fields()))
	remove(&header, func(id string) bool { return sameID(id, c.Hostname) || sameID(id, c.Provider) })
	if believed != nil {
		env.Unverified = !vouches(believed, env.ReversePath)
		header.InsertField(min(1, header.Len()), *believed) // below the Received field of our own
	}
	return c.Next.Accept(ctx, env, header.Reader(rest))
}

// believed is the provider's own field; nil: there is none to believe.
func (c *Carried) believed(fields []message.Field) *message.Field {
	if !c.Proven || c.Provider == "" || sameID(c.Provider, c.Hostname) {
		return nil
	}
	received := 0
	for i, f := range fields {
		if strings.EqualFold(f.Name(), "Received") {
			received++
		}
		if received > 1 && !c.Anywhere { // the first is our own, the second his
			return nil
		}
		if !strings.EqualFold(f.Name(), fieldName) {
			continue
		}
		if id, _, ok := parseResults(f.Value()); ok && sameID(id, c.Provider) {
			return &fields[i]
		}
	}
	return nil
}

// vouches reports whether what a field says stands for the domain of a reverse-path: SPF for it, or DKIM or DMARC for it or one above it.
func vouches(f *message.Field, path message.Address) bool {
	from, _ := path.ASCII()
	if from.IsNull() {
		return true
	}
	_, results, _ := parseResults(f.Value())
	return slices.ContainsFunc(results, func(r result) bool {
		if r.result != Pass {
			return false
		}
		switch r.method {
		case "spf":
			return domainOf(r.get("smtp.mailfrom")) == from.Domain
		case "dkim":
			return covers(domainOf(r.get("header.d")), from.Domain) || covers(domainOf(r.get("header.i")), from.Domain)
		}
		return false
	})
}

// domainOf is the domain of a property's value, an address or a domain, as lower-case A-labels; "" if it has none.
func domainOf(value string) string {
	_, domain, found := cutLast(value, "@")
	if !found {
		domain = value
	}
	name, err := domainName(domain)
	if err != nil {
		return ""
	}
	return name
}

// covers reports whether domain is above or the same as name.
func covers(domain, name string) bool {
	return strings.Contains(domain, ".") && (domain == name || strings.HasSuffix(name, "."+domain))
}
