package websocket

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
)

// A StatusCode says why a connection was closed (RFC 6455 §7.4).
type StatusCode uint16

// The registered status codes (RFC 6455 §7.4.1 and the IANA registry). 3000
// to 3999 are for libraries and frameworks, 4000 to 4999 for applications.
const (
	StatusNormalClosure           StatusCode = 1000
	StatusGoingAway               StatusCode = 1001 // a server shutting down, a browser leaving the page
	StatusProtocolError           StatusCode = 1002
	StatusUnsupportedData         StatusCode = 1003 // text where binary is expected, or the reverse
	StatusNoStatusRcvd            StatusCode = 1005 // never sent: the peer's Close had no code
	StatusAbnormalClosure         StatusCode = 1006 // never sent: there was no Close
	StatusInvalidFramePayloadData StatusCode = 1007 // text that is not UTF-8
	StatusPolicyViolation         StatusCode = 1008
	StatusMessageTooBig           StatusCode = 1009
	StatusMandatoryExtension      StatusCode = 1010 // sent by clients only
	StatusInternalError           StatusCode = 1011
	StatusServiceRestart          StatusCode = 1012
	StatusTryAgainLater           StatusCode = 1013
	StatusBadGateway              StatusCode = 1014
	StatusTLSHandshake            StatusCode = 1015 // never sent
)

var statusText = map[StatusCode]string{
	StatusNormalClosure:           "normal closure",
	StatusGoingAway:               "going away",
	StatusProtocolError:           "protocol error",
	StatusUnsupportedData:         "unsupported data",
	StatusNoStatusRcvd:            "no status received",
	StatusAbnormalClosure:         "abnormal closure",
	StatusInvalidFramePayloadData: "invalid frame payload data",
	StatusPolicyViolation:         "policy violation",
	StatusMessageTooBig:           "message too big",
	StatusMandatoryExtension:      "mandatory extension",
	StatusInternalError:           "internal error",
	StatusServiceRestart:          "service restart",
	StatusTryAgainLater:           "try again later",
	StatusBadGateway:              "bad gateway",
	StatusTLSHandshake:            "TLS handshake",
}

// String returns the code with its registered meaning, as in
// "1000 (normal closure)".
func (c StatusCode) String() string {
	if text, ok := statusText[c]; ok {
		return strconv.Itoa(int(c)) + " (" + text + ")"
	}
	return strconv.Itoa(int(c))
}

// receivable reports whether a peer may send c (§7.4.1, §7.4.2).
func (c StatusCode) receivable() bool {
	switch {
	case 3000 <= c && c <= 4999:
		return true
	case c == 1004, c == StatusNoStatusRcvd, c == StatusAbnormalClosure:
		return false
	}
	return 1000 <= c && c <= StatusBadGateway
}

// sendable reports whether a server may send c by its own choice.
func (c StatusCode) sendable() bool {
	return c.receivable() && c != StatusMandatoryExtension
}

// A CloseError is how a connection ended. Every method of [Conn] returns the
// same one from then on, and it is the [context.Cause] of [Conn.Context].
//
// It Is net.ErrClosed if this side asked for the end by Close, CloseNow or
// the return of its handler. For a connection that was lost, Unwrap gives the
// reason: io.ErrUnexpectedEOF, an error of the network, or one that Is
// os.ErrDeadlineExceeded when the peer took nothing for
// [Config.WriteTimeout].
type CloseError struct {
	// Code is what was sent or received in the Close frame;
	// StatusNoStatusRcvd if the peer's had none, StatusAbnormalClosure if
	// there was none.
	Code StatusCode
	// Reason goes with Code. If Remote is set, it is text that the peer
	// chose.
	Reason string
	// Remote is set if the peer closed the connection, or it was lost;
	// not if this side did, be it for the peer's violation of the protocol.
	Remote bool

	cause error
}

// Error says who closed the connection with what. The peer's text is quoted.
func (e *CloseError) Error() string {
	var s string
	switch {
	case e.Code == StatusAbnormalClosure && e.Remote:
		s = "websocket: connection lost"
	case e.Code == StatusAbnormalClosure:
		s = "websocket: connection cut"
	case e.Remote:
		s = "websocket: closed by the peer with " + e.Code.String()
	default:
		s = "websocket: closed with " + e.Code.String()
	}
	if e.Reason != "" {
		s += ": " + strconv.Quote(e.Reason)
	}
	if e.cause != nil && e.cause != net.ErrClosed {
		s += ": " + strings.TrimPrefix(e.cause.Error(), "websocket: ")
	}
	return s
}

// Unwrap returns what was the cause, or nil.
func (e *CloseError) Unwrap() error { return e.cause }

// Timeout reports whether the connection was lost because the peer took
// nothing for [Config.WriteTimeout], or answered no ping in
// [Config.PingTimeout].
func (e *CloseError) Timeout() bool { return errors.Is(e.cause, os.ErrDeadlineExceeded) }
