package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// HandshakeMarker stands in some requests in every place where a peer can
// write; no answer may contain it (S-11).
const HandshakeMarker = "zq7xw"

// The BASE request, in lines.
var handshakeBase = []string{
	"Host: example.com",
	"Upgrade: websocket",
	"Connection: Upgrade",
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	"Sec-WebSocket-Version: 13",
}

// handshakeAccept is the answer to the key in BASE.
const handshakeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

// A HandshakeServer is the set of options that a row needs. The fields are
// those of an Upgrader.
type HandshakeServer struct {
	Name              string
	Subprotocols      []string
	SelectSubprotocol func(r *http.Request, offered []string) string
	Origins           []string
	AnyOrigin         bool
	CheckOrigin       func(*http.Request) error
	Compression       HandshakeCompression
}

// HandshakeCompression has the fields of a Compression that are about what is
// agreed on.
type HandshakeCompression struct {
	Enable                                           bool
	ServerWindowBits, ClientWindowBits               int
	ServerNoContextTakeover, ClientNoContextTakeover bool
}

// A HandshakeRow is an edit of BASE and the answer to it.
type HandshakeRow struct {
	ID     string
	Rule   string
	Server *HandshakeServer

	Method, Target, Proto string // instead of GET, /ws, HTTP/1.1

	// Header lines, several of them separated by a line feed. Set takes the
	// place of the line of that name, or stands behind all others if there is
	// none; Drop has names without values; Add stands behind all others.
	Set, Drop, Add string
	Behind         string // bytes behind the empty line

	Want HandshakeAnswer
}

// A HandshakeAnswer is what has to come back. What every 101 and every
// refusal must fulfil (R-01 … R-05, S-11) need not be said.
type HandshakeAnswer struct {
	Status      int
	Header      []string // "Name: value": exactly one line of that name, with that value
	Absent      []string // names
	Accept      string   // with a 101; empty: the one for BASE's key
	Subprotocol string   // with a 101; empty: no such line
	Frames      string   // in notation: what the frames behind the request are answered with

	// Deflate is the element with which a server with compression, the
	// options for which are the defaults, agrees to an offer in this request.
	// One without compression names no extension.
	Deflate   string
	Extension string // with a 101: the element of this server; empty: no such line

	Continue bool // a 100 may come first (H-23)
	NetHTTP  bool // net/http gives the answer, in its own form, and closes; no handler runs
	Closes   bool // HTTP cannot go on after the answer
}

// Name tells rows of one id apart.
func (r HandshakeRow) Name() string {
	var parts []string
	for _, s := range []string{r.Method, r.Target, r.Proto} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	for _, s := range []struct{ sign, lines string }{{"", r.Set}, {"-", r.Drop}, {"+", r.Add}} {
		for line := range strings.SplitSeq(s.lines, "\n") {
			if line != "" {
				parts = append(parts, fmt.Sprintf("%s%+q", s.sign, line))
			}
		}
	}
	if r.Behind != "" {
		parts = append(parts, fmt.Sprintf("+%d bytes", len(r.Behind)))
	}
	name := strings.NewReplacer(`"`, "", "/", "|").Replace(strings.Join(parts, " "))
	if name == "" {
		name = "BASE"
	}
	if r.Server != nil && r.Server.Name != handshakeDefault.Name {
		name += " with " + r.Server.Name
	}
	return r.ID + " " + name
}

// With applies the edits of other on top of those of r.
func (r HandshakeRow) With(other HandshakeRow) HandshakeRow {
	replace := func(s *string, by string) {
		if by != "" {
			*s = by
		}
	}
	join := func(s *string, more string) {
		if *s != "" && more != "" {
			*s += "\n"
		}
		*s += more
	}
	replace(&r.Method, other.Method)
	replace(&r.Target, other.Target)
	replace(&r.Proto, other.Proto)
	join(&r.Set, other.Set)
	join(&r.Drop, other.Drop)
	join(&r.Add, other.Add)
	r.Behind += other.Behind
	return r
}

// Lines returns the header lines of the request.
func (r HandshakeRow) Lines() []string {
	lines := append([]string(nil), handshakeBase...)
	name := func(line string) string {
		name, _, _ := strings.Cut(line, ":")
		return strings.ToLower(strings.TrimSpace(name))
	}
	find := func(line string) int {
		for i, l := range lines {
			if name(l) == name(line) {
				return i
			}
		}
		return -1
	}
	split := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, "\n")
	}
	for _, line := range split(r.Set) {
		if i := find(line); i >= 0 {
			lines[i] = line
		} else {
			lines = append(lines, line)
		}
	}
	for _, line := range split(r.Drop) {
		if i := find(line); i >= 0 {
			lines = append(lines[:i], lines[i+1:]...)
		}
	}
	return append(lines, split(r.Add)...)
}

// Request returns the bytes of the request and of what stands behind it.
func (r HandshakeRow) Request() []byte {
	either := func(s, base string) string {
		if s == "" {
			return base
		}
		return s
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", either(r.Method, "GET"), either(r.Target, "/ws"), either(r.Proto, "HTTP/1.1"))
	for _, line := range r.Lines() {
		fmt.Fprintf(&b, "%s\r\n", line)
	}
	fmt.Fprintf(&b, "\r\n%s", r.Behind)
	return b.Bytes()
}

// Upgrades says how many connections come out of a [HandshakeRow.Play].
func (r HandshakeRow) Upgrades() int {
	if r.Want.Status == 101 || r.again() {
		return 1
	}
	return 0
}

// Requests says how many requests a handler gets to see in a
// [HandshakeRow.Play].
func (r HandshakeRow) Requests() int {
	switch {
	case r.Want.NetHTTP:
		return 0
	case r.again():
		return 2
	}
	return 1
}

// again says whether a second request follows on the connection (H-24).
func (r HandshakeRow) again() bool {
	return r.Want.Status != 101 && !r.Want.NetHTTP && !r.Want.Closes
}

// Play sends the request, cut at the given offsets with a pause at each cut,
// and checks all that comes back until the end of the stream: after a 101
// that the connection is open (OPEN), that it closes (CLEAN), and that there
// is no further byte; after a refusal that a second request upgrades.
func (r HandshakeRow) Play(conn net.Conn, cuts []int, pause func()) error {
	request := r.Request()
	from := 0
	for _, to := range cuts {
		if _, err := conn.Write(request[from:to]); err != nil && !r.Want.NetHTTP {
			return fmt.Errorf("sending the request: %w", err)
		}
		from = to
		if pause != nil {
			pause()
		}
	}
	if _, err := conn.Write(request[from:]); err != nil && !r.Want.NetHTTP {
		return fmt.Errorf("sending the request: %w", err)
	}
	if r.Want.NetHTTP {
		return r.Want.checkNetHTTP(conn, len(cuts) > 0)
	}
	br := bufio.NewReader(conn)
	resp, err := ReadHandshakeResponse(br, r.Method == "HEAD")
	if err == nil && resp.Status == 100 && r.Want.Continue {
		resp, err = ReadHandshakeResponse(br, false)
	}
	if err != nil {
		return err
	}
	if err := r.Want.Check(resp); err != nil {
		return fmt.Errorf("%w\n%s", err, resp)
	}
	switch {
	case r.Want.Status == 101:
		return r.checkOpen(conn, br)
	case r.Want.Closes:
		rest, err := io.ReadAll(br)
		if err != nil {
			return fmt.Errorf("after the refusal: %w", err)
		}
		if len(rest) > 0 && !bytes.HasPrefix(rest, []byte("HTTP/1.1 400 ")) {
			return fmt.Errorf("after the refusal came %q", rest)
		}
		return nil
	}
	second := HandshakeRow{Want: HandshakeAnswer{Status: 101}}
	if _, err := io.WriteString(conn, hsBaseAgain); err != nil {
		return fmt.Errorf("H-24: sending a second request: %w", err)
	}
	if resp, err = ReadHandshakeResponse(br, false); err != nil {
		return fmt.Errorf("H-24: the answer to a second request: %w", err)
	}
	if err := second.Want.Check(resp); err != nil {
		return fmt.Errorf("H-24: the answer to a second request: %w\n%s", err, resp)
	}
	return second.checkOpen(conn, br)
}

func (r HandshakeRow) checkOpen(conn net.Conn, br *bufio.Reader) error {
	for _, step := range []struct{ send, want string }{
		{"", r.Want.Frames},
		{"89 80 z", "8a 00"},
		{"88 82 z 03e8", "88 02 03e8"},
	} {
		want := mustBytes(step.want)
		if _, err := conn.Write(mustBytes(step.send)); err != nil {
			return fmt.Errorf("after the 101: sending %s: %w", step.send, err)
		}
		got := make([]byte, len(want))
		if n, err := io.ReadFull(br, got); err != nil {
			return fmt.Errorf("after the 101: %w after %x, want %x", err, got[:n], want)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("after the 101: received %x, want %x", got, want)
		}
	}
	if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
		return fmt.Errorf("after the Close frame: received %x and %v, want the end of the stream", rest, err)
	}
	return nil
}

// checkNetHTTP asks no more than the status and that nothing else follows:
// the form is not the library's. In the middle of a request net/http answers
// and closes without reading on, so that a reset can take the answer away.
func (a HandshakeAnswer) checkNetHTTP(conn net.Conn, cut bool) error {
	all, err := io.ReadAll(conn)
	var timeout net.Error
	switch {
	case err != nil && cut && !(errors.As(err, &timeout) && timeout.Timeout()):
		if len(all) == 0 {
			return nil
		}
	case err != nil:
		return fmt.Errorf("%w after %q", err, all)
	}
	if !bytes.HasPrefix(all, fmt.Appendf(nil, "HTTP/1.1 %d ", a.Status)) || bytes.Count(all, []byte("HTTP/1.")) != 1 {
		return fmt.Errorf("received %q, want %d from net/http", all, a.Status)
	}
	if bytes.Contains(bytes.ToLower(all), []byte("sec-websocket")) {
		return errors.New("net/http's answer has lines of the library")
	}
	return nil
}
