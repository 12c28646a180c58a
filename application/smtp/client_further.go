package smtp

// TooMany reports that a recipient was one more than the transaction takes: the client goes on with it in a further one (RFC 5321
// §4.5.3.1.10). A 552 that means so reads as 452 here.
func (r Reply) TooMany() bool { return r.Code == 452 && r.Enhanced == [3]int{4, 5, 3} }

// Further sends to n recipients in as many transactions as they take (RFC 5321 §4.5.3.1.10): send gets the indexes, in order, of those that are
// left, all of them at first, and returns a reply for each, as Send does. Those who were one too many are left for the next call, as long as
// somebody else was not. The replies are the last of each recipient; err is send's, which ends it.
func Further(n int, send func(left []int) ([]Reply, error)) (replies []Reply, err error) {
	replies = make([]Reply, n)
	left := make([]int, n)
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		got, err := send(left)
		var next []int
		for i, r := range got {
			replies[left[i]] = r
			if r.TooMany() {
				next = append(next, left[i])
			}
		}
		if err != nil || len(next) == len(left) {
			return replies, err
		}
		left = next
	}
	return replies, nil
}

// Some are the recipients at some indexes.
func Some[T any](all []T, at []int) []T {
	some := make([]T, len(at))
	for i, n := range at {
		some[i] = all[n]
	}
	return some
}
