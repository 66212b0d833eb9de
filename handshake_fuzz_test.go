package websocket_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// hsInput is a GET request over HTTP/1.1 without a body. Each field is the
// lines of one header, each line ended by a line feed; an empty string is no
// line at all.
type hsInput struct {
	upgrade, connection, key, version, protocol, extensions, origin string
	host                                                            string // as it is
}

var hsInputNames = []string{"Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version",
	"Sec-Websocket-Protocol", "Sec-Websocket-Extensions", "Origin"}

func (in *hsInput) fields() []*string {
	return []*string{&in.upgrade, &in.connection, &in.key, &in.version, &in.protocol, &in.extensions, &in.origin}
}

// hsInputOf returns the input that a row is, if it is one.
func hsInputOf(row conformance.HandshakeRow) (in hsInput, ok bool) {
	if row.Method+row.Target+row.Proto+row.Behind != "" || row.Server.Name != "default" || row.Want.NetHTTP {
		return in, false
	}
	for _, line := range row.Lines() {
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if strings.EqualFold(name, "Host") {
			in.host = value
			continue
		}
		if i := slices.IndexFunc(hsInputNames, func(s string) bool { return strings.EqualFold(s, name) }); i >= 0 {
			*in.fields()[i] += value + "\n"
		}
	}
	return in, true
}

func hsLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// hsList takes a list apart at its commas, which is right wherever an element
// with a comma inside is none.
func hsList(lines []string) (elements []string) {
	for _, e := range strings.Split(strings.Join(lines, ","), ",") {
		if e = strings.Trim(e, " \t"); e != "" {
			elements = append(elements, e)
		}
	}
	return elements
}

const (
	hsToken  = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	hsQuoted = `"(?:\\?[!#$%&'*+.^_` + "`" + `|~0-9A-Za-z-])+"`
	hsBlank  = `[ \t]*`
)

var (
	hsTokenRE     = regexp.MustCompile("^" + hsToken + "$")
	hsKeyRE       = regexp.MustCompile("^[A-Za-z0-9+/]{22}==$")
	hsExtensionRE = regexp.MustCompile("^" + hsToken + "(?:" + hsBlank + ";" + hsBlank + hsToken +
		"(?:" + hsBlank + "=" + hsBlank + "(?:" + hsToken + "|" + hsQuoted + "))?)*$")
	hsHostRE   = regexp.MustCompile(`^([a-z0-9-]+(?:\.[a-z0-9-]+)*|\[::1\])(?::([1-9][0-9]{0,3}))?$`)
	hsOriginRE = regexp.MustCompile(`^(https?)://([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[::1\])(?::([1-9][0-9]{0,3}))?$`)
	// What could be read as the host of another scheme, or with a port that
	// is written in another way, is left open by the contract, and so are
	// blanks at the ends, which net/http takes away.
	hsOpenOriginRE = regexp.MustCompile(`^[ \t]*[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?[ \t]*$`)
)

// hsLower lowers ASCII only.
func hsLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// judge says what section 1 to 4 want: a status, and a subprotocol with 101.
// Status 0 says that the contract leaves it open.
func (in hsInput) judge(subprotocols []string) (status int, subprotocol string) {
	has := func(list, token string) bool {
		return slices.ContainsFunc(hsList(hsLines(list)), func(e string) bool { return hsLower(e) == token })
	}
	versions, keys := hsLines(in.version), hsLines(in.key)
	offered, extensions := hsList(hsLines(in.protocol)), hsList(hsLines(in.extensions))
	notToken := func(s string) bool { return !hsTokenRE.MatchString(s) }
	notExtension := func(s string) bool { return !hsExtensionRE.MatchString(s) }
	switch {
	case !has(in.upgrade, "websocket"): // H-03
		return 426, ""
	case !has(in.connection, "upgrade"): // H-04
		return 400, ""
	case len(versions) != 1: // H-05, H-07
		return 400, ""
	case strings.Trim(versions[0], " \t") != "13": // H-06
		return 426, ""
	case len(keys) != 1, !hsKeyRE.MatchString(strings.Trim(keys[0], " \t")): // H-08, H-09
		return 400, ""
	case in.protocol != "" && (len(offered) == 0 || slices.ContainsFunc(offered, notToken)): // P-06, P-07
		return 400, ""
	case in.extensions != "" && (len(extensions) == 0 || slices.ContainsFunc(extensions, notExtension)): // E-03
		return 400, ""
	}
	for i, e := range offered {
		if slices.Contains(offered[:i], e) { // P-08
			return 400, ""
		}
		if subprotocol == "" && slices.Contains(subprotocols, e) { // P-02
			subprotocol = e
		}
	}
	switch origins := hsLines(in.origin); {
	case len(origins) > 1: // O-05
		return 403, ""
	case len(origins) == 1:
		if status := judgeOrigin(origins[0], in.host); status != 101 {
			return status, ""
		}
	}
	return 101, subprotocol
}

// judgeOrigin is O-02 to O-04 for hosts of an everyday form.
func judgeOrigin(origin, host string) int {
	h := hsHostRE.FindStringSubmatch(hsLower(host))
	o := hsOriginRE.FindStringSubmatch(origin)
	switch {
	case o == nil && !hsOpenOriginRE.MatchString(origin):
		return 403
	case h == nil, o == nil:
		return 0
	}
	for _, part := range [][]string{h, o} {
		if last := len(part) - 1; part[last] == "" {
			part[last] = map[string]string{"http": "80", "https": "443"}[o[1]]
		}
	}
	if hsLower(o[2]) != h[1] || o[3] != h[2] {
		return 403
	}
	return 101
}

// TestHandshakeJudge holds the judge of FuzzHandshakeHeaders against the rows.
func TestHandshakeJudge(t *testing.T) {
	n := 0
	for _, row := range conformance.HandshakeRows() {
		in, ok := hsInputOf(row)
		if !ok || strings.Contains(row.Add, "Content-Length") {
			continue
		}
		n++
		status, subprotocol := in.judge(row.Server.Subprotocols)
		if status == 0 && row.ID != "O-02" && row.ID != "O-04" || status != 0 && status != row.Want.Status || subprotocol != row.Want.Subprotocol {
			t.Errorf("%s: judged %d and %q, the row says %d and %q", row.Name(), status, subprotocol, row.Want.Status, row.Want.Subprotocol)
		}
	}
	if n < 200 {
		t.Errorf("only %d rows were judged", n)
	}
}

// FuzzHandshakeHeaders is S-04 for the opening handshake: whatever the headers
// are, there is a 101 exactly if a naive reading of the contract says so, with
// the lines that belong to it; else there is one whole refusal.
func FuzzHandshakeHeaders(f *testing.F) {
	for _, row := range conformance.HandshakeRows() {
		if in, ok := hsInputOf(row); ok {
			f.Add(in.upgrade, in.connection, in.key, in.version, in.protocol, in.extensions, in.origin, in.host)
		}
	}
	u := &websocket.Upgrader{Subprotocols: []string{"chat", "superchat"}}
	u.Logger = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, upgrade, connection, key, version, protocol, extensions, origin, host string) {
		in := hsInput{upgrade, connection, key, version, protocol, extensions, origin, host}
		r := hsRequest()
		r.Host, r.Header = host, make(http.Header)
		for i, field := range in.fields() {
			if lines := hsLines(*field); lines != nil {
				r.Header[hsInputNames[i]] = lines
			}
		}
		client, server := memconn.Pair()
		defer client.Close()
		w := newHSWriter(server)
		c, err := u.Upgrade(w, r)
		status, subprotocol := in.judge(u.Subprotocols)

		if err != nil {
			if status != 0 && status != w.Code {
				t.Errorf("refused with %d, want %d: %v", w.Code, status, err)
			}
			checkRecorded(t, w)
			if err := hsJudgeFailure(err, w.Code); err != nil {
				t.Error(err)
			}
			if client.Unread() > 0 {
				t.Errorf("%d bytes beside the refusal", client.Unread())
			}
			return
		}
		defer c.CloseNow()
		if status != 0 && status != 101 {
			t.Fatalf("upgraded, want %d", status)
		}
		sum := sha1.Sum([]byte(strings.Trim(hsLines(in.key)[0], " \t") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		want := conformance.HandshakeAnswer{Status: 101, Accept: base64.StdEncoding.EncodeToString(sum[:])}
		if status == 0 {
			subprotocol = c.Subprotocol()
		}
		want.Subprotocol = subprotocol
		client.SetReadDeadline(time.Now().Add(hsPatience))
		br := bufio.NewReader(client)
		resp, err := conformance.ReadHandshakeResponse(br, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := want.Check(resp); err != nil {
			t.Errorf("%v\n%s", err, resp)
		}
		if c.Subprotocol() != subprotocol {
			t.Errorf("P-10: Subprotocol() is %q, want %q", c.Subprotocol(), subprotocol)
		}
		if br.Buffered() > 0 || client.Unread() > 0 || w.Body.Len() > 0 {
			t.Error("there is more than the 101")
		}
	})
}

// checkRecorded checks a refusal as the library gave it to net/http.
func checkRecorded(t *testing.T, w *hsWriter) {
	t.Helper()
	h := w.Result().Header
	switch body := w.Body.String(); {
	case w.Code < 400 || w.Code > 599:
		t.Errorf("a refusal with status %d", w.Code)
	case len(h["Sec-Websocket-Accept"]) > 0:
		t.Error("a refusal with Sec-WebSocket-Accept")
	case body == "" || len(body) > conformance.HandshakeMaxBody:
		t.Errorf("a body of %d bytes", len(body))
	case !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || h.Get("X-Content-Type-Options") != "nosniff":
		t.Errorf("S-11: header %v", h)
	case w.Code == http.StatusUpgradeRequired && h.Get("Upgrade") != "websocket":
		t.Errorf("a 426 with Upgrade %q", h["Upgrade"])
	}
}
