package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/go-json-experiment/json"
	"golang.org/x/term"
)

// printResult writes a command's result: as one JSON object on one line with
// --json, else as the text that the function writes.
func (a *app) printResult(result any, text func(io.Writer) error) error {
	if !a.json {
		return text(a.stdout)
	}
	line, err := json.Marshal(result, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	_, err = a.stdout.Write(append(line, '\n'))
	return err
}

// terminal returns the file behind w when it is a terminal, else nil.
func terminal(w io.Writer) *os.File {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// color reports whether standard error takes colours: it is a terminal that
// is not dumb, and NO_COLOR (https://no-color.org) is unset or empty.
func (a *app) color() bool {
	if no, _ := a.lookupEnv("NO_COLOR"); no != "" {
		return false
	}
	if kind, _ := a.lookupEnv("TERM"); kind == "dumb" {
		return false
	}
	return terminal(a.stderr) != nil
}
