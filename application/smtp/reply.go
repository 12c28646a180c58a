package smtp

import "fmt"

// Reply is what a server answers: it travels as an error where it refuses something (RFC 5321 §4.2).
type Reply struct {
	Code     int    // three digits, the first 2 to 5 (RFC 5321 §4.3.2)
	Enhanced [3]int // RFC 3463 §2; zero where RFC 2034 wants none: after EHLO, with 3yz
	Text     string // lines parted by "\n"; no CR
}

func (r Reply) Error() string {
	if r.Enhanced == ([3]int{}) {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
}

// Positive reports a completion or an intermediate reply (RFC 5321 §4.2.1: 2yz, 3yz).
func (r Reply) Positive() bool { return r.Code/100 == 2 || r.Code/100 == 3 }

// Temporary reports a transient refusal (4yz): the same command may succeed later.
func (r Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent reports a final refusal (5yz).
func (r Reply) Permanent() bool { return r.Code/100 == 5 }
