package submission

import (
	"maps"
	"sync"
	"time"
)

// Usage counts what was sent, by account and day, and what reached the postmaster, by client and hour. It is in memory: a restart begins anew,
// so that an account may send at most its allowance once more. The zero Usage is ready; it may be shared by agents and is safe for concurrent use.
type Usage struct {
	mu    sync.Mutex
	spent map[string]map[string]spent // by layout, and by who: strangers must not take the room of accounts
}

// spent is what was used in one period.
type spent struct {
	period               string
	messages, recipients int
}

// maxSpent is how many accounts, and how many clients, are counted at once. When all of them are of the present period, nobody new is counted, and what
// is not counted is refused.
const maxSpent = 10_000

const (
	aDay   = "2006-01-02"
	anHour = "2006-01-02T15"
)

// take uses up messages and recipients of a bound for the period in which now is, or reports that it is not enough and uses nothing.
// A bound of 0 is none.
func (u *Usage) take(who, layout string, now time.Time, want, bound spent) bool {
	if bound == (spent{}) {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.spent == nil {
		u.spent = map[string]map[string]spent{aDay: {}, anHour: {}}
	}
	all := u.spent[layout]
	s, ok := all[who]
	if period := now.Local().Format(layout); s.period != period {
		if s = (spent{period: period}); !ok && !room(all, period) {
			return false
		}
	}
	s.messages += want.messages
	s.recipients += want.recipients
	if bound.messages > 0 && s.messages > bound.messages || bound.recipients > 0 && s.recipients > bound.recipients {
		return false
	}
	all[who] = s
	return true
}

// give takes back what was taken for a message that was not accepted.
func (u *Usage) give(who, layout string, now time.Time, want spent) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.spent[layout][who]; s.period == now.Local().Format(layout) {
		s.messages -= want.messages
		s.recipients -= want.recipients
		u.spent[layout][who] = s
	}
}

// enough reports whether take would do.
func (u *Usage) enough(who, layout string, now time.Time, want, bound spent) bool {
	if bound == (spent{}) {
		return true
	}
	if !u.take(who, layout, now, want, bound) {
		return false
	}
	u.give(who, layout, now, want)
	return true
}

// room makes room for one more, by forgetting what is of periods past.
func room(all map[string]spent, period string) bool {
	if len(all) >= maxSpent {
		maps.DeleteFunc(all, func(_ string, s spent) bool { return s.period != period })
	}
	return len(all) < maxSpent
}
