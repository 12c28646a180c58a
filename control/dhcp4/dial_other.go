//go:build !linux

package dhcp4

import "errors"

// Dial is for Linux only.
func Dial(string) (ClientWire, error) { return nil, errors.New("dhcp4: the client runs on Linux only") }
