package sim

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestPipeCarriesBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(Path{Delay: time.Second, Rate: 1000})
		start := time.Now()
		go func() {
			a.Write(bytes.Repeat([]byte("x"), 3000))
			a.CloseWrite()
		}()
		got, err := io.ReadAll(b)
		if len(got) != 3000 || err != nil || time.Since(start) != 4*time.Second {
			t.Errorf("%d octets after %v: %v", len(got), time.Since(start), err)
		}
		io.WriteString(b, "answer")
		b.Close()
		if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := a.Write([]byte("?")); err == nil {
			t.Error("a write after CloseWrite succeeded")
		}
		if a.Written() != 3000 || b.Written() != 6 {
			t.Errorf("written %d and %d", a.Written(), b.Written())
		}
	})
}

// TestPipeCut cuts a transfer after every octet in every manner: what arrives is exactly what the manner says.
func TestPipeCut(t *testing.T) {
	text := []byte("MAIL FROM:<>\r\n")
	for n := range int64(len(text)) + 1 {
		for how, want := range map[How]struct {
			arrive    int64
			dialer    error // of its next Read
			listener  error
			nextWrite error
		}{
			Reset:  {n, syscall.ECONNRESET, syscall.ECONNRESET, syscall.ECONNRESET},
			Lost:   {0, syscall.ECONNRESET, syscall.ECONNRESET, syscall.ECONNRESET},
			Closed: {n, io.EOF, io.EOF, syscall.EPIPE},
			Silent: {n, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded, nil},
		} {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pipe(Path{Delay: time.Second, Cut: &Cut{Side: Dialer, After: n, How: how}})
				a.SetReadDeadline(time.Now().Add(time.Minute))
				b.SetReadDeadline(time.Now().Add(time.Minute))
				if k, err := a.Write(text); k != len(text) || err != nil {
					t.Errorf("%v after %d: the crossing write: %d, %v", how, n, k, err)
				}
				got, err := io.ReadAll(b)
				if how == Closed && err == nil {
					err = io.EOF
				}
				if !bytes.Equal(got, text[:want.arrive]) || !errors.Is(err, want.listener) {
					t.Errorf("%v after %d: arrived %q, %v", how, n, got, err)
				}
				if _, err := a.Read(make([]byte, 1)); !errors.Is(err, want.dialer) {
					t.Errorf("%v after %d: the dialer reads %v", how, n, err)
				}
				if _, err := a.Write(text); !errors.Is(err, want.nextWrite) {
					t.Errorf("%v after %d: the next write: %v", how, n, err)
				}
			})
		}
	}
}

func TestPipeSilentFillsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(Path{Cut: &Cut{Side: Listener, How: Silent}})
		io.WriteString(b, "x")
		a.SetWriteDeadline(time.Now().Add(time.Hour))
		n, err := a.Write(make([]byte, window+1))
		if n != window || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d octets, %v", n, err)
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Error("not a timeout")
		}
	})
}

func TestPipeEndsUnblock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(Path{})
		time.AfterFunc(time.Second, func() { a.SetReadDeadline(time.Now()) })
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		a.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { a.Close() })
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		if err := a.Close(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestPipeCloseRead: what has arrived is read, what is under way is not waited for, and the other end may go on.
func TestPipeCloseRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(Path{Delay: time.Second})
		io.WriteString(a, "arrived")
		time.Sleep(time.Second)
		io.WriteString(a, "under way")
		b.CloseRead()
		if got, err := io.ReadAll(b); string(got) != "arrived" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		a, b = Pipe(Path{})
		time.AfterFunc(time.Second, func() { b.CloseRead() })
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		if _, err := io.WriteString(b, "x"); err != nil {
			t.Error(err)
		}
		if _, err := io.WriteString(a, "x"); err != nil {
			t.Error(err)
		}
	})
}

func TestPipeChunks(t *testing.T) {
	Seeds(t, 20, func(t *testing.T, seed uint64) {
		dice := rand.New(rand.NewPCG(seed, 0))
		var sizes []int
		a, b := Pipe(Path{Chunk: func() int { sizes = append(sizes, 1+dice.IntN(9)); return sizes[len(sizes)-1] }})
		text := make([]byte, 500)
		for i := range text {
			text[i] = byte(i)
		}
		go func() { a.Write(text[:100]); a.Write(text[100:]); a.Close() }()
		var got []byte
		for buf := make([]byte, 100); ; {
			n, err := b.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
			if n > sizes[len(sizes)-1] {
				t.Fatalf("read %d octets at once", n)
			}
		}
		if !bytes.Equal(got, text) || slices.Max(sizes) > 9 {
			t.Errorf("got %d octets", len(got))
		}
	})
}

// TestPipeTLS: crypto/tls sets deadlines and reads in its own sizes; a cut below it is an error, never a clean end.
func TestPipeTLS(t *testing.T) {
	a, b := Pipe(Path{Cut: &Cut{Side: Listener, After: 3, How: Closed}})
	go func() { tls.Server(b, &tls.Config{}).Handshake(); b.Close() }()
	if err := tls.Client(a, &tls.Config{ServerName: "a.example"}).Handshake(); err == nil {
		t.Error("a handshake over a cut connection succeeded")
	}
}

func TestLine(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(conn, conn); conn.Close() }()
		}
	}()
	line, err := OpenLine("127.0.0.1:0", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	line.SetDelay(5 * time.Millisecond)
	line.SetRate(10 << 20)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", line.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn
	}

	conn := dial()
	start := time.Now()
	text := bytes.Repeat([]byte("0123456789"), 10_000)
	go func() { conn.Write(text); conn.(*net.TCPConn).CloseWrite() }()
	if got, err := io.ReadAll(conn); !bytes.Equal(got, text) || err != nil {
		t.Errorf("%d octets, %v", len(got), err)
	}
	if took := time.Since(start); took < 10*time.Millisecond {
		t.Errorf("there and back in %v", took)
	}

	conn = dial()
	io.WriteString(conn, "x")
	io.ReadFull(conn, make([]byte, 1))
	line.Down()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection outlived the line: %v", err)
	}
	if c, err := net.Dial("tcp", line.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", c, err)
	}
	if err := line.Up(); err != nil {
		t.Fatal(err)
	}
	conn = dial()
	io.WriteString(conn, "y")
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	conn.Close()
}

func TestVanish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := Pipe(Path{})
		far.Vanish()
		for _, e := range []*End{near, far} {
			if _, err := e.Write([]byte("x")); err != nil {
				t.Error(err)
			}
		}
		for _, e := range []*End{near, far} {
			e.SetReadDeadline(time.Now().Add(time.Hour))
			if n, err := e.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d octets, %v", n, err)
			}
		}
	})
}
