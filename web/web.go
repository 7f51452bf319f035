// Package web holds the pages for people, with their script and style, all of
// them in the program.
//
// A page loads nothing from anywhere but the gateway that serves it, and has
// nothing in line, so that a strict Content-Security-Policy can stand. The
// package does not know routes, credentials or what is on a page: whoever serves
// it fills it in.
package web

import (
	"embed"
	"fmt"
	"html/template"
	"path"
)

//go:embed *.html *.js *.css
var files embed.FS

// Pages are the templates of the pages, named as their files.
func Pages() (*template.Template, error) {
	t, err := template.ParseFS(files, "*.html")
	if err != nil {
		return nil, fmt.Errorf("parse the pages: %w", err)
	}
	return t, nil
}

// File is a script or a style that a page loads, by its name.
func File(name string) (content []byte, mediaType string, ok bool) {
	switch path.Ext(name) {
	case ".js":
		mediaType = "text/javascript; charset=utf-8"
	case ".css":
		mediaType = "text/css; charset=utf-8"
	default:
		return nil, "", false
	}
	content, err := files.ReadFile(name)
	return content, mediaType, err == nil
}
