package smtp

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
)

// How long what became of a message is known (RFC 3885 §3.1).
const (
	trackDefault = 9 * 24 * time.Hour  // 8 to 10 days, it says
	trackLeast   = 24 * time.Hour      // at least, it says, where somebody asks for less
	trackMost    = 30 * 24 * time.Hour // whatever is asked for
)

func offersTracking(s *Session) bool { return s.server.Offer.Tracking && s.server.Offer.DSN }

func takeTracking(s *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	certifier, in, ok := parseTracking(p.value)
	if !ok {
		return badValue(p.keyword)
	}
	if in == 0 {
		in = trackDefault
	}
	env.Tracking = message.Tracking{Certifier: certifier, Until: s.instant().Add(min(max(in, trackLeast), trackMost))}
	return Reply{}
}

// parseTracking reads an mtrk-certifier and its timeout, 0 where there is none. RFC 3885 §3.1: base64 of 160 bits; without the "=" at its end, which
// no parameter may hold.
func parseTracking(s string) (certifier string, in time.Duration, ok bool) {
	text, timeout, timed := strings.Cut(s, ":")
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(b) != 20 || timed && (!isDigits(timeout) || len(timeout) > 9) {
		return "", 0, false
	}
	seconds, _ := strconv.Atoi(timeout)
	return string(b), time.Duration(seconds) * time.Second, true
}

// appendTracking appends the parameter with what is left of the time; nothing if none is (RFC 3885 §3.1).
func appendTracking(b []byte, t message.Tracking, now time.Time) []byte {
	left := t.Until.Sub(now)
	if t.Certifier == "" || left < time.Second {
		return b
	}
	b = base64.RawStdEncoding.AppendEncode(append(b, " MTRK="...), []byte(t.Certifier))
	return strconv.AppendInt(append(b, ':'), int64(left/time.Second), 10)
}
