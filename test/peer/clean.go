package peer

import (
	"context"
	"testing"
)

// noCancel is a TB whose context outlives the test: cleanups run programs after t.Context has ended.
type noCancel struct{ testing.TB }

func (noCancel) Context() context.Context { return context.Background() }
