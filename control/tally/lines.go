package tally

import "time"

// LinesASecond bounds the log lines about messages that are not answered.
const LinesASecond = 20

// Lines bounds log lines. The zero Lines is ready; not safe for concurrent use.
type Lines struct {
	second int64 // of the last line
	n      int   // in that second, those left out too
}

// Take reports whether a line may be written at now, and how many were left out in the second of the line before, once.
func (l *Lines) Take(now time.Time) (ok bool, left int) {
	if s := now.Unix(); s != l.second {
		left = max(l.n-LinesASecond, 0)
		l.second, l.n = s, 0
	}
	l.n++
	return l.n <= LinesASecond, left
}
