// Package archtest holds the rules of the program's shape: which package may
// import what, how long functions and files may be, what must be documented,
// and which versions of modules are the oldest safe ones. It parses the sources
// itself, so that no build tag, build cache or list of packages hides a file.
// It does not know what the packages do.
package archtest

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const (
	maxFunctionLines = 80
	maxFileLines     = 500
)

// Check parses every Go file of the module whose root folder is fsys and
// returns what breaks the rules, one line each, sorted. Modules nested in it,
// testdata and hidden folders are left out.
func Check(fsys fs.FS, module string) ([]string, error) {
	c := &checker{module: module, documented: map[string]bool{}, packages: map[string]string{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(fsys, p, d)
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if errors.Is(err, fs.ErrNotExist) { // an editor's file that went away
			return nil
		}
		if err != nil {
			return err
		}
		return c.file(p, src)
	})
	if err != nil {
		return nil, fmt.Errorf("check the sources: %w", err)
	}
	for dir, name := range c.packages {
		if !c.documented[dir] {
			c.fault(dir, "package %s has no package comment", name)
		}
	}
	slices.Sort(c.faults)
	return c.faults, nil
}

func skip(fsys fs.FS, p string, d fs.DirEntry) error {
	if p == "." {
		return nil
	}
	if d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") {
		return fs.SkipDir
	}
	if _, err := fs.Stat(fsys, path.Join(p, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

type checker struct {
	module     string
	faults     []string
	packages   map[string]string // folder: package name
	documented map[string]bool   // folder: has a package comment
}

func (c *checker) fault(where, format string, args ...any) {
	c.faults = append(c.faults, where+": "+fmt.Sprintf(format, args...))
}

func (c *checker) file(p string, src []byte) error {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ast.IsGenerated(f) {
		return nil
	}
	dir, name := path.Dir(p), f.Name.Name
	test := strings.HasSuffix(p, "_test.go")
	if slices.Contains(bannedNames(), strings.TrimSuffix(name, "_test")) {
		c.fault(p, "package %s: name a package for what it knows", name)
	}
	if n := lines(src); n > maxFileLines {
		c.fault(p, "%d lines, more than %d", n, maxFileLines)
	}
	c.functions(set, f)
	if test {
		return nil
	}
	c.packages[dir] = name
	c.documented[dir] = c.documented[dir] || f.Doc.Text() != ""
	c.imports(p, dir, f)
	c.docs(set, f)
	return nil
}

func lines(src []byte) int {
	n := strings.Count(string(src), "\n")
	if len(src) > 0 && src[len(src)-1] != '\n' {
		n++
	}
	return n
}

// functions checks the length of functions, and that none is called init.
func (c *checker) functions(set *token.FileSet, f *ast.File) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		at := set.Position(fn.Pos())
		if n := set.Position(fn.End()).Line - at.Line + 1; n > maxFunctionLines {
			c.fault(place(at), "function %s has %d lines, more than %d", fn.Name.Name, n, maxFunctionLines)
		}
		if fn.Recv == nil && fn.Name.Name == "init" {
			c.fault(place(at), "no init functions: wire things where they can be seen")
		}
	}
}

func place(p token.Position) string { return fmt.Sprintf("%s:%d", p.Filename, p.Line) }

// imports checks what a file of a package in dir imports.
func (c *checker) imports(p, dir string, f *ast.File) {
	from, known := roof(dir)
	if !known {
		c.fault(p, "there is no import rule for this folder: add one to internal/archtest, true to the design")
		return
	}
	for _, spec := range f.Imports {
		target := strings.Trim(spec.Path.Value, "\"`")
		if rest, ours := strings.CutPrefix(target+"/", c.module+"/"); ours {
			to, _ := roof(strings.TrimSuffix("./"+rest, "/"))
			if to != from && !allowed(from, to) {
				c.fault(p, "%s may not import %s", from, target)
			}
			continue
		}
		for _, r := range outside() {
			if under(target, r.prefix) && !slices.Contains(r.only, from) {
				c.fault(p, "%s may not import %s: it belongs to %s", from, target, strings.Join(r.only, ", "))
			}
		}
	}
}

// under reports whether an import path is prefix or lies below it. A prefix
// that ends in a slash is for what lies below it.
func under(target, prefix string) bool {
	return target == prefix || strings.HasPrefix(target, strings.TrimSuffix(prefix, "/")+"/")
}

// docs checks that exported names have a comment that begins with the name.
func (c *checker) docs(set *token.FileSet, f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && exportedReceiver(d) {
				c.named(set.Position(d.Pos()), d.Name.Name, d.Doc.Text())
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				c.spec(set, d, spec)
			}
		}
	}
}

func (c *checker) spec(set *token.FileSet, d *ast.GenDecl, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			c.named(set.Position(s.Pos()), s.Name.Name, s.Doc.Text()+d.Doc.Text())
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			// In a group one comment over it, or one behind each, does.
			if name.IsExported() && s.Doc.Text()+s.Comment.Text()+d.Doc.Text() == "" {
				c.fault(place(set.Position(name.Pos())), "%s is exported and has no comment", name.Name)
			}
		}
	}
}

func (c *checker) named(at token.Position, name, doc string) {
	words := strings.Fields(doc)
	if len(words) > 1 && slices.Contains([]string{"A", "An", "The"}, words[0]) {
		words = words[1:]
	}
	if len(words) == 0 || strings.TrimRight(words[0], ",.:;") != name {
		c.fault(place(at), "%s is exported: its comment must begin with its name", name)
	}
}

// exportedReceiver reports whether a function is no method, or one of an
// exported type.
func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return true
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}
