package conformance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	contractItem  = regexp.MustCompile(`(?m)^(?:- \*\*|\| )([A-Z]-\d\d)\b`)
	contractID    = regexp.MustCompile(`\b[A-Z]-\d\d\b`)
	contractRange = regexp.MustCompile(`\b([A-Z])-(\d\d) … [A-Z]-(\d\d)`)
	testName      = regexp.MustCompile(`^(?:Test|Fuzz)(?:[A-Z]\d\d)+`)
	nameID        = regexp.MustCompile(`[A-Z]\d\d`)
)

// listed are the ids of the items in one of the sections at the head of
// CONTRACT.md, with ranges written out.
func listed(t *testing.T, contract, section string) map[string]bool {
	t.Helper()
	_, rest, ok := strings.Cut(contract, "\n## "+section+"\n")
	if !ok {
		t.Fatalf("CONTRACT.md has no section %q", section)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	ids := map[string]bool{}
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "- ") {
			continue
		}
		names, reason, _ := strings.Cut(line, ": ")
		if strings.TrimSpace(reason) == "" {
			t.Errorf("CONTRACT.md, %s: no reason in %q", section, line)
		}
		for _, r := range contractRange.FindAllStringSubmatch(names, -1) {
			for n := r[2]; n <= r[3]; n = next(n) {
				ids[r[1]+"-"+n] = true
			}
		}
		for _, id := range contractID.FindAllString(names, -1) {
			ids[id] = true
		}
	}
	return ids
}

// next is the number after a number of two digits.
func next(n string) string {
	if n[1] == '9' {
		return string([]byte{n[0] + 1, '0'})
	}
	return string([]byte{n[0], n[1] + 1})
}

// covered are the ids that something is tested for: those of the rows, and
// those that stand in the tests of the library: in a test's name, in the
// comment above it, or in a string. Other comments do not count.
func covered(t *testing.T) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	add := func(text string) {
		for _, id := range contractID.FindAllString(text, -1) {
			ids[id] = true
		}
	}
	for _, row := range Rows() {
		add(row.ID)
	}
	tests, err := filepath.Glob("../../*_test.go")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	handshakes, err := filepath.Glob("handshake*.go")
	if err != nil || len(handshakes) == 0 {
		t.Fatalf("no handshake rows: %v", err)
	}
	for _, name := range slices.Concat(tests, handshakes) {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for n := range ast.Preorder(file) {
			switch n := n.(type) {
			case *ast.BasicLit:
				if n.Kind == token.STRING {
					add(n.Value)
				}
			case *ast.FuncDecl:
				if strings.HasPrefix(n.Name.Name, "Test") || strings.HasPrefix(n.Name.Name, "Fuzz") {
					add(n.Doc.Text())
				}
				for _, id := range nameID.FindAllString(testName.FindString(n.Name.Name), -1) {
					add(id[:1] + "-" + id[1:])
				}
			}
		}
	}
	return ids
}

// Every statement of the contract has a row or a test, or stands in one of
// the two lists at its head, with the reason.
func TestContract(t *testing.T) {
	file, err := os.ReadFile("CONTRACT.md")
	if err != nil {
		t.Fatal(err)
	}
	contract := string(file)
	items := map[string]bool{}
	for _, m := range contractItem.FindAllStringSubmatch(contract, -1) {
		if items[m[1]] {
			t.Errorf("%s stands twice in CONTRACT.md", m[1])
		}
		items[m[1]] = true
	}
	if len(items) < 250 {
		t.Fatalf("only %d statements in CONTRACT.md", len(items))
	}
	tested := covered(t)
	notYet, without := listed(t, contract, "Not yet"), listed(t, contract, "Without a test of their own")
	for _, id := range slices.Sorted(maps.Keys(items)) {
		switch {
		case !tested[id] && !notYet[id] && !without[id]:
			t.Errorf("%s has no row, no test and no reason for that", id)
		case tested[id] && notYet[id]:
			t.Errorf("%s is tested, but CONTRACT.md says that it does not apply yet", id)
		}
	}
	for _, ids := range []map[string]bool{tested, notYet, without} {
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			if !items[id] {
				t.Errorf("%s is no statement of CONTRACT.md", id)
			}
		}
	}
}
