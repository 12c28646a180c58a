package submission

import (
	"context"
	"fmt"
	"strings"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
)

// The refusals that are always the same.
var (
	replyNeedAuth = smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "authentication required"}                          // RFC 6409 §4.3
	replyNeedTLS  = smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "must issue a STARTTLS command first"}              // RFC 3207 §4
	replySize     = smtp.Reply{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: "the message is larger than this account may send"} // RFC 1870 §6.2
)

// identify names the account a client sends as: the one it logged in to, or the one that the ways configured give it (RFC 6409 §3.3); "" if none.
func (a *Agent) identify(ctx context.Context, s *smtp.Session) string {
	if s.Identity != "" {
		return s.Identity
	}
	if a.Config.Certificates && a.Accounts != nil && s.Conn != nil {
		if state := s.Conn.TLS(); state != nil && len(state.PeerCertificates) > 0 {
			if account, err := a.Accounts.Certificate(ctx, state.PeerCertificates[0]); err == nil {
				return account
			}
		}
	}
	peer := s.Peer.Addr().Unmap()
	for _, network := range a.Config.Networks {
		if network.Contains(peer) {
			return a.Config.NetworkAccount
		}
	}
	return a.Readers.account(peer, a.Now(), a.Config.POPWindow)
}

// isSecured reports whether nobody can listen on the way from the client: TLS, or the machine's own socket.
func isSecured(s *smtp.Session) bool {
	if s.Conn == nil {
		return false
	}
	return s.Conn.TLS() != nil || s.Conn.RemoteAddr().Network() == "unix"
}

// toPostmaster lets anybody write to the postmaster here, now and then (RFC 6409 §6.4).
func (a *Agent) toPostmaster(s *smtp.Session, to *message.Recipient) error {
	if !a.isPostmaster(to.Address) {
		a.note("", Unauthorized, "")
		return replyNeedAuth
	}
	peer := s.Peer.Addr().Unmap()
	if peer.Is6() { // a /64 is one client's to fill
		if prefix, err := peer.Prefix(64); err == nil {
			peer = prefix.Addr()
		}
	}
	if !a.Usage.take("["+peer.String()+"]", anHour, a.Now(), spent{messages: 1}, spent{messages: a.Config.PostmasterRate}) {
		a.note("", OverPostmaster, "")
		return smtp.Reply{Code: 450, Enhanced: [3]int{4, 7, 1}, Text: "too many messages to the postmaster, try again in an hour"}
	}
	return nil
}

// checkAllowance refuses a message that its account may not send today, or not of the size that it declares (RFC 6409 §6.2, §6.3).
func (a *Agent) checkAllowance(env *message.Envelope) error {
	if !a.Usage.enough(env.Account, aDay, a.Now(), spent{messages: 1}, a.bound(env.Account)) {
		return a.overAllowance(env.Account)
	}
	if most := a.rights(env.Account).Size; most > 0 && env.Size > most { // RFC 1870 §6.1
		a.note(env.Account, OverAllowance, "")
		return replySize
	}
	return nil
}

func (a *Agent) overAllowance(account string) error {
	a.note(account, OverAllowance, "")
	return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "this account has sent as much as it may today"}
}

func (a *Agent) rights(account string) directory.Rights {
	if a.Permissions == nil || account == "" {
		return directory.Rights{}
	}
	return a.Permissions.Rights(account)
}

// bound is what an account may send in a day.
func (a *Agent) bound(account string) spent {
	r := a.rights(account)
	return spent{messages: r.Messages, recipients: r.Recipients}
}

// maySend asks the directory in its own terms: a domain is its A-labels.
func (a *Agent) maySend(account string, m message.Address) bool {
	m, _ = m.ASCII()
	return a.Directory.MaySend(account, m)
}

// note counts a fault and logs it, not too often (RFC 6409 §5.2).
func (a *Agent) note(account string, kind Kind, client string) {
	if count, tell := a.Faults.note(account, kind, client, a.Now()); tell {
		a.Log.Warn("client fault", "account", account, "fault", string(kind), "client", client, "count", count)
	}
}

// refusal is the reply to a message that is not what RFC 5322 says one is (RFC 6409 §4.1, §6.3).
func refusal(format string, args ...any) error {
	return smtp.Reply{Code: 554, Enhanced: [3]int{5, 6, 0}, Text: fmt.Sprintf(format, args...)}
}

// maxReply is the most octets of a reply's text, well within the 512 of a reply line (RFC 5321 §4.5.3.1.5).
const maxReply = 400

// notYours is the reply to an account that sends in another's name (RFC 6409 §6.1, §6.3).
func notYours(m message.Address, account string) error {
	text := fmt.Sprintf("%s may not send as %s", account, m)
	if len(text) > maxReply || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) { // RFC 6531 §3.7.4
		text = "this account may not send with this address"
	}
	return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: text}
}
