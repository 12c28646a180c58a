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

// read returns a new password, and whether it was made here and must be shown.
func (f passwordFlags) read(ctx context.Context, whose string, std stdio) (password string, made bool, err error) {
	password, err = f.find(ctx, std, "Password for "+whose+": ", "Again: ")
	switch {
	case errors.Is(err, errNoPassword) && f.PasswordFile == "":
		return rand.Text(), true, nil // 26 characters, 130 bits
	case err != nil:
		return "", false, err
	}
	return password, false, nil
}

// given returns the password on standard input, where that is no terminal; empty: there is none.
func (f passwordFlags) given(std stdio) (string, error) {
	if tty, ok := std.in.(*os.File); ok && isTerminal(tty) {
		return "", nil
	}
	return firstLine(std.in)
}

// known returns a password that exists: it is asked for once, and never made.
func (f passwordFlags) known(ctx context.Context, whose string, std stdio) (string, error) {
	return f.find(ctx, std, "Password of "+whose+": ")
}

// errNoPassword says that there is none where one may be.
var errNoPassword = errors.New("no password there")

// find reads the password where the flags say, or asks a terminal.
func (f passwordFlags) find(ctx context.Context, std stdio, questions ...string) (string, error) {
	in, from := std.in, "standard input"
	if f.PasswordFile != "" && f.PasswordFile != "-" {
		file, err := os.Open(f.PasswordFile)
		if err != nil {
			return "", err
		}
		defer file.Close()
		in, from = file, f.PasswordFile
	} else if tty, ok := in.(*os.File); ok && f.PasswordFile == "" && isTerminal(tty) {
		return ask(ctx, tty, std.err, questions)
	}
	password, err := firstLine(in)
	if err == nil && password == "" {
		err = errNoPassword
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", from, err)
	}
	return password, nil
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

// ask asks on the terminal without showing what is typed. All answers must be the same.
func ask(ctx context.Context, tty *os.File, prompt io.Writer, questions []string) (string, error) {
	show, err := hideTyping(tty)
	if err != nil {
		return "", err
	}
	defer show()
	lines := bufio.NewReader(io.LimitReader(tty, 2*maxPassword))
	typed := make([]string, len(questions))
	for i, question := range questions {
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
		if typed[i] != typed[0] {
			return "", errors.New("the two passwords differ")
		}
	}
	if password := strings.TrimRight(typed[0], "\r\n"); password != "" {
		return password, nil
	}
	return "", errors.New("no password was typed")
}
