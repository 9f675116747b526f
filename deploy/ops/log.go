package ops

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// NewLogger makes the process's logger: text for a terminal, json for a machine. Its level can be changed while it is
// used. The errors finish a sentence that begins with what was set.
func NewLogger(out io.Writer, format string, level slog.Level) (*slog.Logger, *slog.LevelVar, error) {
	at := new(slog.LevelVar)
	at.Set(level)
	options := &slog.HandlerOptions{Level: at}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(out, options)), at, nil
	case "text":
		return slog.New(slog.NewTextHandler(out, options)), at, nil
	}
	return nil, nil, fmt.Errorf("must be text or json, is %q", format)
}

// ParseLevel reads the name of a level.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("must be debug, info, warn or error, is %q", name)
}
