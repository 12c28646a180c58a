//go:build !linux

package admin

import (
	"errors"
	"net"
)

// PeerOf is not known here: the mode of the socket file must do.
func PeerOf(net.Conn) (Peer, error) { return Peer{}, errors.ErrUnsupported }
