package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	os.Exit(run(ctx, as(os.Args), stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio are the streams of one command.
type stdio struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// as gives the arguments; a link named sendmail, mailq or newaliases is that command.
func as(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	switch filepath.Base(argv[0]) {
	case "sendmail":
		return append([]string{"sendmail"}, argv[1:]...)
	case "newaliases":
		return append([]string{"sendmail", "-bi"}, argv[1:]...)
	case "mailq":
		return append([]string{"queue", "list"}, argv[1:]...)
	}
	return argv[1:]
}
