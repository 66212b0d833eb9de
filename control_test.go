package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/memconn"
	"github.com/sockeye-ws/websocket/internal/sendq"
)

func TestStatusCodeString(t *testing.T) {
	for code, want := range map[StatusCode]string{
		0: "0", 999: "999", 1004: "1004", 1016: "1016", 3000: "3000", 65535: "65535",
		StatusNormalClosure: "1000 (normal closure)", StatusGoingAway: "1001 (going away)",
		StatusProtocolError: "1002 (protocol error)", StatusUnsupportedData: "1003 (unsupported data)",
		StatusNoStatusRcvd: "1005 (no status received)", StatusAbnormalClosure: "1006 (abnormal closure)",
		StatusInvalidFramePayloadData: "1007 (invalid frame payload data)", StatusPolicyViolation: "1008 (policy violation)",
		StatusMessageTooBig: "1009 (message too big)", StatusMandatoryExtension: "1010 (mandatory extension)",
		StatusInternalError: "1011 (internal error)", StatusServiceRestart: "1012 (service restart)",
		StatusTryAgainLater: "1013 (try again later)", StatusBadGateway: "1014 (bad gateway)", StatusTLSHandshake: "1015 (TLS handshake)",
	} {
		if got := code.String(); got != want {
			t.Errorf("StatusCode(%d).String() = %q, want %q", uint16(code), got, want)
		}
	}
}

// receivableCode is K-03 word for word.
func receivableCode(c int) bool {
	return 1000 <= c && c <= 1003 || 1007 <= c && c <= 1014 || 3000 <= c && c <= 4999
}

func TestK03K04K19Codes(t *testing.T) {
	for c := range 1 << 16 {
		code := StatusCode(c)
		if got, want := code.receivable(), receivableCode(c); got != want {
			t.Errorf("%d: receivable %v, want %v", c, got, want)
		}
		if got, want := code.sendable(), receivableCode(c) && c != 1010; got != want {
			t.Errorf("%d: sendable %v, want %v", c, got, want)
		}
		closed, violation := parseClose([]byte{byte(c >> 8), byte(c)})
		if receivableCode(c) {
			if violation != nil || closed == nil || *closed != (CloseError{Code: code, Remote: true}) {
				t.Errorf("%d received: %#v, %v", c, closed, violation)
			}
			continue
		}
		wantCode(t, violation, StatusProtocolError)
		if closed != nil {
			t.Errorf("%d received: %v beside a violation", c, closed)
		}
	}
}

func TestParseClose(t *testing.T) {
	tests := []struct {
		id, payload string
		closed      *CloseError
		code        StatusCode // of the violation
	}{
		{"K-02", "", &CloseError{Code: StatusNoStatusRcvd, Remote: true}, 0},
		{"K-05", "03", nil, StatusProtocolError},
		{"K-05", "ff", nil, StatusProtocolError},
		{"K-01", "03e8", &CloseError{Code: 1000, Remote: true}, 0},
		{"K-01", "03e8 627965", &CloseError{Code: 1000, Reason: "bye", Remote: true}, 0},
		{"K-01", "1387 00", &CloseError{Code: 4999, Reason: "\x00", Remote: true}, 0},
		{"K-07", "03e8 rep(2a,123)", &CloseError{Code: 1000, Reason: strings.Repeat("*", 123), Remote: true}, 0},
		{"K-06", "03e8 ff", nil, StatusInvalidFramePayloadData},
		{"K-06", "03e8 e282", nil, StatusInvalidFramePayloadData},
		{"K-06", "03e8 cebae1bdb9cf83cebcceb5eda080656469746564", nil, StatusInvalidFramePayloadData},
		{"K-04 before K-06", "0000 ff", nil, StatusProtocolError},
	}
	for _, tt := range tests {
		closed, violation := parseClose(wire(t, tt.payload))
		wantCode(t, violation, tt.code)
		if (closed == nil) != (tt.closed == nil) || closed != nil && *closed != *tt.closed {
			t.Errorf("%s: %s: %#v, want %#v", tt.id, tt.payload, closed, tt.closed)
		}
	}
}

func TestK20AppendClose(t *testing.T) {
	tests := []struct {
		id     string
		code   StatusCode
		reason string
		want   string
	}{
		{"K-02", StatusNoStatusRcvd, "", "88 00"},
		{"K-02", StatusNoStatusRcvd, "goes with a code only", "88 00"},
		{"K-13", 1001, "bye", "88 05 03e9 627965"},
		{"K-01", 1000, "", "88 02 03e8"},
		{"K-07", 4999, strings.Repeat("*", 123), "88 7d 1387 rep(2a,123)"},
		{"K-20", 1011, strings.Repeat("*", 124), "88 7d 03f3 rep(2a,123)"},
		{"K-20", 1011, strings.Repeat("*", 100000), "88 7d 03f3 rep(2a,123)"},
		// A character that does not fit as a whole goes as a whole.
		{"K-20", 1011, strings.Repeat("*", 121) + "é", "88 7d 03f3 rep(2a,121) c3a9"},
		{"K-20", 1011, strings.Repeat("*", 122) + "é", "88 7c 03f3 rep(2a,122)"},
		{"K-20", 1011, strings.Repeat("*", 121) + "€", "88 7b 03f3 rep(2a,121)"},
		{"K-20", 1011, strings.Repeat("*", 122) + "€", "88 7c 03f3 rep(2a,122)"},
		{"K-20", 1011, strings.Repeat("*", 120) + "😀", "88 7a 03f3 rep(2a,120)"},
		{"K-20", 1011, strings.Repeat("*", 121) + "😀", "88 7b 03f3 rep(2a,121)"},
		{"K-20", 1011, strings.Repeat("*", 122) + "😀!", "88 7c 03f3 rep(2a,122)"},
	}
	for _, tt := range tests {
		got := appendClose([]byte("x"), tt.code, tt.reason)
		if want := append([]byte("x"), wire(t, tt.want)...); !bytes.Equal(got, want) {
			t.Errorf("%s: %d %q: %x, want %x", tt.id, tt.code, tt.reason, got, want)
		}
	}
}

func TestK20CutReason(t *testing.T) {
	for _, unit := range []string{"a", "é", "€", "😀", "aé€😀"} {
		for n := range 130 {
			s := strings.Repeat("x", n) + strings.Repeat(unit, 130)
			cut := cutReason(s)
			next := len(string([]rune(s[len(cut):])[0]))
			if !strings.HasPrefix(s, cut) || len(cut) > 123 || !utf8.ValidString(cut) || len(cut)+next <= 123 {
				t.Fatalf("%q cut to %d bytes: %q", s, len(cut), cut)
			}
		}
	}
	if got := cutReason(strings.Repeat("x", 123)); len(got) != 123 {
		t.Errorf("123 bytes cut to %d", len(got))
	}
}

// kindsOfEnd are all the ways in which a CloseError comes about.
func kindsOfEnd() []struct {
	id   string
	err  *CloseError
	text string
	is   []error // of sentinels, all others it is not
	same error   // what Unwrap returns
} {
	reset := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	late := &net.OpError{Op: "write", Net: "tcp", Err: os.ErrDeadlineExceeded}
	failure := errors.New("boom")
	ours := fmt.Errorf("%w: %w", net.ErrClosed, failure)
	given, giveUp := context.WithCancelCause(context.Background())
	giveUp(failure)
	// endBy returns how a connection ends by what is done to it.
	endBy := func(do func(c *Conn)) *CloseError {
		c, _ := play(&Config{}, nil)
		do(c)
		<-c.Context().Done()
		return c.ended().(*CloseError)
	}
	cut := endBy(func(c *Conn) { c.writeFailed(&sendq.TornError{Context: given}) })
	abandoned := endBy(func(c *Conn) { c.abandon(ErrWriterClosed) })
	return []struct {
		id   string
		err  *CloseError
		text string
		is   []error
		same error
	}{
		{"own Close", &CloseError{Code: 1000, cause: net.ErrClosed},
			"websocket: closed with 1000 (normal closure)", []error{net.ErrClosed}, net.ErrClosed},
		{"own Close with a reason", &CloseError{Code: 4000, Reason: "later", cause: net.ErrClosed},
			`websocket: closed with 4000: "later"`, []error{net.ErrClosed}, net.ErrClosed},
		{"CloseNow", &CloseError{Code: 1006, cause: net.ErrClosed},
			"websocket: connection cut", []error{net.ErrClosed}, net.ErrClosed},
		{"handler failed", &CloseError{Code: 1011, cause: ours},
			"websocket: closed with 1011 (internal error): " + ours.Error(), []error{net.ErrClosed, failure}, ours},
		{"peer's Close", &CloseError{Code: 1001, Remote: true},
			"websocket: closed by the peer with 1001 (going away)", nil, nil},
		{"peer's Close without a code", &CloseError{Code: 1005, Remote: true},
			"websocket: closed by the peer with 1005 (no status received)", nil, nil},
		{"S-10", &CloseError{Code: 3000, Reason: "a\nb\x1b[31mred\x1b[0m\u202e", Remote: true},
			`websocket: closed by the peer with 3000: "a\nb\x1b[31mred\x1b[0m\u202e"`, nil, nil},
		{"violation", protocolError("reserved bit set"),
			`websocket: closed with 1002 (protocol error): "reserved bit set"`, nil, nil},
		{"end of input", lost(io.EOF),
			"websocket: connection lost: unexpected EOF", []error{io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF},
		{"reset", lost(reset),
			"websocket: connection lost: " + reset.Error(), []error{syscall.ECONNRESET}, reset},
		{"write timeout", lost(late),
			"websocket: connection lost: " + late.Error(), []error{os.ErrDeadlineExceeded}, late},
		{"write failed", endBy(func(c *Conn) { c.writeFailed(reset) }),
			"websocket: connection lost: " + reset.Error(), []error{syscall.ECONNRESET}, reset},
		{"frame cut by a context", cut,
			"websocket: connection cut: write inside a frame: context canceled: boom", []error{context.Canceled, failure}, cut.cause},
		{"message abandoned", abandoned,
			`websocket: closed with 1011 (internal error): "message abandoned": write: the writer is closed`, []error{net.ErrClosed, ErrWriterClosed}, abandoned.cause},
	}
}

func TestCloseError(t *testing.T) {
	sentinels := []error{net.ErrClosed, io.EOF, io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, syscall.ECONNRESET, context.Canceled, ErrWriterClosed}
	for _, tt := range kindsOfEnd() {
		t.Run(tt.id, func(t *testing.T) {
			if got := tt.err.Error(); got != tt.text {
				t.Errorf("Error() = %q, want %q", got, tt.text)
			}
			if got := tt.err.Unwrap(); got != tt.same {
				t.Errorf("Unwrap() = %v, want %v", got, tt.same)
			}
			for _, s := range append(sentinels, tt.is...) {
				if got, want := errors.Is(tt.err, s), slices.Contains(tt.is, s); got != want {
					t.Errorf("Is(%v) = %v, want %v", s, got, want)
				}
			}
			var e *CloseError
			if !errors.As(fmt.Errorf("read: %w", tt.err), &e) || e != tt.err {
				t.Error("As does not find it")
			}
			var timeout net.Error
			if want := errors.Is(tt.err, os.ErrDeadlineExceeded); errors.As(tt.err, &timeout) && timeout.Timeout() != want {
				t.Errorf("Timeout() = %v, want %v", timeout.Timeout(), want)
			}
		})
	}
}

func TestS10ReasonStaysOnOneLine(t *testing.T) {
	for r := rune(0); r < 0x3000; r++ {
		text := (&CloseError{Code: 1000, Reason: string(r), Remote: true}).Error()
		for _, c := range text {
			if c < ' ' || 0x7f <= c && c < 0xa0 || 0x200b <= c && c <= 0x200f || 0x2028 <= c && c <= 0x202e {
				t.Fatalf("reason %U: %q has it unescaped", r, text)
			}
		}
	}
}

func TestX18VerdictsSayNothingOfThePeer(t *testing.T) {
	// The same violation with other bytes has the same reason.
	reason := func(v *CloseError) string {
		if v == nil {
			return ""
		}
		return v.Reason
	}
	_, a := parseClose([]byte{0, 1, 'a'})
	_, b := parseClose([]byte{0, 2, 'b'})
	_, c := parseClose([]byte("\x03\xe8peer\xff"))
	_, d := parseClose([]byte("\x03\xe8\xff"))
	if reason(a) == "" || reason(a) != reason(b) || reason(c) == "" || reason(c) != reason(d) {
		t.Errorf("%q, %q; %q, %q", reason(a), reason(b), reason(c), reason(d))
	}
}

func TestK08OneEnd(t *testing.T) {
	// Whatever ends the connection first is its end; whatever comes second
	// changes nothing and sends nothing.
	read := func(v *CloseError) func(c *Conn) {
		return func(c *Conn) {
			if c.takeFor(turnRead) { // else it is the end that reads
				c.settle(v)
				c.giveTurn()
			}
		}
	}
	ends := []struct {
		name string
		run  func(c *Conn)
		code StatusCode
		sent string
	}{
		{"Close", func(c *Conn) { c.Close(4000, "bye") }, 4000, "88 05 0fa0 627965"},
		{"CloseNow", func(c *Conn) { c.CloseNow() }, 1006, ""},
		{"peer's Close", read(&CloseError{Code: 1001, Remote: true}), 1001, "88 02 03e9"},
		{"violation", read(protocolError("x")), 1002, "88 03 03ea 78"},
		{"end of input", read(lost(io.EOF)), 1006, ""},
		{"lost", read(lost(syscall.ECONNRESET)), 1006, ""},
		{"write failed", func(c *Conn) { c.writeFailed(syscall.EPIPE) }, 1006, ""},
		{"abandoned", func(c *Conn) { c.abandon(ErrWriterClosed) }, 1011, "88 13 03f3 6d657373616765206162616e646f6e6564"},
	}
	for _, first := range ends {
		for _, second := range ends {
			c, s := play(&Config{WriteTimeout: time.Second}, nil)
			first.run(c)
			end := c.ended()
			if e, ok := end.(*CloseError); !ok || e.Code != first.code {
				t.Fatalf("%s: ended by %v", first.name, end)
			}
			if second.name == "CloseNow" {
				<-c.out.Drained() // what it would cut is out
			}
			second.run(c)
			if c.ended() != end {
				t.Errorf("%s, then %s: ended by %v", first.name, second.name, c.ended())
			}
			<-c.Context().Done()
			if context.Cause(c.Context()) != end || c.Close(1000, "") != end || c.CloseNow() != end || c.ended() != end {
				t.Errorf("%s, then %s: the end is told in several ways", first.name, second.name)
			}
			s.mu.Lock()
			if want := wire(t, first.sent); !bytes.Equal(s.out, want) {
				t.Errorf("%s, then %s: sent %x, want %x", first.name, second.name, s.out, want)
			}
			s.mu.Unlock()
		}
	}
}

// halfless is a connection without a half-close.
type halfless struct{ net.Conn }

func TestWithoutHalfClose(t *testing.T) {
	// Invariant 10, on a connection of a wrapped listener: what the peer has
	// on its way is read until it is quiet, within the bounds of L-08.
	tests := []struct {
		name  string
		sends int           // how many times the peer goes on
		every time.Duration // after its Close
		bytes int
		over  time.Duration
	}{
		{"a quiet peer", 0, 0, 0, quietTime},
		{"a peer that goes on for a while", 3, 90 * time.Millisecond, 10, 3*90*time.Millisecond + quietTime},
		{"a peer that goes on for ever", 1000, 90 * time.Millisecond, 10, drainTime},
		{"a peer that sends too much", 1000, time.Millisecond, 1 << 20, 4 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, peer := memconn.Pair()
				peer.SetBuffer(1 << 20)
				c := newConn(halfless{here}, nil, on(Config{WriteTimeout: time.Second}), "", nil)
				peer.Write(wire(t, "88 82 z 03e8"))
				_, _, err := c.Read(t.Context())
				if e, ok := err.(*CloseError); !ok || e.Code != StatusNormalClosure || !e.Remote {
					t.Errorf("Read: %v", err)
				}
				start := time.Now()
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					for range tt.sends {
						time.Sleep(tt.every)
						if _, err := peer.Write(make([]byte, tt.bytes)); err != nil {
							return
						}
					}
				}()
				<-c.Context().Done()
				if d := time.Since(start); d != tt.over {
					t.Errorf("over after %v, want %v", d, tt.over)
				}
				got, err := io.ReadAll(peer)
				if want := wire(t, "88 02 03e8"); !bytes.Equal(got, want) || err != nil {
					t.Errorf("the peer reads %x, %v, want %x and the end", got, err, want)
				}
				<-gone
			})
		})
	}
}

func TestPingOnABrokenConnection(t *testing.T) {
	c, s := play(&Config{WriteTimeout: time.Second}, nil)
	s.broken = syscall.EPIPE
	_, err := c.Ping(t.Context())
	if !errors.Is(err, syscall.EPIPE) || err != c.ended() {
		t.Errorf("Ping: %v, ended by %v", err, c.ended())
	}
	<-c.Context().Done()
}

func TestC09Pongs(t *testing.T) {
	// Of several pings, a pong answers its own and those before it (§5.5.3);
	// any other payload answers none.
	c, _ := play(&Config{}, nil)
	defer c.CloseNow()
	var pings []*ping
	for id := range uint64(4) {
		pings = append(pings, &ping{id: uint32(id) + 1, answered: make(chan struct{})})
	}
	c.rare = &rare{pings: pings}
	for _, step := range []struct {
		payload string
		want    string
	}{
		{"", "0000"}, {"0000000000000000", "0000"}, {"0000000000000005", "0000"}, {"01", "0000"},
		{"000000000000000200", "0000"}, {"00000000000002", "0000"}, {"0200000000000000", "0000"},
		{"0000000000000002", "1100"}, {"0000000000000001", "1100"}, {"0000000000000002", "1100"},
		{"0000000000000004", "1111"}, {"0000000000000003", "1111"},
	} {
		c.gotPong(wire(t, step.payload))
		got := ""
		for _, p := range pings {
			got += map[bool]string{true: "1", false: "0"}[p.isAnswered()]
		}
		if got != step.want {
			t.Fatalf("after a pong with %q: %s, want %s", step.payload, got, step.want)
		}
	}
}
