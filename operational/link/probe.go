package link

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// What the zero fields of a Probe mean.
const (
	defaultInterval  = 30 * time.Second
	defaultTimeout   = 10 * time.Second
	defaultFailAfter = 2
)

const (
	firstRetry      = 3 * time.Second // after a failed probe; doubles up to the interval
	jitter          = 0.1             // of each wait, either way
	maxGreeting     = 4096            // octets of a greeting's first line
	leastAfterDoubt = time.Second     // between two probes, however many services complain
)

// Probe finds out whether the uplink is up by connecting to a service at the provider. The link is up at the first answer and
// down after FailAfter failures in a row; a failed probe is soon repeated. Its fields are set before Run.
type Probe struct {
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	Address   string         // host:port
	Interval  time.Duration  // between probes while up; 0: 30 s
	Timeout   time.Duration  // of one probe; 0: 10 s
	FailAfter int            // 0: 2
	Greeting  bool           // an answer is the service's first line, not the connection alone
	Rand      func() float64 // in [0,1), for jitter; nil: math/rand

	once     sync.Once
	evidence chan finding
}

type finding struct {
	up  bool
	why string
}

// Evidence counts what a service saw: success as an answer to a probe, failure as a reason to probe now.
func (p *Probe) Evidence(up bool, why string) {
	heard := p.heard()
	for {
		select {
		case heard <- finding{up, why}:
			return
		default:
		}
		select {
		case <-heard: // the newest counts
		default:
		}
	}
}

func (p *Probe) heard() chan finding {
	p.once.Do(func() { p.evidence = make(chan finding, 1) })
	return p.evidence
}

// Run probes until ctx ends.
func (p *Probe) Run(ctx context.Context, report func(up bool, why string)) error {
	var (
		failAfter = cmp.Or(p.FailAfter, defaultFailAfter)
		failed    int       // probes in a row
		begun     time.Time // the last probe
		answers   = make(chan error, 1)
		next      = time.NewTimer(0) // stopped while a probe runs
		probing   bool
	)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			if probing {
				<-answers
			}
			return nil
		case <-next.C:
			probing, begun = true, time.Now()
			go func() { answers <- p.try(ctx) }()
		case err := <-answers:
			probing = false
			if ctx.Err() != nil {
				return nil
			}
			if failed++; err == nil {
				failed = 0
				report(true, fmt.Sprintf("probe: %s answered in %v", p.Address, time.Since(begun).Round(time.Millisecond)))
			} else if failed >= failAfter {
				report(false, "probe: "+reason(err))
			}
			next.Reset(p.pause(failed))
		case seen := <-p.heard():
			switch {
			case seen.up:
				failed = 0
				report(true, seen.why)
				if !probing {
					next.Reset(p.pause(0)) // as good as a probe, and free
				}
			case failed == 0 && !probing:
				next.Reset(max(0, leastAfterDoubt-time.Since(begun)))
			}
		}
	}
}

// pause is the wait after so many failures in a row.
func (p *Probe) pause(failed int) time.Duration {
	wait := cmp.Or(p.Interval, defaultInterval)
	if failed > 0 && failed < 16 { // 3 s << 15 is past a day
		wait = min(wait, firstRetry<<(failed-1))
	}
	random := rand.Float64
	if p.Rand != nil {
		random = p.Rand
	}
	return wait + time.Duration(jitter*(2*random()-1)*float64(wait))
}

// errGreeting is the failure of a service behind something that answers connections in its place.
var errGreeting = errors.New("connected, but no greeting came")

// try is one probe.
func (p *Probe) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.Timeout, defaultTimeout))
	defer cancel()
	conn, err := p.Dial(ctx, "tcp", p.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if !p.Greeting {
		return nil
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := bufio.NewReaderSize(io.LimitReader(conn, maxGreeting), maxGreeting).ReadSlice('\n'); err != nil {
		return errGreeting
	}
	_, err = io.WriteString(conn, "QUIT\r\n") // SMTP, POP3 and odd others know it; its reply is no matter
	return err
}

// reason is err in the fewest words that still help.
func reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}
