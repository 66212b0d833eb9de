package httpfield

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestP07Tokens(t *testing.T) {
	// RFC 9110 §5.6.2 and RFC 2616 §2.2 say it in two ways: what is allowed,
	// and what is not.
	const separators = "()<>@,;:\\\"/[]?={} \t"
	for c := range 256 {
		want := c > 0x20 && c < 0x7f && !strings.ContainsRune(separators, rune(c))
		for _, s := range []string{string([]byte{byte(c)}), string([]byte{'a', byte(c)}), string([]byte{byte(c), 'a'})} {
			if IsToken(s) != want {
				t.Errorf("IsToken(%q) = %v", s, !want)
			}
		}
	}
	if IsToken("") {
		t.Error("the empty string is a token")
	}
}

func TestR07Values(t *testing.T) {
	for c := range 256 {
		s := "a" + string([]byte{byte(c)}) + "b"
		if want := c >= 0x20 && c != 0x7f || c == '\t'; IsValue(s) != want {
			t.Errorf("IsValue(%q) = %v", s, !want)
		}
	}
	if !IsValue("") || !IsValue("grün, ") {
		t.Error("values are refused")
	}
}

func TestTrim(t *testing.T) {
	for s, want := range map[string]string{"": "", " \t ": "", "\ta b ": "a b", "\na\n": "\na\n", "\u00a0a": "\u00a0a", "a\x00": "a\x00"} {
		if got := Trim(s); got != want {
			t.Errorf("Trim(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestH03HasToken(t *testing.T) {
	tests := []struct {
		lines []string
		want  bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"websocket"}, true},
		{[]string{"WebSocket"}, true},
		{[]string{" websocket\t"}, true},
		{[]string{"h2c, WEBSOCKET"}, true},
		{[]string{"h2c", "websocket"}, true},
		{[]string{"websocket,"}, true},
		{[]string{", websocket"}, true},
		{[]string{"h2c"}, false},
		{[]string{"websocketx"}, false},
		{[]string{"xwebsocket"}, false},
		{[]string{"websocket/13"}, false},
		{[]string{"web socket"}, false},
		{[]string{"web,socket"}, false},
		{[]string{`"websocket"`}, false},
		{[]string{"websocket;q=1"}, false},
		{[]string{"websocket\u00a0"}, false},
		{[]string{"web\u017focket"}, false}, // long s folds to s in Unicode only
		{[]string{"webSoc\u212aet"}, false}, // so does the Kelvin sign to k
	}
	for _, tt := range tests {
		if got := HasToken(tt.lines, "websocket"); got != tt.want {
			t.Errorf("HasToken(%q) = %v", tt.lines, got)
		}
	}
}

func TestP05P06TokenLists(t *testing.T) {
	tests := []struct {
		lines []string
		want  []string
		ok    bool
	}{
		{nil, nil, true},
		{[]string{}, nil, true},
		{[]string{"a"}, []string{"a"}, true},
		{[]string{"a,b", "c"}, []string{"a", "b", "c"}, true},
		{[]string{"foo ,\tchat"}, []string{"foo", "chat"}, true},
		{[]string{",,chat,"}, []string{"chat"}, true},
		{[]string{"", "chat"}, []string{"chat"}, true},
		{[]string{"a, a"}, []string{"a", "a"}, true}, // P-08 is the caller's
		{[]string{""}, nil, false},
		{[]string{","}, nil, false},
		{[]string{" ", "\t, ,"}, nil, false},
		{[]string{"a b"}, nil, false},
		{[]string{"a", "b/"}, nil, false},
		{[]string{"a,\xe4"}, nil, false},
		{[]string{`"a"`}, nil, false},
		{[]string{"a;b"}, nil, false},
	}
	for _, tt := range tests {
		got, ok := Tokens(tt.lines)
		if ok != tt.ok || ok && !slices.Equal(got, tt.want) {
			t.Errorf("Tokens(%q) = %q, %v, want %q, %v", tt.lines, got, ok, tt.want, tt.ok)
		}
	}
}

// show writes a list in its shortest form, values in quotes.
func show(list []Element) string {
	var elements []string
	for _, e := range list {
		s := e.Name
		for _, p := range e.Params {
			s += ";" + p.Name
			if p.HasValue {
				s += fmt.Sprintf("=%q", p.Value)
			} else if p.Value != "" {
				s += "(!)"
			}
		}
		elements = append(elements, s)
	}
	return strings.Join(elements, ",")
}

func TestE03E06Elements(t *testing.T) {
	tests := []struct {
		id    string
		lines []string
		want  string
		ok    bool
	}{
		{"E-01", nil, "", true},
		{"E-01", []string{}, "", true},
		{"E-01", []string{"foo", "permessage-deflate"}, "foo,permessage-deflate", true},
		{"E-02", []string{`foo; a; b=1; c="2", x-webkit-deflate-frame, permessage-deflate`}, `foo;a;b="1";c="2",x-webkit-deflate-frame,permessage-deflate`, true},
		{"E-02", []string{"a;b;b;b=1"}, `a;b;b;b="1"`, true},
		{"E-03", []string{"permessage-deflate;"}, "", false},
		{"E-03", []string{";"}, "", false},
		{"E-03", []string{"a; =1"}, "", false},
		{"E-03", []string{"a; b="}, "", false},
		{"E-03", []string{`a; b="c`}, "", false},
		{"E-03", []string{`a; b="c\`}, "", false},
		{"E-03", []string{`a; b="c\"`}, "", false},
		{"E-03", []string{`a; b="`}, "", false},
		{"E-03", []string{"a b"}, "", false},
		{"E-03", []string{"a; b=c d"}, "", false},
		{"E-03", []string{"a; b==c"}, "", false},
		{"E-03", []string{`a; "b"=1`}, "", false},
		{"E-03", []string{`"a"`}, "", false},
		{"E-03", []string{""}, "", false},
		{"E-03", []string{","}, "", false},
		{"E-03", []string{" ", "\t"}, "", false},
		{"E-03", []string{"a; b=\xff"}, "", false},
		{"E-03", []string{"a=b"}, "", false},
		{"E-03", []string{"a;;b"}, "", false},
		{"E-03", []string{"a; b, ; c"}, "", false},
		{"E-03", []string{"a;", "b"}, "", false}, // an element ends with its line
		{"E-03", []string{"a; b=", "c"}, "", false},
		{"E-03", []string{`a; b="c"d`}, "", false},
		{"E-03", []string{`a; b="c""d"`}, "", false},
		{"E-03", []string{"a", "b c"}, "", false},
		{"E-03", []string{"a\x00"}, "", false},
		{"E-04", []string{`permessage-deflate; server_max_window_bits="15"`}, `permessage-deflate;server_max_window_bits="15"`, true},
		{"E-04", []string{`foo; a="b\c"`}, `foo;a="bc"`, true},
		{"E-04", []string{`foo; a="\b\c"`}, `foo;a="bc"`, true},
		{"E-04", []string{`foo; a="b c"`}, "", false},
		{"E-04", []string{`foo; a="b,c"`}, "", false},
		{"E-04", []string{`foo; a=""`}, "", false},
		{"E-04", []string{`foo; a="\""`}, "", false},
		{"E-04", []string{`foo; a="b\\c"`}, "", false},
		{"E-04", []string{`foo; a=" b"`}, "", false},
		{"E-05", []string{"permessage-deflate ; server_max_window_bits = 15 , foo"}, `permessage-deflate;server_max_window_bits="15",foo`, true},
		{"E-05", []string{"\tfoo\t;\ta\t=\t\"b\"\t,\tbar\t"}, `foo;a="b",bar`, true},
		{"E-06", []string{", ,permessage-deflate,"}, "permessage-deflate", true},
		{"E-06", []string{"", "foo", ","}, "foo", true},
	}
	for _, tt := range tests {
		got, ok := Elements(tt.lines)
		if ok != tt.ok || ok && show(got) != tt.want {
			t.Errorf("%s: Elements(%q) = %s, %v, want %s, %v", tt.id, tt.lines, show(got), ok, tt.want, tt.ok)
		}
		if !ok && got != nil {
			t.Errorf("%s: Elements(%q) returns %s of a malformed list", tt.id, tt.lines, show(got))
		}
	}
}

// FuzzElements: what is read can be written and is then read again as the
// same; a list of plain tokens is the same for both readers; and where a line
// is cut at a comma outside of quotes makes no difference.
func FuzzElements(f *testing.F) {
	for _, s := range []string{"", "a", "a;b;c=d, e", `foo; a="b\c"`, "a,,b", "a;", "a b", `a;b="c,d"`, "\xff", "a;b = \"c\" ,d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		list, ok := Elements([]string{line})
		tokens, plain := Tokens([]string{line})
		if plain {
			var names []string
			for _, e := range list {
				names = append(names, e.Name)
			}
			if !ok || !slices.Equal(names, tokens) {
				t.Fatalf("%q: tokens %q, elements %s, %v", line, tokens, show(list), ok)
			}
		}
		if !ok {
			return
		}
		again, ok := Elements([]string{show(list)})
		if !ok || !reflect.DeepEqual(again, list) {
			t.Fatalf("%q: read as %s, and that as %s, %v", line, show(list), show(again), ok)
		}
		var names []string
		for _, e := range list {
			names = append(names, show([]Element{e}))
		}
		again, ok = Elements(names)
		if !ok || !reflect.DeepEqual(again, list) {
			t.Fatalf("%q: read as %s, on several lines as %s, %v", line, show(list), show(again), ok)
		}
	})
}
