// Package test runs the whole program as its users do, with the programs they have at its other ends.
package test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program is the path of the bothy that the tests run, built with the race detector.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "bothy-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "bothy")
	build := exec.Command("go", "build", "-race", "-o", program, "bothy/cmd/bothy")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	// A program with the race detector waits a second at its end for races that another goroutine might still run into.
	os.Setenv("GORACE", "atexit_sleep_ms=20 "+os.Getenv("GORACE")) // what is said last counts
	flag.Set("test.parallel", "8")                                 // if the command line says nothing else: they wait for other programs more than they work
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
