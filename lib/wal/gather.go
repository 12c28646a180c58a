package wal

import "time"

// Expected is a record on its way to the log: somebody receives or makes it.
type Expected struct {
	log  *Log
	over bool // it came, or never will; guarded by log.mu
}

// Expect announces a record. Those that are whole may then wait for it, up to Options.Hold, to be made durable by the same sync. It is to
// be ended by Append or Cancel.
func (l *Log) Expect() *Expected {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.company.coming++
	return &Expected{log: l}
}

// Append is Log.Append of the record that was expected.
func (e *Expected) Append(parts ...[]byte) (Pending, error) {
	p, err := e.log.Append(parts...)
	e.Cancel()
	return p, err
}

// Cancel says that nothing comes, or nothing more.
func (e *Expected) Cancel() {
	e.log.mu.Lock()
	defer e.log.mu.Unlock()
	if !e.over {
		e.over = true
		e.log.company.coming--
		e.log.urge()
	}
}

// company decides whether a group goes to the disk or waits for more records: the fewer syncs for the same records, the more records
// for the same disk and processor. A lone writer never waits, nor do those who are twice as many as are still on their way.
type company struct {
	coming int // records announced and not here
	alone  int // groups in a row that waited for the whole time and got nobody
	pass   int // groups that need not try: company of late is too slow to wait for
}

// maxPass bounds how many groups are not held after waits in vain: one wait among so many costs nobody much.
const maxPass = 64

// enough reports whether a group that waiters wait for is to be written.
func (c *company) enough(waiters int) bool { return waiters >= 2*c.coming || c.pass > 0 }

// left notes that a group went to the disk; late says that it had waited for as long as it may.
func (c *company) left(waiters int, late bool) {
	switch {
	case c.pass > 0:
		c.pass--
	case late && waiters <= 1:
		c.pass = min(1<<c.alone, maxPass)
		c.alone = min(c.alone+1, 16)
	default:
		c.alone = 0
	}
}

// ripe reports whether the gathering group is to be written now. The caller holds mu.
func (l *Log) ripe() bool {
	g := l.gather
	return g != nil && (g.due || g.waiters > 0 && (l.o.Hold <= 0 || l.company.enough(g.waiters)))
}

// urge wakes the committer for a group that is ripe. The caller holds mu.
func (l *Log) urge() {
	if l.ripe() {
		l.wake()
	}
}

// hold gives the gathering group, for which the first waits, its time. The caller holds mu.
func (l *Log) hold() {
	if l.o.Hold > 0 {
		l.held = l.gather
		l.holding.Reset(l.o.Hold)
	}
}

// late ends that time.
func (l *Log) late() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.gather; g != nil && g == l.held {
		g.due, g.late = true, true
		l.wake()
	}
}

// part makes the gathering group the one to be written. The caller holds mu.
func (l *Log) part() *group {
	g := l.gather
	if l.o.Hold > 0 {
		l.holding.Stop()
		l.company.left(g.waiters, g.late)
	}
	l.gather, l.held = nil, nil
	return g
}

// newTimer returns a timer that does not run yet.
func newTimer(fn func()) *time.Timer {
	t := time.AfterFunc(time.Hour, fn)
	t.Stop()
	return t
}
