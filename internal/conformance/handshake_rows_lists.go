package conformance

import (
	"net/http"
	"slices"
	"strings"
)

var (
	hsSelectLast = &HandshakeServer{Name: "selects the last", Subprotocols: []string{"chat", "superchat"},
		SelectSubprotocol: func(_ *http.Request, offered []string) string {
			if len(offered) == 0 {
				return ""
			}
			return offered[len(offered)-1]
		}}
	hsSelectNone = &HandshakeServer{Name: "selects none", Subprotocols: []string{"chat"},
		SelectSubprotocol: func(*http.Request, []string) string { return "" }}
	hsSelectForeign = &HandshakeServer{Name: "selects what was not offered", Subprotocols: []string{"chat"},
		SelectSubprotocol: func(_ *http.Request, offered []string) string {
			switch {
			case len(offered) == 0:
				return ""
			case offered[0] == "CHAT":
				return "chat"
			case offered[0] == "foo":
				return "foo\r\nX-Marker: " + HandshakeMarker
			case offered[0] == "chat":
				return "chat, superchat"
			}
			return HandshakeMarker
		}}
)

func hsSubprotocol(name string) HandshakeAnswer {
	return HandshakeAnswer{Status: 101, Subprotocol: name}
}

// hsNoLine is a 101 without a Sec-WebSocket-Protocol.
var hsNoLine = HandshakeAnswer{Status: 101, Absent: []string{"Sec-WebSocket-Protocol"}}

func hsProtocols(want HandshakeAnswer, values ...string) []HandshakeRow {
	return hsValues("Sec-WebSocket-Protocol", want, values...)
}

// hsNotTokens are the elements that P-07 names: one for each separator.
func hsNotTokens() []string {
	values := []string{"ch at", `"chat"`, "chat;q=1", "a/b", "ch\xe4t", "ch\u00e4t", "a\tb", "chat, ch at", "ch at, chat", `"chat, superchat"`}
	for _, c := range `()<>@;:\"/[]?={}` {
		values = append(values, "a"+string(c)+"b", string(c))
	}
	return values
}

// hsTokenChars are all characters of a token that are no letters or digits.
const hsTokenChars = "!#$%&'*+-.^_`|~"

var handshakeSubprotocolRules = []handshakeRule{
	{"P-01", "the answer is one of the client's values, or no header at all", slices.Concat(
		hsProtocols(hsSubprotocol("chat"), "chat"),
		hsProtocols(hsSubprotocol("superchat"), "superchat"),
		hsProtocols(hsNoLine, "foo", "chatx", "cha", "superchat2"),
		[]HandshakeRow{{Want: hsNoLine}},
		hsOn(handshakeBare, hsProtocols(hsNoLine, "chat", "foo, bar"), hsProtocols(hsBad, "ch at")))},

	{"P-02", "the client's order is the preference order", slices.Concat(
		hsProtocols(hsSubprotocol("superchat"), "superchat, chat"),
		hsProtocols(hsSubprotocol("chat"), "foo, chat, superchat", "chat, superchat", "foo, chat"))},

	{"P-03", "several header lines are one list", []HandshakeRow{
		{Add: "Sec-WebSocket-Protocol: foo\nSec-WebSocket-Protocol: chat", Want: hsSubprotocol("chat")},
		{Add: "Sec-WebSocket-Protocol: superchat\nSec-WebSocket-Protocol: chat", Want: hsSubprotocol("superchat")},
		{Add: "Sec-WebSocket-Protocol: foo, bar\nSec-WebSocket-Protocol: superchat, chat", Want: hsSubprotocol("superchat")},
		{Add: "Sec-WebSocket-Protocol: foo\nsec-websocket-protocol:\nSec-WebSocket-Protocol: chat", Want: hsSubprotocol("chat")},
	}},

	{"P-04", "comparison is case-sensitive", slices.Concat(
		hsProtocols(hsNoLine, "CHAT", "Chat, SuperChat"),
		hsProtocols(hsSubprotocol("superchat"), "CHAT, superchat"))},

	{"P-05", "blanks and tabs around commas and empty elements are ignored",
		hsProtocols(hsSubprotocol("chat"), "foo ,\tchat", ",,chat,", "\t chat \t", ", ,chat", "foo,,chat", "chat ,", "foo\t,\tchat\t,")},

	{"P-06", "no element at all: 400", slices.Concat(
		hsProtocols(hsBad, "", ",", " , ,\t,"),
		[]HandshakeRow{{Add: "Sec-WebSocket-Protocol:\nSec-WebSocket-Protocol:", Want: hsBad}})},

	{"P-07", "an element that is not a token: 400", slices.Concat(
		hsProtocols(hsBad, hsNotTokens()...),
		hsProtocols(hsNoLine, "v12.stomp", "a"+hsTokenChars+"b"),
		hsProtocols(hsNoLine, strings.Split(hsTokenChars, "")...),
		[]HandshakeRow{{Add: "Sec-WebSocket-Protocol: chat\nSec-WebSocket-Protocol: ch at", Want: hsBad}})},

	{"P-08", "a repeated element: 400", slices.Concat(
		hsProtocols(hsBad, "chat, chat", "foo, foo", "chat, foo, chat", "foo, chat, foo"),
		hsProtocols(hsSubprotocol("chat"), "chat, CHAT"),
		[]HandshakeRow{{Add: "Sec-WebSocket-Protocol: chat\nSec-WebSocket-Protocol: chat", Want: hsBad}})},

	{"P-09", "the application can choose; a choice that was not offered is a 500", slices.Concat(
		hsOn(hsSelectLast, hsProtocols(hsSubprotocol("chat"), "superchat, chat", "superchat ,\tchat,"),
			hsProtocols(hsSubprotocol("foo"), "chat, foo"), hsProtocols(hsBad, "ch at", "chat, chat", "")),
		hsOn(hsSelectNone, hsProtocols(hsNoLine, "chat", "foo, chat")),
		hsOn(hsSelectForeign, hsProtocols(HandshakeAnswer{Status: 500, Absent: []string{"Sec-WebSocket-Protocol", "X-Marker"}},
			"bar", "CHAT", "foo", "chat", "bar, chat")))},
}

func hsExtensions(want HandshakeAnswer, values ...string) []HandshakeRow {
	return hsValues("Sec-WebSocket-Extensions", want, values...)
}

var (
	hsDeflate = hsAgree("permessage-deflate; client_no_context_takeover; server_max_window_bits=12")
	hsDecline = HandshakeAnswer{Status: 101, Absent: []string{"Sec-WebSocket-Extensions"}}
)

// hsAgree is the answer of a server that compresses.
func hsAgree(element string) HandshakeAnswer { return HandshakeAnswer{Status: 101, Deflate: element} }

var handshakeExtensionRules = []handshakeRule{
	{"E-01", "header lines are joined in order as one list", []HandshakeRow{
		{Add: "Sec-WebSocket-Extensions: foo\nSec-WebSocket-Extensions: permessage-deflate", Want: hsDeflate},
		{Add: "Sec-WebSocket-Extensions: permessage-deflate\nSec-WebSocket-Extensions:", Want: hsDeflate},
		{Add: "Sec-WebSocket-Extensions: foo\nSec-WebSocket-Extensions: ;", Want: hsBad},
		{Add: "Sec-WebSocket-Extensions: ;\nSec-WebSocket-Extensions: foo", Want: hsBad},
		{Add: "Sec-WebSocket-Extensions: foo; a=\"b\nSec-WebSocket-Extensions: c\"", Want: hsBad},
		{Add: "Sec-WebSocket-Extensions: foo\nSec-WebSocket-Extensions: ; a", Want: hsBad},
	}},

	{"E-02", "unknown extensions are skipped, whatever their parameters", slices.Concat(
		hsExtensions(hsDeflate, `foo; a; b=1; c="2", x-webkit-deflate-frame, permessage-deflate`),
		hsExtensions(hsDecline, "foo", "foo; a", "foo; a; a", "foo; a=1; a=2", "foo, foo", "a"+hsTokenChars+"b; c"+hsTokenChars+"=d"+hsTokenChars))},

	{"E-03", "a header that breaks the grammar: 400, with compression or without", slices.Concat(
		hsExtensions(hsBad, "permessage-deflate;", ";", "a; =1", "a; b=", `a; b="c`, "a b", "a; b=c d", "a; b==c", `a; "b"=1`, "", ",", "a; b=\xff",
			"a;; b", "a; b;", "a; b; ", ";a", "a=1", "=", `"a"`, `"permessage-deflate"`, `a; b="c"d`, `a; b="c" d`, `a; b=c"d"`, "foo, a b", "a b, foo",
			"permessage-deflate, ;", "a; b c", "a; b=c=d", "a/b", "a; b/c", "a; b=c/d", "a; (b)", "a;, b", "a, b;", "\xe4", "a; \u00e9", "a:b", "a; b={c}"))},

	{"E-04", "quoted values are unescaped and must be tokens", slices.Concat(
		hsExtensions(hsDeflate, `permessage-deflate; server_max_window_bits="15"`, `permessage-deflate; server_max_window_bits="1\5"`),
		hsExtensions(hsDecline, `foo; a="b\c"`, `foo; a="b"; c="d"`, `foo; a="b" ; c`, `foo; a="\b\c\d"`),
		hsExtensions(hsBad, `foo; a="b c"`, `foo; a="b,c"`, `foo; a=""`, `foo; a="\""`, `foo; a="b\"`, `foo; a="b\`, `foo; a="b;c"`, `foo; a=" b"`, `foo; a="b\ c"`,
			`foo; a="\\"`, `foo; a="b`+"\t"+`"`, `foo; a="b\,c"`, `foo; a="`+"\u00e9"+`"`, `foo; a='b c'`, `foo; a="`, `foo; a="b", c="`))},

	{"E-05", "blanks around , ; and = are allowed",
		hsExtensions(hsDeflate, "permessage-deflate ; server_max_window_bits = 15 , foo", "permessage-deflate\t;\tserver_max_window_bits\t=\t15\t,\tfoo",
			`permessage-deflate;server_max_window_bits= "15" ,foo`, "foo,permessage-deflate")},

	{"E-06", "empty list elements are skipped", hsExtensions(hsDeflate, ", ,permessage-deflate,", ",,permessage-deflate,\t,foo,")},

	{"E-07", "names are compared case-sensitively", hsExtensions(hsDecline, "Permessage-Deflate", "PERMESSAGE-DEFLATE")},

	{"E-09", "offers of what is switched off are ignored", slices.Concat(
		hsExtensions(hsAgree("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
		hsExtensions(hsDecline, "permessage-deflate; foo", "permessage-deflate; server_max_window_bits=7", "x-webkit-deflate-frame"))},
}
