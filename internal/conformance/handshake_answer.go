package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strconv"
	"strings"
)

// HandshakeMaxBody is what "short" means for the body of a refusal.
const HandshakeMaxBody = 512

// A HandshakeResponse is a response as it came, in order and without any
// canonical form.
type HandshakeResponse struct {
	Line   string
	Status int
	Header [][2]string
	Body   string
	Head   bool // it answers a HEAD and therefore has no body
}

func (r HandshakeResponse) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\t%q\n", r.Line)
	for _, h := range r.Header {
		fmt.Fprintf(&b, "\t%q\n", h[0]+": "+h[1])
	}
	fmt.Fprintf(&b, "\n\t%q", r.Body)
	return b.String()
}

// Values returns the values of all lines of that name.
func (r HandshakeResponse) Values(name string) []string {
	var values []string
	for _, h := range r.Header {
		if strings.EqualFold(h[0], name) {
			values = append(values, h[1])
		}
	}
	return values
}

// ReadHandshakeResponse reads one response and not a byte more. It is
// stricter than RFC 9112 asks of a recipient: one form of line, and a body
// with a Content-Length.
func ReadHandshakeResponse(br *bufio.Reader, head bool) (HandshakeResponse, error) {
	r := HandshakeResponse{Head: head}
	var err error
	if r.Line, err = handshakeLine(br); err != nil {
		return r, fmt.Errorf("the status line: %w after %q", err, r.Line)
	}
	version, rest, _ := strings.Cut(r.Line, " ")
	digits, _, _ := strings.Cut(rest, " ")
	if version != "HTTP/1.1" && version != "HTTP/1.0" || len(digits) != 3 {
		return r, fmt.Errorf("a status line %q", r.Line)
	}
	if r.Status, err = strconv.Atoi(digits); err != nil {
		return r, fmt.Errorf("a status line %q", r.Line)
	}
	for {
		line, err := handshakeLine(br)
		if err != nil {
			return r, fmt.Errorf("the header: %w after %q\n%s", err, line, r)
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return r, fmt.Errorf("a header line %q", line)
		}
		r.Header = append(r.Header, [2]string{name, strings.Trim(value, " \t")})
	}
	if r.Status/100 == 1 || r.Status == 204 || r.Status == 304 || head {
		return r, nil
	}
	length := r.Values("Content-Length")
	if len(length) != 1 || len(r.Values("Transfer-Encoding")) > 0 {
		return r, fmt.Errorf("not exactly one Content-Length and no Transfer-Encoding\n%s", r)
	}
	n, err := strconv.ParseUint(length[0], 10, 31)
	if err != nil {
		return r, fmt.Errorf("a Content-Length %q", length[0])
	}
	body := make([]byte, n)
	got, err := io.ReadFull(br, body)
	r.Body = string(body[:got])
	if err != nil {
		return r, fmt.Errorf("the body: %w after %d of %d bytes\n%s", err, got, n, r)
	}
	return r, nil
}

func handshakeLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadString('\n')
	if err != nil {
		return line, err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		return line, errors.New("a bare CR or LF, or a control character")
	}
	return line, nil
}

// Check compares a response with what is wanted and with what all answers of
// its kind have in common.
func (a HandshakeAnswer) Check(r HandshakeResponse) error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	exactly := func(why, name, value string) {
		if got := r.Values(name); len(got) != 1 || got[0] != value {
			fault("%s: %s is %q, want exactly %q", why, name, got, value)
		}
	}
	absent := func(why, name string) {
		if got := r.Values(name); len(got) > 0 {
			fault("%s: %s is %q, want no such line", why, name, got)
		}
	}

	if r.Status != a.Status {
		fault("status %d, want %d", r.Status, a.Status)
	}
	known := []string{"Upgrade", "Connection", "Sec-WebSocket-Accept"}
	for _, line := range a.Header {
		name, value, _ := strings.Cut(line, ": ")
		exactly("the row", name, value)
		known = append(known, name)
	}
	for _, name := range a.Absent {
		absent("the row", name)
	}
	if strings.Contains(strings.ToLower(r.Body), HandshakeMarker) {
		fault("S-11: the body reflects the request")
	}
	for _, h := range r.Header {
		if strings.Contains(strings.ToLower(h[0]+h[1]), HandshakeMarker) {
			fault("S-11: the line %q reflects the request", h[0]+": "+h[1])
		}
	}

	if r.Status != 101 {
		absent("H-01…H-13", "Sec-WebSocket-Accept")
		absent("H-01…H-13", "Transfer-Encoding")
		if r.Status != 204 && r.Status != 304 {
			errs = append(errs, r.checkBody())
		}
		return errors.Join(errs...)
	}

	if !strings.HasPrefix(r.Line, "HTTP/1.1 101 ") {
		fault("R-02: status line %q", r.Line)
	}
	exactly("R-02", "Upgrade", "websocket")
	exactly("R-02", "Connection", "Upgrade")
	accept := a.Accept
	if accept == "" {
		accept = handshakeAccept
	}
	exactly("R-01", "Sec-WebSocket-Accept", accept)
	if a.Subprotocol != "" {
		exactly("P-01", "Sec-WebSocket-Protocol", a.Subprotocol)
		known = append(known, "Sec-WebSocket-Protocol")
	}
	if a.Extension != "" {
		exactly("E-08, N-21", "Sec-WebSocket-Extensions", a.Extension)
		known = append(known, "Sec-WebSocket-Extensions")
	}
	for _, h := range r.Header {
		if !slices.ContainsFunc(known, func(name string) bool { return strings.EqualFold(name, h[0]) }) {
			fault("R-03…R-06: the line %q does not belong to this 101", h[0]+": "+h[1])
		}
	}
	return errors.Join(errs...)
}

// checkBody is S-11 and what section 1 says of every refusal.
func (r HandshakeResponse) checkBody() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	kind := r.Values("Content-Type")
	if len(kind) != 1 {
		fault("S-11: Content-Type is %q", kind)
	} else if media, _, err := mime.ParseMediaType(kind[0]); err != nil || media != "text/plain" {
		fault("S-11: Content-Type is %q, want text/plain", kind[0])
	}
	if got := r.Values("X-Content-Type-Options"); len(got) != 1 || got[0] != "nosniff" {
		fault("S-11: X-Content-Type-Options is %q, want exactly nosniff", got)
	}
	if r.Head {
		return errors.Join(errs...)
	}
	if len(r.Body) == 0 || len(r.Body) > HandshakeMaxBody {
		fault("S-11: a body of %d bytes, want 1 … %d", len(r.Body), HandshakeMaxBody)
	}
	if strings.ContainsFunc(r.Body, func(c rune) bool { return c != '\n' && (c < ' ' || c > '~') }) {
		fault("S-11: the body is not plain text: %q", r.Body)
	}
	return errors.Join(errs...)
}
