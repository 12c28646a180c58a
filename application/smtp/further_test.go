package smtp

import (
	"errors"
	"fmt"
	"testing"
)

// TestFurther: RFC 5321 §4.5.3.1.10: recipients who are one too many go on in further transactions, each once; what else was answered stays as it is,
// and where no transaction takes any of them nobody asks for ever.
func TestFurther(t *testing.T) {
	full, no, ok := Reply{452, [3]int{4, 5, 3}, "too many"}, Reply{550, [3]int{5, 1, 1}, "no"}, Reply{Code: 250}
	space := Reply{452, [3]int{4, 3, 1}, "disk full"}
	cut := errors.New("cut")
	for _, c := range []struct {
		name  string
		n     int
		takes func(call, at int, index int) Reply
		err   int // the call that fails
		want  string
		calls string
	}{
		{"all at once", 2, func(_, _, _ int) Reply { return ok }, 0, "[250 250]", "[[0 1]]"},
		{"two each", 5, func(_, at, index int) Reply {
			switch {
			case at >= 2:
				return full
			case index == 1:
				return no
			}
			return ok
		}, 0, "[250 550 250 250 250]", "[[0 1 2 3 4] [2 3 4] [4]]"},
		{"one domain each", 4, func(call, _, index int) Reply {
			if index%2 == call%2 {
				return full
			}
			return ok
		}, 0, "[250 250 250 250]", "[[0 1 2 3] [1 3]]"},
		{"no more", 3, func(call, at, _ int) Reply {
			if call == 1 && at == 0 {
				return ok
			}
			return full
		}, 0, "[250 452 452]", "[[0 1 2] [1 2]]"},
		{"another 452", 2, func(_, _, _ int) Reply { return space }, 0, "[452 452]", "[[0 1]]"},
		{"cut", 3, func(_, at, _ int) Reply {
			if at > 0 {
				return full
			}
			return ok
		}, 2, "[250 0 0]", "[[0 1 2] [1 2]]"},
	} {
		var calls [][]int
		replies, err := Further(c.n, func(left []int) ([]Reply, error) {
			calls = append(calls, left)
			got := make([]Reply, len(left))
			if len(calls) == c.err {
				return got, cut
			}
			for at, index := range left {
				got[at] = c.takes(len(calls), at, index)
			}
			return got, nil
		})
		codes := make([]int, len(replies))
		for i, r := range replies {
			codes[i] = r.Code
		}
		if (err != nil) != (c.err > 0) || fmt.Sprint(codes) != c.want || fmt.Sprint(calls) != c.calls {
			t.Errorf("%s: %v %v, by %v", c.name, codes, err, calls)
		}
	}
}

// TestSoften: RFC 5321 §4.5.3.1.10: 552 to RCPT means too many recipients where its enhanced code says so, and where it has none and the server has
// the 100 that it must be able to take; then it reads as 452. Any other 552 is about this recipient.
func TestSoften(t *testing.T) {
	for _, c := range []struct {
		accepted int
		enhanced [3]int
		code     int
		tooMany  bool
	}{
		{0, [3]int{5, 5, 3}, 552, true},
		{100, [3]int{}, 552, true},
		{99, [3]int{}, 552, false},
		{100, [3]int{5, 2, 2}, 552, false},
		{100, [3]int{}, 550, false},
	} {
		got := (&transfer{accepted: c.accepted}).soften(Reply{c.code, c.enhanced, "no"})
		if got.TooMany() != c.tooMany || got.Permanent() == c.tooMany {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
