// Package httpfield reads the HTTP field values of a WebSocket handshake by
// the list grammar of RFC 2616 §2.1, on which RFC 6455 builds: elements are
// separated by commas, blanks are allowed around every separator, and empty
// elements are skipped.
package httpfield

import "strings"

// IsToken reports whether s is a token (RFC 9110 §5.6.2).
func IsToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// IsValue reports whether s can be a field value: no byte in it can end the
// line or is a control (RFC 9110 §5.5).
func IsValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// HasToken reports whether the list in lines has an element equal to token,
// whatever the case of its ASCII letters.
func HasToken(lines []string, token string) bool {
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			if EqualFold(Trim(element), token) {
				return true
			}
		}
	}
	return false
}

// EqualFold compares as HTTP does: strings.EqualFold would take the Kelvin
// sign for a k.
func EqualFold(s, t string) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != lower(t[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Tokens returns the elements of a list of tokens. It reports false when one
// is no token, or when there is none though there are lines.
func Tokens(lines []string) ([]string, bool) {
	var tokens []string
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			element = Trim(element)
			if element == "" {
				continue
			}
			if !IsToken(element) {
				return nil, false
			}
			tokens = append(tokens, element)
		}
	}
	return tokens, len(lines) == 0 || len(tokens) > 0
}

// An Element is one of a list in which each has a name and parameters.
type Element struct {
	Name   string
	Params []Param
}

// A Param is a parameter of an element; HasValue tells "a" from "a=".
type Param struct {
	Name, Value string
	HasValue    bool
}

// Elements reads lines as
//
//	1#( token *( ";" token [ "=" ( token | quoted-string ) ] ) )
//
// where a quoted string has to be a token once it is unescaped (RFC 6455
// §9.1). It reports false on anything else. Without lines there is no list,
// which is fine.
func Elements(lines []string) ([]Element, bool) {
	if len(lines) == 0 {
		return nil, true
	}
	var list []Element
	for _, line := range lines {
		s := scanner{rest: line}
		for !s.end() {
			if s.eat(',') {
				continue
			}
			e, ok := s.element()
			if !ok || !s.end() && !s.eat(',') {
				return nil, false
			}
			list = append(list, e)
		}
	}
	return list, len(list) > 0
}

// A scanner reads a field value from its start, skipping blanks.
type scanner struct{ rest string }

func (s *scanner) end() bool {
	s.rest = strings.TrimLeft(s.rest, " \t")
	return s.rest == ""
}

func (s *scanner) eat(c byte) bool {
	if s.end() || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) element() (e Element, ok bool) {
	if e.Name, ok = s.token(); !ok {
		return e, false
	}
	for s.eat(';') {
		var p Param
		if p.Name, ok = s.token(); !ok {
			return e, false
		}
		if s.eat('=') {
			p.HasValue = true
			if p.Value, ok = s.value(); !ok {
				return e, false
			}
		}
		e.Params = append(e.Params, p)
	}
	return e, true
}

func (s *scanner) token() (string, bool) {
	if s.end() {
		return "", false
	}
	n := 0
	for n < len(s.rest) && isTokenByte(s.rest[n]) {
		n++
	}
	token := s.rest[:n]
	s.rest = s.rest[n:]
	return token, n > 0
}

// value reads a token, quoted or not.
func (s *scanner) value() (string, bool) {
	if !s.eat('"') {
		return s.token()
	}
	var b strings.Builder
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = s.rest[i+1:]
			return b.String(), IsToken(b.String())
		case '\\':
			if i++; i == len(s.rest) {
				return "", false
			}
			b.WriteByte(s.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// Trim removes blanks and tabs from both ends (OWS, RFC 9110 §5.6.3).
func Trim(s string) string { return strings.Trim(s, " \t") }
