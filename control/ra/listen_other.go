//go:build !linux

package ra

import "errors"

// Listen is there on Linux only.
func Listen(string) (Wire, error) {
	return nil, errors.New("ra: there are router advertisements on Linux only")
}
