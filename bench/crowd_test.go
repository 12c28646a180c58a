package bench

import (
	"bufio"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is many customers, in a process of their own: this program again, as TestCrowd. Each logs in with SCRAM-SHA-256, asks for its domain,
// answers NOOP, and calls again when it was cut off: at once when the provider answers again, all of them together, which no real site does,
// and then with the back-off of a real one.
type crowd struct {
	addr     string
	sessions int
	secure   bool
	keys     scramKeys
	first    chan struct{} // bounds the first logins under way

	mu sync.Mutex
	up chan struct{} // closed when the provider answers; nil: it does
}

// perAddress is how many customers share a source address: the default of connections.per_peer.
const perAddress = 500

// TestCrowd is the customers of BenchmarkODMRLingering, until the process is killed.
func TestCrowd(t *testing.T) {
	c := &crowd{first: make(chan struct{}, 64)}
	if n, _ := fmt.Sscan(os.Getenv("BOTHY_CROWD"), &c.addr, &c.sessions, &c.secure); n != 3 {
		t.Skip("not asked for")
	}
	for i := range c.sessions {
		go c.customer(i)
	}
	select {}
}

// customer stays connected.
func (c *crowd) customer(i int) {
	c.first <- struct{}{}
	release := sync.OnceFunc(func() { <-c.first })
	for failures := 0; ; {
		err := c.session(i, func() { failures = 0; release() })
		release()
		if failures == 0 {
			c.await()
		} else {
			wait := min(15*time.Second<<min(failures-1, 6), 10*time.Minute)
			time.Sleep(wait/2 + rand.N(wait))
		}
		if failures++; failures > 1 {
			fmt.Fprintln(os.Stderr, "crowd:", err)
		}
	}
}

// await returns when the provider answers again.
func (c *crowd) await() {
	c.mu.Lock()
	up := c.up
	if up == nil {
		up = make(chan struct{})
		c.up = up
		go func() {
			time.Sleep(time.Second) // a process that is killed closes its sockets one by one
			for {
				if conn, err := net.Dial("tcp", c.addr); err == nil {
					conn.Close()
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			c.mu.Lock()
			c.up = nil
			c.mu.Unlock()
			close(up)
		}()
	}
	c.mu.Unlock()
	<-up
}

// session calls and lingers; it returns at the end of the connection.
func (c *crowd) session(i int, lingers func()) error {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/perAddress/250), byte(1+i/perAddress%250))}
	conn, err := (&net.Dialer{Timeout: time.Minute, LocalAddr: from}).Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // what a site gives the handshake
	if c.secure {
		secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secured.Handshake(); err != nil {
			return err
		}
		conn = secured
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute)) // and the server
	lines := bufio.NewReaderSize(conn, 512)
	name := "c" + strconv.Itoa(i)
	steps := []struct{ say, code string }{
		{"", "220"}, {"EHLO " + name + ".example", "250"}, {"AUTH", "235"}, {"ATRN", "250"}, {"220 " + name + ".example", "EHLO "},
	}
	for _, s := range steps {
		if s.say == "AUTH" {
			err = c.keys.login(conn, lines, name)
		} else {
			_, err = say(conn, lines, s.say, s.code)
		}
		if err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, "250 "+name+".example\r\n"); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Time{})
	lingers()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "250 ok\r\n"); err != nil || strings.HasPrefix(line, "QUIT") {
			return errors.Join(err, io.EOF)
		}
	}
}

// say sends a line, if there is one, and returns the last line of the reply, which must begin with code.
func say(conn net.Conn, lines *bufio.Reader, line, code string) (string, error) {
	if line != "" {
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			return "", err
		}
	}
	for {
		reply, err := lines.ReadString('\n')
		switch {
		case err != nil:
			return "", err
		case !strings.HasPrefix(reply, code):
			return "", fmt.Errorf("%q: %q, want %s", line, reply, code)
		case len(reply) < 4 || reply[3] != '-':
			return strings.TrimSpace(reply), nil
		}
	}
}

// scramKeys log in with one password and are kept, as RFC 5802 §3 allows: all accounts have it under the same salt.
type scramKeys struct {
	mu   sync.Mutex
	keys map[string][2][]byte // of salt and count: ClientKey, StoredKey
}

// login is RFC 5802 §3 without channel binding.
func (s *scramKeys) login(conn net.Conn, lines *bufio.Reader, name string) error {
	nonce := strconv.FormatUint(rand.Uint64(), 36)
	bare := "n=" + name + ",r=" + nonce
	reply, err := say(conn, lines, "AUTH SCRAM-SHA-256 "+base64.StdEncoding.EncodeToString([]byte("n,,"+bare)), "334 ")
	if err != nil {
		return err
	}
	server, err := base64.StdEncoding.DecodeString(reply[4:])
	if err != nil {
		return err
	}
	fields := strings.Split(string(server), ",")
	if len(fields) < 3 {
		return fmt.Errorf("scram: %q", server)
	}
	client, stored, err := s.derive(fields[1][2:], fields[2][2:])
	if err != nil {
		return err
	}
	final := "c=biws," + fields[0]
	signature := sum(stored, bare+","+string(server)+","+final)
	proof := make([]byte, len(client))
	for i := range proof {
		proof[i] = client[i] ^ signature[i]
	}
	final += ",p=" + base64.StdEncoding.EncodeToString(proof)
	if _, err = say(conn, lines, base64.StdEncoding.EncodeToString([]byte(final)), "334 "); err != nil {
		return err
	}
	if _, err = io.WriteString(conn, "\r\n"); err != nil { // RFC 4954 §4: an empty response
		return err
	}
	_, err = say(conn, lines, "", "235")
	return err
}

// derive is RFC 5802 §3: SaltedPassword to StoredKey.
func (s *scramKeys) derive(salt, count string) (client, stored []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.keys[salt+count]; ok {
		return k[0], k[1], nil
	}
	octets, err1 := base64.StdEncoding.DecodeString(salt)
	n, err2 := strconv.Atoi(count)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, err
	}
	salted, err := pbkdf2.Key(sha256.New, secret, octets, n, sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	client = sum(salted, "Client Key")
	digest := sha256.Sum256(client)
	if s.keys == nil {
		s.keys = map[string][2][]byte{}
	}
	s.keys[salt+count] = [2][]byte{client, digest[:]}
	return client, digest[:], nil
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
