package websocket

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// AnyOriginInsecure, as an element of [Upgrader.Origins], lets pages of every
// site connect, with the cookies that the browser has for yours: cross-site
// WebSocket hijacking (RFC 6455 §10.2). It is right only where connections
// are not authenticated by anything that a browser sends by itself.
const AnyOriginInsecure = "any-origin-insecure"

// An origin is who a browser says the page comes from (RFC 6454 §7). As a
// pattern, its scheme may be empty for http and https, and its host may begin
// with "*." for one or more labels.
type origin struct {
	scheme, host, port string
}

// originPolicy is the parsed form of Upgrader.Origins.
type originPolicy struct {
	any, null bool
	patterns  []origin
}

// parseOrigins reads the elements of Upgrader.Origins.
func parseOrigins(list []string) (p originPolicy, err error) {
	for _, s := range list {
		switch s {
		case AnyOriginInsecure:
			p.any = true
			continue
		case "null":
			p.null = true
			continue
		}
		scheme, rest, full := strings.Cut(s, "://")
		if !full {
			scheme, rest = "", s
		}
		host, wild := strings.CutPrefix(rest, "*.")
		o, ok := parseHost(host)
		if !ok || full && !validScheme(scheme) {
			return p, fmt.Errorf("Upgrader.Origins: %q is neither scheme://host[:port] nor host[:port], "+
				"where host may begin with \"*.\"; for any origin see AnyOriginInsecure", s)
		}
		if wild {
			o.host = "*." + o.host
		}
		o.scheme = strings.ToLower(scheme)
		p.patterns = append(p.patterns, o)
	}
	return p, nil
}

// check is the default policy: no browser, the host that was asked for, or
// one of the list. The reason of a refusal goes to the log, not to the peer.
func (p *originPolicy) check(r *http.Request) error {
	lines := r.Header["Origin"]
	if len(lines) == 0 { // not a browser (RFC 6455 §4.2.1)
		return nil
	}
	if len(lines) > 1 {
		return fmt.Errorf("%d Origin header lines", len(lines))
	}
	if lines[0] == "null" && (p.null || p.any) {
		return nil
	}
	o, ok := parseOrigin(lines[0])
	if !ok {
		return fmt.Errorf("origin %q has no host", lines[0])
	}
	if p.any {
		return nil
	}
	if served, ok := parseHost(r.Host); ok && o.matches(served) {
		return nil
	}
	for _, pattern := range p.patterns {
		if o.matches(pattern) {
			return nil
		}
	}
	return fmt.Errorf("origin %q is not allowed for host %q", lines[0], r.Host)
}

// matches reports whether pattern describes o. A port that is not written is
// the default one of o's scheme, on both sides: behind a proxy nobody else
// knows which scheme the browser used.
func (o origin) matches(pattern origin) bool {
	web := o.scheme == "http" || o.scheme == "https"
	if pattern.scheme != o.scheme && !(pattern.scheme == "" && web) {
		return false
	}
	if o.portOr(o.scheme) != pattern.portOr(o.scheme) {
		return false
	}
	if domain, ok := strings.CutPrefix(pattern.host, "*"); ok {
		return len(o.host) > len(domain) && strings.HasSuffix(o.host, domain)
	}
	return o.host == pattern.host
}

func (o origin) portOr(scheme string) string {
	switch {
	case o.port != "":
		return o.port
	case scheme == "http":
		return "80"
	case scheme == "https":
		return "443"
	}
	return ""
}

// parseOrigin reads scheme "://" host [ ":" port ] and nothing else.
func parseOrigin(s string) (origin, bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !validScheme(scheme) {
		return origin{}, false
	}
	o, ok := parseHost(rest)
	o.scheme = strings.ToLower(scheme)
	return o, ok
}

// parseHost reads host [ ":" port ], lower-casing the host. An IPv6 address
// stands in brackets.
func parseHost(s string) (o origin, ok bool) {
	end := strings.LastIndexByte(s, ':')
	if end < strings.IndexByte(s, ']') { // no colon, or those of an address
		end = -1
	}
	o.host = s
	if end >= 0 {
		o.host, o.port = s[:end], s[end+1:]
		if n, err := strconv.ParseUint(o.port, 10, 16); err != nil || strconv.FormatUint(n, 10) != o.port {
			return o, false
		}
	}
	address, bracketed := strings.CutPrefix(o.host, "[")
	if bracketed {
		if address, ok = strings.CutSuffix(address, "]"); !ok {
			return o, false
		}
	}
	if !bracketed && (strings.HasPrefix(address, ".") || strings.Contains(address, "..")) {
		return o, false // an empty label
	}
	for i := range len(address) {
		c := address[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.':
		case bracketed && c == ':':
		case !bracketed && (c == '-' || c == '_'):
		default:
			return o, false
		}
	}
	o.host = strings.ToLower(o.host) // ASCII by now: no other letter turns into one
	return o, address != ""
}

func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		other := '0' <= s[i] && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}
