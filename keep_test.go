package site

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// idle is a unit that runs until it is told to stop.
func idle(spec any, events *[]string, name string) unit {
	return unit{
		spec:  spec,
		open:  func() error { *events = append(*events, "open "+name); return nil },
		shut:  func() { *events = append(*events, "shut "+name) },
		run:   func(ctx context.Context) error { <-ctx.Done(); return nil },
		grace: time.Second,
	}
}

func TestConvergeStartsOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		k := newKeeper(slog.New(slog.DiscardHandler))
		if err := k.converge(map[string]unit{"a": idle(1, &events, "a1"), "b": idle(1, &events, "b1")}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(events)
		events = append(events, "reload")
		if err := k.converge(map[string]unit{"a": idle(1, &events, "a1"), "b": idle(2, &events, "b2")}); err != nil {
			t.Fatal(err)
		}
		want := []string{"open a1", "open b1", "reload", "open b2"}
		if !slices.Equal(events, want) {
			t.Errorf("got %q, want %q", events, want)
		}
		if err := k.stopAll(); err != nil || len(k.running) != 0 {
			t.Errorf("stop: %v, %d still running", err, len(k.running))
		}
	})
}

func TestConvergeRefusedChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		k := newKeeper(slog.New(slog.DiscardHandler))
		if err := k.converge(map[string]unit{"a": idle(1, &events, "a")}); err != nil {
			t.Fatal(err)
		}
		refused := errors.New("address in use")
		bad := idle(1, &events, "b")
		bad.open = func() error { return refused }
		if err := k.converge(map[string]unit{"b": bad}); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
		if len(k.running) != 1 || k.running["a"] == nil {
			t.Error("a refused change stopped what ran")
		}
		k.stopAll()
	})
}

func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(slog.New(slog.DiscardHandler))
		release := make(chan struct{})
		stuck := unit{run: func(context.Context) error { <-release; return nil }, grace: 3 * time.Second}
		if err := k.converge(map[string]unit{"stuck": stuck}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := k.stopAll(); err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		close(release)
	})
}

func TestUnitThatFailsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(slog.New(slog.DiscardHandler))
		broken := errors.New("disk gone")
		if err := k.converge(map[string]unit{"queue": {run: func(context.Context) error { return broken }, grace: time.Second}}); err != nil {
			t.Fatal(err)
		}
		if err := <-k.failed; !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		k.stopAll()
	})
}

func TestConvergeLeavesTheStuckBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(slog.New(slog.DiscardHandler))
		release := make(chan struct{})
		stuck := unit{spec: 1, run: func(context.Context) error { <-release; return nil }, grace: 3 * time.Second}
		if err := k.converge(map[string]unit{"fetch": stuck}); err != nil {
			t.Fatal(err)
		}
		var events []string
		if err := k.converge(map[string]unit{"fetch": idle(2, &events, "fetch")}); err != nil {
			t.Errorf("the change is in force, and yet: %v", err)
		}
		close(release)
		k.stopAll()
	})
}

func TestUnitThatEndsByItselfIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(slog.New(slog.DiscardHandler))
		if err := k.converge(map[string]unit{"relay": {run: func(context.Context) error { return nil }, grace: time.Second}}); err != nil {
			t.Fatal(err)
		}
		if err := <-k.failed; !errors.Is(err, errEnded) {
			t.Errorf("got %v", err)
		}
		k.stopAll()
	})
}

func TestStopGoesByStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		at := func(name string, s stage) unit {
			return unit{stage: s, grace: time.Minute, run: func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				order = append(order, name)
				return nil
			}}
		}
		k := newKeeper(slog.New(slog.DiscardHandler))
		if err := k.converge(map[string]unit{"spool": at("spool", ground), "relay": at("relay", movers), "port": at("port", intake)}); err != nil {
			t.Fatal(err)
		}
		if err := k.stopAll(); err != nil || !slices.Equal(order, []string{"port", "relay", "spool"}) {
			t.Errorf("%q, %v", order, err)
		}
	})
}
