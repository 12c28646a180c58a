package sim

import (
	"cmp"
	"flag"
	"fmt"
)

// The variables of the package: flags must be known before `go test` reads its command line.
var (
	replay = flag.Uint64("seed", 0, "run this one seed only")
	many   = flag.Int("seeds", 0, "run so many seeds, whatever the test thinks is enough; 0: leave it to the test")
)

// runner is *testing.T; the package does without testing, for `bothy try` uses it as well.
type runner[T any] interface {
	Helper()
	Run(name string, f func(T)) bool
}

// Seeds calls f with the seeds 1 to n, each in a subtest named after it. One seed is one run: f takes all of its dice from the seed.
// A seed that failed is run again with `go test -run TestName -args -seed 4711`; more of them with -seeds 10000.
func Seeds[T runner[T]](t T, n int, f func(t T, seed uint64)) {
	t.Helper()
	first, last := uint64(1), uint64(cmp.Or(*many, n))
	if *replay != 0 {
		first, last = *replay, *replay
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t T) { f(t, seed) })
	}
}
