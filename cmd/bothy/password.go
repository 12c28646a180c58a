package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// passwordFlags say where a password comes from.
type passwordFlags struct {
	PasswordFile string `placeholder:"FILE" help:"File with the password in its first line; - is standard input. Without it a terminal asks, standard input is read if there is something in it, and else a password is made and printed."`
}

// maxPassword bounds a line with a password, in octets.
const maxPassword = 4096

// read returns the password, and whether it was made here and must be shown.
func (f passwordFlags) read(ctx context.Context, whose string, std stdio) (password string, made bool, err error) {
	in, from := std.in, "standard input"
	if f.PasswordFile != "" && f.PasswordFile != "-" {
		file, err := os.Open(f.PasswordFile)
		if err != nil {
			return "", false, err
		}
		defer file.Close()
		in, from = file, f.PasswordFile
	} else if tty, ok := in.(*os.File); ok && f.PasswordFile == "" && isTerminal(tty) {
		password, err = askTwice(ctx, tty, std.err, whose)
		return password, false, err
	}
	password, err = firstLine(in)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("%s: %w", from, err)
	case password == "" && f.PasswordFile == "":
		return rand.Text(), true, nil // 26 characters, 130 bits
	case password == "":
		return "", false, fmt.Errorf("%s: no password there", from)
	}
	return password, false, nil
}

func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxPassword+1)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	if len(line) > maxPassword {
		return "", fmt.Errorf("longer than %d octets", maxPassword)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// askTwice asks on the terminal without showing what is typed.
func askTwice(ctx context.Context, tty *os.File, prompt io.Writer, whose string) (string, error) {
	show, err := hideTyping(tty)
	if err != nil {
		return "", err
	}
	defer show()
	lines := bufio.NewReader(io.LimitReader(tty, 2*maxPassword))
	var typed [2]string
	for i, question := range []string{"Password for " + whose + ": ", "Again: "} {
		fmt.Fprint(prompt, question)
		line := make(chan error, 1)
		go func() {
			var err error
			typed[i], err = lines.ReadString('\n')
			line <- err
		}()
		select {
		case err := <-line:
			fmt.Fprintln(prompt)
			if err != nil {
				return "", errors.New("no password was typed")
			}
		case <-ctx.Done(): // the terminal must show again what is typed
			fmt.Fprintln(prompt)
			return "", context.Cause(ctx)
		}
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ")
	}
	if password := strings.TrimRight(typed[0], "\r\n"); password != "" {
		return password, nil
	}
	return "", errors.New("no password was typed")
}
