package site

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"
)

// unit is one long-lived part of the running site: a listener, the relay, a customer that calls. Its spec is the part of the
// configuration it was made from: as long as that stays equal, a reload leaves the unit alone.
type unit struct {
	spec any
	// open takes what can be refused (a port); it may be nil. Run gets the rest. What open took is given back by the end of run.
	open func() error
	run  func(ctx context.Context) error
	// shut gives back what open took when run is never called; nil when there is nothing.
	shut  func()
	grace time.Duration // how long a stop may take before the unit is left behind
	stage stage
}

// stage is when a unit is stopped at the end: what brings mail in, then what moves it, then what the others stand on.
type stage int

// The stages, in the order of the stop.
const (
	intake stage = iota
	movers
	ground
	stages
)

// keeper runs named units and converges to what is wanted: one mechanism starts the site, reloads it and stops it.
type keeper struct {
	log     *slog.Logger
	mu      sync.Mutex
	running map[string]*kept
	failed  chan error // the first unit that ended by itself with an error
}

type kept struct {
	unit   unit
	cancel context.CancelFunc
	done   chan struct{}
}

func newKeeper(log *slog.Logger) *keeper {
	return &keeper{log: log, running: map[string]*kept{}, failed: make(chan error, 1)}
}

// converge stops the units that are not wanted any more or whose spec changed, and starts the new ones. Everything that can
// be refused is opened first: on an error nothing has changed. One that does not stop in time is left behind.
func (k *keeper) converge(want map[string]unit) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	var fresh, stale []string
	for name, u := range want {
		if r, ok := k.running[name]; !ok || !reflect.DeepEqual(r.unit.spec, u.spec) {
			fresh = append(fresh, name)
		}
	}
	for name, r := range k.running {
		if u, ok := want[name]; !ok || !reflect.DeepEqual(r.unit.spec, u.spec) {
			stale = append(stale, name)
		}
	}

	var opened []string
	for _, name := range fresh {
		if want[name].open == nil {
			continue
		}
		if err := want[name].open(); err != nil {
			for _, o := range opened {
				want[o].shut()
			}
			return fmt.Errorf("%s: %w", name, err)
		}
		opened = append(opened, name)
	}
	if err := k.stop(stale); err != nil {
		k.log.Error("left behind", "err", err)
	}
	for _, name := range fresh {
		k.start(name, want[name])
	}
	return nil
}

// errEnded says that a unit came to its end though nobody had told it to.
var errEnded = errors.New("ended by itself")

func (k *keeper) start(name string, u unit) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &kept{unit: u, cancel: cancel, done: make(chan struct{})}
	k.running[name] = r
	go func() {
		defer close(r.done)
		err := u.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errEnded
		}
		select {
		case k.failed <- fmt.Errorf("%s: %w", name, err):
		default: // one is enough to stop the site
		}
	}()
}

// stop ends the named units together and waits for each no longer than its grace.
func (k *keeper) stop(names []string) error {
	var errs []error
	for _, name := range names {
		k.running[name].cancel()
	}
	began := time.Now()
	for _, name := range names {
		r := k.running[name]
		delete(k.running, name)
		select {
		case <-r.done:
			continue
		default:
		}
		timer := time.NewTimer(r.unit.grace - time.Since(began))
		select {
		case <-r.done:
		case <-timer.C:
			errs = append(errs, fmt.Errorf("%s: still running %v after it was told to stop", name, r.unit.grace))
		}
		timer.Stop()
	}
	return errors.Join(errs...)
}

// stopAll ends every unit, stage by stage.
func (k *keeper) stopAll() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for now := range stages {
		var names []string
		for name, r := range k.running {
			if r.unit.stage == now {
				names = append(names, name)
			}
		}
		errs = append(errs, k.stop(names))
	}
	return errors.Join(errs...)
}
