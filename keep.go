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
}

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
// be refused is opened first: on an error nothing has changed.
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
	err := k.stop(stale)
	for _, name := range fresh {
		k.start(name, want[name])
	}
	return err
}

func (k *keeper) start(name string, u unit) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &kept{unit: u, cancel: cancel, done: make(chan struct{})}
	k.running[name] = r
	go func() {
		defer close(r.done)
		if err := u.run(ctx); err != nil && ctx.Err() == nil {
			select {
			case k.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
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

// stopAll ends every unit.
func (k *keeper) stopAll() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := make([]string, 0, len(k.running))
	for name := range k.running {
		names = append(names, name)
	}
	return k.stop(names)
}
