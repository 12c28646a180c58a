//go:build !linux

package dhcp6

import "errors"

// Listen is for Linux only.
func Listen([]string) (Wire, error) {
	return nil, errors.New("dhcp6: served on Linux only")
}

// Dial is for Linux only.
func Dial(string) (ClientWire, error) {
	return nil, errors.New("dhcp6: asked for on Linux only")
}
