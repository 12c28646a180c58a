package iface

import (
	"errors"
	"net"
)

// Running reports whether an interface is up and connected. An error means that it is gone, be it that another has its name now.
func Running(port *net.Interface) (bool, error) {
	now, err := net.InterfaceByName(port.Name)
	if err == nil && now.Index != port.Index {
		err = errors.New("the interface is another one now")
	}
	return err == nil && now.Flags&net.FlagRunning != 0, err
}
