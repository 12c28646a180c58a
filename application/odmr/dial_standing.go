package odmr

import (
	"errors"
	"time"
)

// Standing is how a site stands with one provider, for the operator.
type Standing struct {
	Provider string // host:port
	Account  string // empty: the certificate says it
	Stage    Stage  // of the call under way; Ended: there is none
	Began    time.Time
	Messages int   // that the call under way has brought
	Octets   int64 // of their bodies, that of the message under way included

	Last     Report    // of the last call that has ended
	LastEnd  time.Time // zero: none has
	LastErr  error     // how; see Customer.Call
	Failures int       // calls in a row that failed
	Next     time.Time // when the next is due, if the link is up then; zero: Run does not run, or a call is under way
}

// Standing returns how things stand now.
func (c *Customer) Standing() Standing {
	c.mu.Lock()
	s, k := c.last, c.current
	c.mu.Unlock()
	s.Provider, s.Account, s.Stage = c.Config.Provider, c.Config.Username, Ended
	if k == nil {
		return s
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s.Stage, s.Began, s.Next = k.at, k.began, time.Time{}
	s.Messages, s.Octets = k.report.Messages, k.report.Octets+k.partial
	return s
}

// note keeps how a call has ended.
func (c *Customer) note(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last.Last, c.last.LastEnd, c.last.LastErr = k.report, time.Now(), k.err
	if k.err == nil || errors.Is(k.err, ErrNoMail) {
		c.last.Failures = 0
	} else {
		c.last.Failures++
	}
}

// due notes when the next call is.
func (c *Customer) due(in time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last.Next = time.Now().Add(in)
}
