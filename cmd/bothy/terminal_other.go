//go:build !linux

package main

import (
	"errors"
	"os"
)

// Elsewhere passwords come from files and pipes.
func isTerminal(*os.File) bool { return false }

func hideTyping(*os.File) (show func(), err error) { return nil, errors.ErrUnsupported }
