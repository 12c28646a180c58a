package odmr

import (
	"context"
	"fmt"
)

// attendant is somebody who sees a call through: one Call. Its steps wait for the goroutine of that.
type attendant struct {
	all      bool           // without bounds
	progress func(Progress) // may be nil
	came     Stage          // where the call was when it came
	before   Report         // and what it had brought
	more     chan struct{}  // holds one when there are steps to deliver. What follows is guarded by the call
	steps    []Progress     // the last of each stage
}

// add notes a step. A stage comes twice in one call only behind Lingering, at which nobody attends any more.
func (a *attendant) add(p Progress) {
	if n := len(a.steps); n > 0 && a.steps[n-1].Stage == p.Stage {
		a.steps[n-1] = p
	} else {
		a.steps = append(a.steps, p)
	}
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// since is what has come in r since the attendant came.
func (a *attendant) since(r Report) Report {
	r.Messages -= a.before.Messages
	r.Octets -= a.before.Octets
	r.Sent -= a.before.Sent
	return r
}

// admit lets a attend, if it is not nil.
func (k *call) admit(a *attendant) {
	if a == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	a.came, a.before = k.at, k.report
	k.attendants[a] = true
}

func (k *call) dismiss(a *attendant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.attendants, a)
}

// ErrOpen says that there is nothing to wait for: a session lingers, and what comes will come by itself. It is an ErrNoMail.
var ErrOpen = fmt.Errorf("%w: a session is open, what comes will come by itself", ErrNoMail)

// attend waits until the call has ended, or the provider has gone quiet. Then a call of nobody's is ended, one of Run's left alone.
func (k *call) attend(ctx context.Context, a *attendant) error {
	defer k.dismiss(a)
	for quiet := a.came == Lingering; ; {
		if quiet && k.kept {
			return ErrOpen
		}
		if quiet {
			k.cancel(errEnough)
		}
		select {
		case <-k.done:
			k.deliver(a)
			return k.err
		case <-a.more:
			quiet = k.deliver(a)
		case <-ctx.Done():
			if k.kept {
				return fmt.Errorf("%w: a call is under way: %w", ErrLater, context.Cause(ctx))
			}
			<-k.done // it ends with ctx
			k.deliver(a)
			return k.err
		}
	}
}

// deliver tells the attendant of the steps that wait, and reports whether the last one is that the provider is quiet.
func (k *call) deliver(a *attendant) (quiet bool) {
	k.mu.Lock()
	steps := a.steps
	a.steps = nil
	k.mu.Unlock()
	for _, p := range steps {
		if quiet = p.Stage == Lingering; a.progress != nil && p.Stage != Ended {
			p.Messages, p.Octets = p.Messages-a.before.Messages, p.Octets-a.before.Octets
			p.Waited, p.WaitedOctets = max(0, p.Waited-a.before.Messages), max(0, p.WaitedOctets-a.before.Octets)
			a.progress(p)
		}
	}
	return quiet
}
