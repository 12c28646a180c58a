//go:build !linux

package dhcp4

import "errors"

// Listen is for Linux only.
func Listen([]string) (Wire, error) {
	return nil, errors.New("dhcp4: served on Linux only")
}
