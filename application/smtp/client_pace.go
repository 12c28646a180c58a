package smtp

import "time"

// How much of a long text may follow its envelope before the replies to that are here, in octets. A refusal wastes as much.
const (
	leastAhead = eagerSize
	mostAhead  = 256 << 10
	paceSample = 256 << 10 // of text that was taken, that say how fast the link is: the replies to less may have come together
)

// pace is what is known of the way to the peer.
type pace struct {
	trip   time.Duration // from EHLO to its reply; 0: not known
	rate   float64       // octets of text a second, while there was more to send; 0: not known
	octets int64         // taken since then, not in rate yet
	since  time.Time
}

// ahead is how much of a text goes ahead: a quarter more than the way takes while the replies to the envelope are awaited, so that it is never empty.
func (p pace) ahead() int64 {
	if p.trip == 0 || p.rate == 0 {
		return chunkSize
	}
	return int64(min(max(1.25*p.rate*p.trip.Seconds(), leastAhead), mostAhead))
}

// begin notes that from now on there is always something to send.
func (p *pace) begin(now time.Time) { p.octets, p.since = 0, now }

// heard notes that a text was taken that was octets long as it was sent.
func (p *pace) heard(octets int64, now time.Time) {
	took := now.Sub(p.since)
	if p.octets += octets; p.octets < paceSample || took <= 0 {
		return
	}
	p.rate = float64(p.octets) / took.Seconds()
	p.begin(now)
}

// lead decides whether the first chunk of a long text follows the envelope at once. Among others only: who sends one message to a stranger
// rather waits than sends him what he does not want. Behind an envelope that was refused the next one waits, too.
func (t *transfer) lead() {
	if t.convoy == nil || !t.chunking || t.eager || t.c.refused || !t.wholly() && !t.locate() {
		return
	}
	t.ahead, t.answered = t.c.pace.ahead(), make(chan struct{})
}

// whole reports whether all of the text goes with its envelope.
func (t *transfer) whole() bool { return t.eager || t.ahead > 0 && t.ahead >= t.size-t.offset }

// release lets what follows the first chunk be sent, or not.
func (t *transfer) release() {
	if t.answered != nil && !t.told {
		t.told = true
		close(t.answered)
	}
}
