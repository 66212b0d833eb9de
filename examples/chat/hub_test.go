package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
)

func wantCode(t *testing.T, err error, code websocket.StatusCode) {
	t.Helper()
	var ce *websocket.CloseError
	if !errors.As(err, &ce) || ce.Code != code {
		t.Errorf("got %v, want code %d", err, code)
	}
}

func mustJoin(t *testing.T, h *hub, c *websocket.Conn, name, room string) *member {
	t.Helper()
	m, err := h.join(c, joinAs(name, room))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// open counts the rooms there are.
func (h *hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rooms)
}

func TestEmptyRoomIsKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		c, _ := attach(t)
		ada := mustJoin(t, h, c, "Ada", "Tea")
		if err := h.handle(ada, request{Type: "say", Text: "hello"}); err != nil {
			t.Fatal(err)
		}
		h.leave(ada)

		time.Sleep(keepEmpty - time.Nanosecond)
		ada = mustJoin(t, h, c, "Ada", "tea") // whatever its case, it is the same room
		if n := len(ada.room.history); n != 1 {
			t.Fatalf("%d messages after a short absence", n)
		}
		time.Sleep(2 * keepEmpty)
		if h.open() != 1 {
			t.Fatal("a room with somebody in it was forgotten")
		}

		h.leave(ada)
		time.Sleep(keepEmpty - time.Nanosecond)
		synctest.Wait()
		if h.open() != 1 {
			t.Fatal("forgotten too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if h.open() != 0 {
			t.Fatal("not forgotten")
		}
	})
}

// The old connection of a page that has come back must not end the new one's
// room when it is done.
func TestReplacedMemberLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		first, _ := attach(t)
		second, _ := attach(t)
		old := mustJoin(t, h, first, "Ada", "tea")
		ada := mustJoin(t, h, second, "Ada", "tea")
		h.leave(old)
		time.Sleep(2 * keepEmpty)
		if h.open() != 1 || len(ada.room.members) != 1 {
			t.Error("the room is gone")
		}
	})
}

func TestTooManyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		c, _ := attach(t) // one connection will do for all of them
		for i := range maxRooms {
			mustJoin(t, h, c, "Ada", fmt.Sprint(i))
		}
		_, err := h.join(c, joinAs("Eve", "one more"))
		wantCode(t, err, websocket.StatusTryAgainLater)
		mustJoin(t, h, c, "Eve", "7")
	})
}

func TestCheckJoin(t *testing.T) {
	for _, tt := range []struct {
		name, room, session string
		code                websocket.StatusCode // 0: accepted
		asName, asRoom      string
	}{
		{"Ada", "tea", "0123456789abcdef", 0, "Ada", "tea"},
		{"  Ada \t Lovelace\n", " tea  room ", "0123456789abcdef", 0, "Ada Lovelace", "tea room"},
		{"A\u200bd\u202ea\x00", "te\u2060a", "0123456789abcdef", 0, "Ada", "tea"},
		{strings.Repeat("語", maxName), strings.Repeat("語", maxRoom), "0123456789abcdef", 0,
			strings.Repeat("語", maxName), strings.Repeat("語", maxRoom)},
		{strings.Repeat("n", maxName+1), "tea", "0123456789abcdef", statusRefused, "", ""},
		{"Ada", strings.Repeat("r", maxRoom+1), "0123456789abcdef", statusRefused, "", ""},
		{" \u200b ", "tea", "0123456789abcdef", statusRefused, "", ""},
		{"Ada", "", "0123456789abcdef", statusRefused, "", ""},
		{"Ada", "tea", "short", statusBadRequest, "", ""},
		{"Ada", "tea", strings.Repeat("s", maxSession+1), statusBadRequest, "", ""},
	} {
		r, err := checkJoin(request{Type: "join", Name: tt.name, Room: tt.room, Session: tt.session})
		if tt.code != 0 {
			wantCode(t, err, tt.code)
		} else if err != nil || r.Name != tt.asName || r.Room != tt.asRoom {
			t.Errorf("%q in %q became %q in %q, %v", tt.name, tt.room, r.Name, r.Room, err)
		}
	}
}

func TestCheckSay(t *testing.T) {
	family := "\U0001F468\u200d\U0001F469\u200d\U0001F467" // held together by joiners
	for _, tt := range []struct {
		text, key string
		code      websocket.StatusCode
		as        string
	}{
		{" hello\r\nthere\tyou \n", "k", 0, "hello\nthere\tyou"},
		{"<b>&amp;", "", 0, "<b>&amp;"},
		{"bell\a and escape\x1b[31m", "", 0, "bell and escape[31m"},
		{family, "", 0, family},
		{strings.Repeat("語", maxText), "", 0, strings.Repeat("語", maxText)},
		{strings.Repeat("x", maxText+1), "", statusRefused, ""},
		{" \n\t\x00", "", statusRefused, ""},
		{"x", strings.Repeat("k", maxKey+1), statusBadRequest, ""},
	} {
		r, err := checkSay(request{Type: "say", Text: tt.text, Key: tt.key})
		if tt.code != 0 {
			wantCode(t, err, tt.code)
		} else if err != nil || r.Text != tt.as {
			t.Errorf("%q became %q, %v", tt.text, r.Text, err)
		}
	}
}

// Whatever the page may send fits into what the server reads.
func TestLongestRequestFits(t *testing.T) {
	// JSON's longest form of a character is six bytes for one UTF-16 unit.
	if longest := 6*maxText + 6*maxKey + 100; longest > maxRequest {
		t.Errorf("%d bytes are possible, %d are read", longest, maxRequest)
	}
}

func TestPersonID(t *testing.T) {
	a, b := personID("session one ....."), personID("session two .....")
	if a == b || a != personID("session one .....") || strings.Contains(a, "session") {
		t.Errorf("%q, %q", a, b)
	}
}
