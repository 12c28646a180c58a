//go:build !linux

package iface

import (
	"errors"
	"net/netip"
	"time"
)

// Interface is one interface of this host, by name.
type Interface string

var errLinux = errors.New("iface: addresses are set on Linux only")

// SetAddress is for Linux only.
func (Interface) SetAddress(netip.Prefix, time.Duration, time.Duration) error { return errLinux }

// RemoveAddress is for Linux only.
func (Interface) RemoveAddress(netip.Prefix) error { return errLinux }

// Check is for Linux only.
func (Interface) Check(netip.Addr) (done, duplicate bool, err error) { return false, false, errLinux }

// SetRoute is for Linux only.
func (Interface) SetRoute(netip.Prefix, netip.Addr, int) error { return errLinux }

// RemoveRoute is for Linux only.
func (Interface) RemoveRoute(netip.Prefix, netip.Addr, int) error { return errLinux }
