package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Bounds of one lookup.
const (
	queryTimeout = 5 * time.Second
	queryRounds  = 2    // times each server is asked
	maxServers   = 3    // as in resolv.conf(5)
	ednsSize     = 1232 // octets of a UDP answer: fits any path without fragments
)

// lookup finds the records of a name, out of the cache or by asking.
func (d *DNS) lookup(ctx context.Context, name string, qtype uint16) (found, error) {
	now := time.Now()
	if d.Now != nil {
		now = d.Now()
	}
	key := question{strings.ToLower(name), qtype}
	if f, err, ok := d.cache.get(key, now); ok {
		return f, err
	}
	f, err := d.follow(ctx, dns.Fqdn(name), qtype)
	if err == nil && (len(f.records) > 0 || f.proven) || errors.Is(err, ErrNoDomain) {
		d.cache.put(key, f, err, now)
	}
	return f, err
}

// follow asks for a name, and for those that CNAMEs lead to where a server leaves that to us (RFC 7672 §2.1.3).
func (d *DNS) follow(ctx context.Context, name string, qtype uint16) (found, error) {
	all := found{lasts: maxLasting, origin: Origin{Secure: true}}
	for {
		answer, secure, err := d.ask(ctx, name, qtype)
		if err != nil {
			return found{}, err
		}
		f, more, err := read(answer, name, qtype, maxAliases-all.aliases)
		if err != nil {
			return found{}, err
		}
		all.lasts = min(all.lasts, f.lasts)
		all.aliases += f.aliases
		all.records, all.proven = f.records, f.proven
		all.origin.Name, all.origin.Secure = f.origin.Name, all.origin.Secure && secure
		switch {
		case answer.Rcode == dns.RcodeNameError: // RFC 2308 §2.1: of where the CNAMEs lead
			return all, ErrNoDomain
		case !more:
			return all, nil
		}
		name = dns.Fqdn(f.origin.Name) // with one CNAME less to come at least
	}
}

// ask asks the servers in turn until one has an answer; secure says that it is to be believed that DNSSEC vouches for that.
func (d *DNS) ask(ctx context.Context, name string, qtype uint16) (answer *dns.Msg, secure bool, err error) {
	servers, err := d.servers()
	if err != nil {
		return nil, false, err
	}
	query := new(dns.Msg).SetQuestion(name, qtype)
	query.SetEdns0(ednsSize, false)
	query.AuthenticatedData = true // RFC 6840 §5.7: we care for the AD bit, not for the signatures
	withheld := false
	for range queryRounds {
		for _, server := range servers {
			if withheld && !d.believes(server) {
				continue
			}
			if answer, err = d.exchange(ctx, query, server); err == nil {
				err = judge(answer)
			}
			if err == nil {
				return answer, answer.AuthenticatedData && d.believes(server), nil
			}
			if ctx.Err() != nil {
				return nil, false, err
			}
			// RFC 7672 §2.1.1: what is bogus, or kept from who would see that, is not asked of who would not.
			withheld = withheld || d.believes(server) && withholds(err)
			err = fmt.Errorf("DNS server %s: %w", server, err)
		}
	}
	return nil, false, err
}

// withholds reports whether err may be all that a server shows of an answer that DNSSEC does not vouch for, or that somebody keeps from it.
func withholds(err error) bool {
	late := net.Error(nil)
	return errors.Is(err, errServerFailure) || errors.As(err, &late) && late.Timeout()
}

// believes reports whether server's AD bit is to be trusted: nobody can forge its answers on the way (RFC 4035 §4.9.3).
func (d *DNS) believes(server string) bool {
	at, err := netip.ParseAddrPort(server)
	return d.TrustAD || err == nil && at.Addr().Unmap().IsLoopback()
}

// exchange puts one question to one server.
func (d *DNS) exchange(ctx context.Context, query *dns.Msg, server string) (*dns.Msg, error) {
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	query.Id = dns.Id()
	for _, network := range []string{"udp", "tcp"} {
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		conn, err := dial(ctx, network, server)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
		answer, _, err := (&dns.Client{Timeout: queryTimeout}).ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn, UDPSize: ednsSize})
		if err != nil {
			return nil, err
		}
		if !answer.Response || len(answer.Question) != 1 || !strings.EqualFold(answer.Question[0].Name, query.Question[0].Name) ||
			answer.Question[0].Qtype != query.Question[0].Qtype || answer.Question[0].Qclass != dns.ClassINET {
			return nil, errors.New("answer to another question")
		}
		if !answer.Truncated { // RFC 7766 §5: else the same over TCP
			return answer, nil
		}
	}
	return nil, errors.New("answer truncated over TCP")
}

const resolvConf = "/etc/resolv.conf"

// servers lists whom to ask.
func (d *DNS) servers() ([]string, error) {
	from := d.Servers
	if len(from) == 0 {
		conf, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil {
			return nil, err
		}
		from = conf.Servers
	}
	var servers []string
	for _, server := range from[:min(len(from), maxServers)] {
		address, err := serverAddress(server)
		if err != nil {
			return nil, err
		}
		servers = append(servers, address)
	}
	if len(servers) == 0 {
		return nil, errors.New("no DNS server is known")
	}
	return servers, nil
}
