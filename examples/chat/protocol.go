package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket"
)

// What a request may carry. Characters are Unicode code points. The page's
// maxlength attributes count UTF-16 units, of which there are never fewer.
const (
	maxName    = 24       // characters
	maxRoom    = 32       // characters
	maxText    = 2000     // characters
	maxKey     = 32       // bytes
	minSession = 16       // bytes
	maxSession = 64       // bytes
	maxRequest = 16 << 10 // bytes of one message, room for maxText however it is escaped
)

// Close codes of this application. The page shows their reason to the person
// and does not come back by itself. 1008 would say the same, but the library
// closes with that whoever is too far behind, and then the page is to come back.
const (
	statusRefused    websocket.StatusCode = 4000 // something the person can change: the name, the room, the text, the pace
	statusReplaced   websocket.StatusCode = 4001 // the same session came in over another connection
	statusBadRequest websocket.StatusCode = 4002 // what this server's page never sends
)

// request is all that a page sends.
type request struct {
	Type    string `json:"type"`    // "join" first, then "say" and "typing"
	Room    string `json:"room"`    // join
	Name    string `json:"name"`    // join
	Session string `json:"session"` // join: a secret the page made, by which it is known again
	Text    string `json:"text"`    // say
	Key     string `json:"key"`     // say: comes back with the message, so that the page knows it has arrived
}

// event is all that a page is sent.
type event struct {
	Type     string    `json:"type"` // welcome, joined, left, typing, message
	Room     string    `json:"room,omitempty"`
	Who      *person   `json:"who,omitempty"`      // in a welcome the one who is welcomed
	People   []person  `json:"people,omitempty"`   // in a welcome, in the order of coming
	Messages []message `json:"messages,omitempty"` // in a welcome the history, else the one
}

// person is a member as the others see it.
type person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type message struct {
	Seq  int64  `json:"seq"` // rises within a room, over restarts too
	At   int64  `json:"at"`  // milliseconds since 1970
	From person `json:"from"`
	Text string `json:"text"`
	Key  string `json:"key,omitempty"`
}

// encode makes an event's bytes once for all who get it.
func encode(e event) *websocket.Prepared {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	p, err := websocket.NewPrepared(websocket.Text, text)
	if err != nil {
		panic(err) // JSON is always UTF-8
	}
	return p
}

// parse takes a message apart. Its errors, like those of all checks here, are
// close errors: the handler returns them and the library sends them.
func parse(m websocket.Message) (request, error) {
	var r request
	if m.Type != websocket.Text {
		return r, refuse(websocket.StatusUnsupportedData, "text only")
	}
	if json.Unmarshal(m.Data, &r) != nil {
		return r, refuse(statusBadRequest, "not a request")
	}
	return r, nil
}

// checkJoin returns the request with its name and room tidied.
func checkJoin(r request) (request, error) {
	if r.Type != "join" || len(r.Session) < minSession || len(r.Session) > maxSession {
		return r, refuse(statusBadRequest, "join first")
	}
	r.Name, r.Room = tidyLine(r.Name), tidyLine(r.Room)
	switch {
	case r.Name == "":
		return r, refuse(statusRefused, "Please choose a name.")
	case utf8.RuneCountInString(r.Name) > maxName:
		return r, refuse(statusRefused, "That name is too long.")
	case r.Room == "":
		return r, refuse(statusRefused, "Please choose a room.")
	case utf8.RuneCountInString(r.Room) > maxRoom:
		return r, refuse(statusRefused, "That room's name is too long.")
	}
	return r, nil
}

// checkSay returns the request with its text tidied.
func checkSay(r request) (request, error) {
	r.Text = tidyText(r.Text)
	switch {
	case r.Text == "":
		return r, refuse(statusRefused, "That message was empty.")
	case utf8.RuneCountInString(r.Text) > maxText:
		return r, refuse(statusRefused, "That message was too long.")
	case len(r.Key) > maxKey:
		return r, refuse(statusBadRequest, "key too long")
	}
	return r, nil
}

func refuse(code websocket.StatusCode, reason string) error {
	return &websocket.CloseError{Code: code, Reason: reason}
}

// tidyLine makes a name of what was typed: one line, single blanks, and nothing
// invisible, by which one name could be made to look like another.
func tidyLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// tidyText keeps lines and tabs, and the joiners that hold emoji together, but
// no control characters.
func tidyText(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

// personID is the public side of a session: the same after every reconnect, so
// that a page finds its own messages in the history, and no way back to the
// secret, with which others could take a member's place.
func personID(session string) string {
	sum := sha256.Sum256([]byte(session))
	return hex.EncodeToString(sum[:8])
}

// allowance lets through a burst of requests and then a steady rate. Without it
// one flooding page would leave all the others too far behind, and the innocent
// would be the ones closed.
type allowance struct {
	left float64
	at   time.Time
}

const (
	allowBurst  = 30 // requests at once
	allowPerSec = 5
)

func newAllowance() *allowance {
	return &allowance{left: allowBurst, at: time.Now()}
}

// take reports whether one more request is within the rate.
func (a *allowance) take() bool {
	now := time.Now()
	a.left = min(allowBurst, a.left+now.Sub(a.at).Seconds()*allowPerSec)
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
