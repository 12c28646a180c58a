// Package admin is the local socket by which the operator's commands reach a running Bothy: HTTP/1.1 with JSON bodies over a unix
// socket that only its owner and root may use.
//
//	RFC 9110, 9112  HTTP  by net/http
//	RFC 8259        JSON  by encoding/json
//
// Plane: management. The package knows nothing of mail: whoever wires a Server gives it routes as functions from one type to another,
// and whoever calls gives the same types. Handle adds a route that answers once, HandleStream one that reports while it works, a line of
// JSON for each event.
//
// The path of one call: dial.go encodes the request and writes it to the socket; socket.go has accepted the connection, after the
// kernel told whose it is (peer_linux.go); serve.go decodes the request into the route's type, calls the function and encodes what
// it returns, or its Error; dial.go hands either to the caller.
//
// Left out: TCP, TLS, passwords. Who may open the socket may do everything; the admin pages for everybody else come on their own port.
package admin
