package websocket

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/format"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The documents are held to the code: their Go is compiled and vetted, the
// first of it is the echo example, their numbers are the defaults, their links
// lead somewhere.
//
// A Go block that begins with "package" is a file. Any other is a fragment,
// either of declarations or of statements in a function whose parameters are
// those of fragmentParams. Packages of fragmentImports are imported where they
// are used, and what given declares is there.

var fragmentImports = map[string]string{
	"expvar": "expvar", "io": "io",
	"context": "context", "errors": "errors", "http": "net/http", "slog": "log/slog", "time": "time",
	"websocket": "github.com/sockeye-ws/websocket",
	"testing":   "testing", "synctest": "testing/synctest", "httptest": "net/http/httptest",
}

const (
	fragmentParams = "mux *http.ServeMux, upgrader *websocket.Upgrader, c *websocket.Conn, ctx context.Context"

	given = `package p

import (
	"net/http"
	"testing"

	"github.com/sockeye-ws/websocket"
)

type recorder struct{ http.ResponseWriter }

func echo(*websocket.Conn) error               { return nil }
func upgraderOf(*testing.T) *websocket.Upgrader { return nil }
func publish(string, websocket.Message)        {}
func serve(*websocket.Conn, string) error      { return nil }
func userOf(*http.Request) (user string, ok bool) { return "", true }
`
)

// A block is Go code in a document.
type block struct {
	file string // absolute
	line int
	code string
}

// goBlocks returns the fenced Go blocks of a Markdown file.
func goBlocks(t *testing.T, name string) (blocks []block) {
	t.Helper()
	var open *block
	for i, line := range strings.SplitAfter(read(t, name), "\n") {
		switch {
		case open == nil && strings.HasPrefix(line, "```go"):
			open = &block{file: absolute(t, name), line: i + 2}
		case open != nil && strings.HasPrefix(line, "```"):
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.code += line
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block has no end", name, open.line)
	}
	return blocks
}

// packageBlocks returns the code in the package comment.
func packageBlocks(t *testing.T, name string) (blocks []block) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range new(comment.Parser).Parse(f.Doc.Text()).Content {
		if code, ok := b.(*comment.Code); ok {
			blocks = append(blocks, block{absolute(t, name), 1, code.Text})
		}
	}
	return blocks
}

// program makes a file of package p, or of its own, out of a block.
func (b block) program() (string, error) {
	if strings.HasPrefix(b.code, "package ") {
		return fmt.Sprintf("//line %s:%d\n%s", b.file, b.line, b.code), nil
	}
	body := fmt.Sprintf("//line %s:%d\n%s", b.file, b.line, b.code)
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "", "package p\n"+body, 0)
	if err != nil {
		body = "func _(" + fragmentParams + ") {\n" + body + "}\n"
		if f, err = parser.ParseFile(fset, "", "package p\n"+body, 0); err != nil {
			return "", err
		}
	}
	imports := make(map[string]bool)
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && fragmentImports[x.Name] != "" {
				imports[fragmentImports[x.Name]] = true
			}
		}
		return true
	})
	head := "package p\n"
	for path := range imports {
		head += fmt.Sprintf("import %q\n", path)
	}
	return head + body, nil
}

// compile builds and vets blocks in a module of their own that uses this
// checkout and nothing else, and returns what the tools complain about.
func compile(t *testing.T, blocks []block) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	goLine := regexp.MustCompile(`(?m)^go .*$`).FindString(read(t, "go.mod"))
	write("go.mod", fmt.Sprintf("module readme\n\n%s\n\nrequire github.com/sockeye-ws/websocket v0.0.0\n\n"+
		"replace github.com/sockeye-ws/websocket => %q\n", goLine, absolute(t, ".")))
	for i, b := range blocks {
		source, err := b.program()
		if err != nil {
			t.Fatalf("%s:%d: %v", b.file, b.line, err)
		}
		write(fmt.Sprintf("p%d/block.go", i), source)
		if !strings.HasPrefix(b.code, "package ") {
			write(fmt.Sprintf("p%d/given.go", i), given)
		}
	}
	var complaints []byte
	for _, args := range [][]string{{"build", "./..."}, {"vet", "./..."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PWD="+dir, "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "GOTOOLCHAIN=local")
		out, err := cmd.CombinedOutput()
		if err != nil {
			complaints = append(complaints, out...)
			complaints = append(complaints, "go "+args[0]+": "+err.Error()+"\n"...)
		}
	}
	return string(complaints)
}

func TestDocumentedCode(t *testing.T) {
	t.Parallel()
	blocks := append(goBlocks(t, "README.md"), packageBlocks(t, "server.go")...)
	if len(blocks) < 10 {
		t.Fatalf("%d blocks found, there are more", len(blocks))
	}
	if complaints := compile(t, blocks); complaints != "" {
		t.Error(complaints)
	}
	for _, b := range blocks {
		formatted, err := format.Source([]byte(b.code))
		if err != nil || string(formatted) != b.code {
			t.Errorf("%s:%d: not formatted by gofmt (%v):\n%s", b.file, b.line, err, formatted)
		}
	}
}

// TestDocumentedCodeCanFail shows that the check above sees what is wrong.
func TestDocumentedCodeCanFail(t *testing.T) {
	t.Parallel()
	var blocks []block
	wrong := []struct{ code, complaint string }{
		{"c.Wirte(ctx, websocket.Text, nil)\n", "c.Wirte undefined"},
		{"typ, p, err := c.Read(ctx)\n", "declared and not used: typ"},
		{"func f() *websocket.Upgrader { return &websocket.Upgrader{Origin: nil} }\n", "unknown field Origin"},
		{"package main\n\nimport \"github.com/sockeye-ws/websocket\"\n", "imported and not used"},
		{"copied := *upgrader\n_ = copied.Origins\n", "assignment copies lock value"},
	}
	for i, w := range wrong {
		blocks = append(blocks, block{absolute(t, "README.md"), 1000 + i, w.code})
	}
	complaints := compile(t, blocks)
	for _, w := range wrong {
		if !strings.Contains(complaints, w.complaint) {
			t.Errorf("nobody said %q of\n%s\nbut\n%s", w.complaint, w.code, complaints)
		}
	}
}

func TestFirstBlockIsEcho(t *testing.T) {
	_, example, found := strings.Cut(read(t, "examples/echo/main.go"), "\npackage main\n")
	if first := goBlocks(t, "README.md")[0].code; !found || first != "package main\n"+example {
		t.Errorf("the first block of the README is\n%s\nand examples/echo/main.go, without its comment,\npackage main\n%s", first, example)
	}
}

func TestDocumentedLimits(t *testing.T) {
	readme := read(t, "README.md")
	config := reflect.ValueOf(Config{}.withDefaults())
	for i := range config.NumField() {
		var want string
		switch v := config.Field(i).Interface().(type) {
		case int64:
			want = bytesText(v)
		case int:
			want = strconv.Itoa(v)
			switch {
			case config.Type().Field(i).Name == "WriteQueue":
				want = bytesText(int64(v))
			case v == 0:
				want = "none"
			}
		case Overflow:
			want = "`Disconnect`"
		case time.Duration:
			want = secondsText(v)
			if v == 0 {
				want = "none"
			}
		case Compression:
			want = "off"
			if v.Enable {
				want = "on"
			}
		case *Trace:
			want = "none"
		case *slog.Logger:
			want = "`slog.Default()`"
		}
		name := config.Type().Field(i).Name
		row := regexp.MustCompile("(?m)^\\| `" + name + "` \\| (.*?) \\|").FindStringSubmatch(readme)
		if row == nil {
			t.Errorf("no row for %s", name)
		} else if want == "" || row[1] != want && !strings.HasPrefix(row[1], want+" ") {
			t.Errorf("the default of %s is written as %q, it is %q", name, row[1], want)
		}
	}
	for _, want := range []string{
		"at most " + secondsText(drainTime) + " or " + bytesText(drainBytes),
	} {
		if !strings.Contains(strings.Join(strings.Fields(readme), " "), want) {
			t.Errorf("the README does not say %q", want)
		}
	}
}

func bytesText(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

func secondsText(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }

// TestLinks follows the links of the documents to files and headings.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]*)\)`)
	for _, name := range []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"} {
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, hasAnchor := strings.Cut(m[1], "#")
			if file == "" {
				file = name
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: the link %q leads nowhere: %v", name, m[1], err)
				continue
			}
			if hasAnchor && !slices.Contains(anchors(t, file), anchor) {
				t.Errorf("%s: the link %q leads to no heading", name, m[1])
			}
		}
	}
}

// anchors returns what a Markdown file's headings are called in links.
func anchors(t *testing.T, name string) (all []string) {
	for _, m := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(read(t, name), -1) {
		drop := regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
		all = append(all, strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func absolute(t *testing.T, name string) string {
	t.Helper()
	abs, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
